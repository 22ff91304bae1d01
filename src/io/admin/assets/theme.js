// Before anything is painted: the colours that were chosen last time, if not the system's.
const chosen = localStorage.getItem('theme');
if (chosen) document.documentElement.dataset.theme = chosen;
