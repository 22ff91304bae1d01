// Lines over time (uPlot), and bars.
import { html, useEffect, useRef } from './vendor/preact.mjs';
import { clock } from './words.js';

const HEIGHT = 165;
// Seconds of the time axis at least.
const SHORTEST = 120;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function options(series, width) {
  const axis = { stroke: () => colour('faint'), grid: { stroke: () => colour('line'), width: 1 }, ticks: { show: false } };
  return {
    width, height: HEIGHT,
    legend: { live: false },
    cursor: { y: false },
    scales: { x: { range: (plot, low, high) => [Math.min(low, high - SHORTEST), high] }, y: { range: (plot, low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [{ ...axis, values: (plot, ticks) => ticks.map((seconds) => clock(1000 * seconds)) }, { ...axis, size: 50 }],
    series: [{}, ...series.map(({ label, tone }) =>
      ({ label, stroke: () => colour(tone), width: 2, spanGaps: false, points: { show: false } }))],
  };
}

// `data`: [seconds, …values] as uPlot has it.
export function Lines({ title, series, data, told }) {
  const box = useRef();
  const plot = useRef();
  useEffect(() => {
    plot.current = new uPlot(options(series, box.current.clientWidth), data, box.current);
    const watch = new ResizeObserver(([entry]) =>
      plot.current.setSize({ width: entry.contentRect.width, height: HEIGHT }));
    watch.observe(box.current);
    return () => { watch.disconnect(); plot.current.destroy(); };
  }, []);
  useEffect(() => plot.current.setData(data), [data]);
  return html`<section class="card"><h2>${title}</h2>
    <div ref=${box} role="img" aria-label=${told}></div></section>`;
}

export function Bars({ title, rows, none }) {
  const most = Math.max(1, ...rows.map(({ count }) => count));
  return html`<section class="card"><h2>${title}</h2>
    ${rows.length ? html`<div class="bars">${rows.map(({ label, count, tone }) => html`
      <span>${label}</span><i class=${tone ?? ''} style=${{ width: `${(100 * count) / most}%` }}></i><b>${count}</b>`)}
    </div>` : html`<p class="faint">${none}</p>`}</section>`;
}
