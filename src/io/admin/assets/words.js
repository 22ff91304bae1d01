// Times and outcomes in words.

export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

export const moment = (ms) => {
  const then = new Date(ms);
  const isToday = then.toDateString() === new Date().toDateString();
  return isToday ? clock(ms) : `${then.toLocaleDateString()} ${clock(ms)}`;
};

export const lasting = (ms) => {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
};

export const OUTCOMES = {
  'under-way': ['under way', 'cool'],
  answered: ['answered', 'good'],
  'answered-elsewhere': ['answered elsewhere', 'good'],
  cancelled: ['caller hung up', 'warn'],
  declined: ['declined', 'warn'],
  unanswered: ['not answered', 'warn'],
  unreachable: ['unreachable', 'bad'],
  refused: ['refused', 'bad'],
};

// A user without its domain: what an operator calls an agent.
export const short = (uri) => uri.replace(/^sips?:/, '').split(/[@;]/)[0] || uri;

export const sum = (list) => list.reduce((total, { count }) => total + count, 0);

export const many = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;
