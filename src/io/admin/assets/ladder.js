// A call as a picture: who takes part stands in columns, time runs down, each step is an arrow or,
// where it is nobody else's affair, a note.
import { html } from './vendor/preact.mjs';
import { lasting } from './words.js';

const LEFT = 64;
const ROW = 34;
const TOP = 46;
// As wide as the screen is, but for its margins; no column is narrower than its words.
const WIDEST = 900;
const MARGINS = 56;
const NARROWEST = 92;
// A wait longer than this is said in words between two steps.
const LONG = 1000;

const BAD = /^(push-failed|wake-timeout|device-failed|refused|cancelled|came-late)$/;
const GOOD = /^(woken|push-accepted)$/;

const isStatus = (step) => step.kind === 'answered' || step.kind === 'device-answered';

function tone(step) {
  const status = isStatus(step) ? parseInt(step.label, 10) : NaN;
  if (BAD.test(step.kind) || status >= 300) return 'no';
  return GOOD.test(step.kind) || status < 300 ? 'ok' : '';
}

function columns(steps) {
  const devices = [...new Set(steps.map((step) => step.device).filter(Boolean))];
  const hasPush = steps.some((step) => step.from === 'push' || step.to === 'push');
  const names = [['asterisk', 'Asterisk'], ['rouse', 'Rouse']];
  if (hasPush) names.push(['push', 'push service']);
  if (devices.length < 2) names.push(['device', 'device']);
  else devices.forEach((id, at) => names.push([`device ${id}`, `device ${at + 1}`]));
  const narrowest = LEFT + NARROWEST * names.length;
  const width = Math.max(narrowest, Math.min(WIDEST, innerWidth - MARGINS));
  const gap = (width - LEFT) / names.length;
  return { narrowest, width, places: names.map(([key, title], at) => ({ key, title, x: LEFT + gap * (at + 0.5) })) };
}

function arrow(step, x1, x2, y) {
  const way = x2 > x1 ? -1 : 1;
  return html`<line class="arrow" x1=${x1} y1=${y} x2=${x2 + way * 7} y2=${y} />
    <polygon class="tip" points="${x2},${y} ${x2 + way * 9},${y - 4.5} ${x2 + way * 9},${y + 4.5}" />
    <text class="label" x=${(x1 + x2) / 2} y=${y - 6} text-anchor="middle">${step.label}</text>`;
}

function note(step, x, y) {
  const width = Math.max(60, step.label.length * 6.6 + 16);
  return html`<rect class="note" x=${x - width / 2} y=${y - 15} width=${width} height="22" rx="4" />
    <text class="label" x=${x} y=${y} text-anchor="middle">${step.label}</text>`;
}

export function Ladder({ steps }) {
  const { narrowest, width, places } = columns(steps);
  const place = (party, device) =>
    places.find(({ key }) => key === party || key === `${party} ${device}`)
    ?? places.find(({ key }) => key.startsWith(party)) ?? places[1];
  let y = TOP + 8;
  let before = 0;
  const rows = steps.map((step) => {
    const waited = step.at_ms - before;
    before = step.at_ms;
    const wait = waited >= LONG ? { y: (y += ROW * 0.6), text: `… ${lasting(waited)} …` } : null;
    y += ROW;
    const [from, to] = [place(step.from, step.device), place(step.to, step.device)];
    return { step, y, wait, from, to };
  });
  const height = y + 20;
  return html`<svg class="ladder" viewBox="0 0 ${width} ${height}" role="img" style=${{ minWidth: `${narrowest}px` }}
      aria-label="The call as a ladder; the same stands as text below it">
    ${places.map(({ title, x }) => html`<line class="life" x1=${x} y1=${TOP - 10} x2=${x} y2=${height - 8} />
      <rect class="head" x=${x - 44} y="6" width="88" height="26" rx="5" />
      <text x=${x} y="24" text-anchor="middle">${title}</text>`)}
    ${rows.map(({ step, y: at, wait, from, to }) => html`<g class=${tone(step)}>
      <title>${step.text}</title>
      ${wait && html`<text class="wait" x=${places[1].x} y=${wait.y} text-anchor="middle">${wait.text}</text>`}
      <text class="time" x=${LEFT - 12} y=${at + 4} text-anchor="end">${lasting(step.at_ms)}</text>
      ${from === to ? note(step, from.x, at) : arrow(step, from.x, to.x, at)}
    </g>`)}
  </svg>`;
}
