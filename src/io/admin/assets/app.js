// The page: what is so now, the calls, one call, the devices, one device. Addresses behind # name the view.
import { html, render, useEffect, useReducer, useRef, useState } from './vendor/preact.mjs';
import { Unauthorized, follow, json, query, token } from './api.js';
import { Bars, Lines } from './charts.js';
import { Ladder } from './ladder.js';
import { OUTCOMES, clock, lasting, many, moment, short, sum } from './words.js';

const EVERY = 2000;
const LONGEST = 900; // seconds: a quarter of an hour

/* ------------------------------------------------------------------ what is known */

// Samples of the counters, from which rates are made: [seconds, calls, wakes, pushes, awake, asleep].
const history = [[], [], [], [], [], []];
// The counters that the next rates are reckoned from: rates of a few seconds would only be noise.
const STEP = 15;
const marks = [];
let last = null;

function add({ at_ms, calls, wakes, pushes, devices_awake, devices_asleep }) {
  const seconds = at_ms / 1000;
  const counters = [calls, wakes, pushes];
  const newest = marks[marks.length - 1];
  if (newest && seconds <= newest.seconds) return;
  while (marks.length > 1 && marks[1].seconds <= seconds - STEP) marks.shift();
  const [from] = marks;
  if (from) {
    const rates = counters.map((count, at) => (60 * Math.max(0, count - from.counters[at])) / (seconds - from.seconds));
    [seconds, ...rates, devices_awake, devices_asleep].forEach((value, at) => history[at].push(value));
    while (history[0][0] < seconds - LONGEST) history.forEach((values) => values.shift());
  }
  marks.push({ seconds, counters });
}

const sample = (summary) => add({ at_ms: summary.now_ms, calls: summary.calls, wakes: sum(summary.wakes),
  pushes: sum(summary.pushes), devices_awake: summary.devices_awake, devices_asleep: summary.devices_asleep });

// What was before the page was opened.
let isTold = false;
async function recall() {
  if (isTold) return;
  isTold = true;
  const { samples } = await json('/api/history');
  samples.forEach(add);
}

// Below which time so much of the wakes stayed, from the histogram.
function quantile(wakes, part) {
  const wanted = wakes.count * part;
  let [low, under] = [0, 0];
  for (const { seconds, count } of wakes.buckets) {
    if (count >= wanted) {
      if (seconds == null) return low;
      return count === under ? seconds : low + ((seconds - low) * (wanted - under)) / (count - under);
    }
    [low, under] = [seconds ?? low, count];
  }
  return low;
}

// Loads again when the path changes, every `every` ms, and when `again` changes.
function useJson(path, every, again) {
  const [state, set] = useState({ path: null, body: null, error: null });
  useEffect(() => {
    if (!path) return undefined;
    let isGone = false;
    const load = () => json(path).then(
      (body) => isGone || set({ path, body, error: null }),
      (error) => isGone || set((old) => ({ ...old, error })),
    );
    load();
    const timer = every && setInterval(load, every);
    return () => { isGone = true; clearInterval(timer); };
  }, [path, every, again]);
  return state.path === path ? state : { body: null, error: state.error };
}

function useRoute() {
  const [route, set] = useState(location.hash.slice(1) || '/');
  useEffect(() => {
    const changed = () => set(location.hash.slice(1) || '/');
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  const [path, fields] = route.split('?');
  return { path, fields: new URLSearchParams(fields) };
}

/* ------------------------------------------------------------------ small pieces */

const Outcome = ({ of }) => html`<span class="tag ${OUTCOMES[of]?.[1] ?? ''}">${OUTCOMES[of]?.[0] ?? of}</span>`;

const Trouble = ({ error }) => error && html`<p class="notice bad" role="alert">${
  error instanceof TypeError ? 'The gateway does not answer. The page asks again by itself.' : error.message}</p>`;

const Tile = ({ name, value, small, tone }) => html`<div><dt>${name}</dt><dd class=${tone ?? ''}>${value}</dd>
  ${small && html`<small>${small}</small>`}</div>`;

const talk = (call) => (call.lasted_ms != null ? lasting(call.lasted_ms) : call.outcome === 'answered' ? 'goes on' : '');

function Calls({ calls, none }) {
  if (!calls.length) return html`<p class="faint">${none}</p>`;
  return html`<div class="scroll"><table class="stack">
    <thead><tr><th>When</th><th>Agent</th><th class="narrow-off">Caller</th><th>Outcome</th><th>What happened</th>
      <th class="narrow-off">Wake</th><th class="narrow-off">Talk</th></tr></thead>
    <tbody>${calls.map((call) => html`<tr key=${call.id}>
      <td><a href="#/call/${call.id}">${moment(call.began_ms)}</a></td>
      <td title=${call.agent}>${short(call.agent)}</td><td class="narrow-off" title=${call.caller}>${short(call.caller)}</td>
      <td><${Outcome} of=${call.outcome} /></td><td class="wrap">${call.summary}</td>
      <td class="narrow-off short">${call.wake_ms == null ? '' : lasting(call.wake_ms)}</td>
      <td class="narrow-off short">${talk(call)}</td></tr>`)}
    </tbody></table></div>`;
}

const state = (device) => (device.state === 'awake' ? ['awake', 'good'] : device.push ? ['asleep', 'cool'] : ['asleep, no push', 'bad']);

// Verdicts on a push that are no trouble.
const WELL = ['accepted', 'withdrawn'];
const byAgent = (a, b) => a.agent.localeCompare(b.agent, undefined, { numeric: true }) || a.id.localeCompare(b.id);

function Devices({ devices, none }) {
  if (!devices.length) return html`<p class="faint">${none}</p>`;
  return html`<div class="scroll"><table>
    <thead><tr><th>Agent</th><th>State</th><th>Connection</th><th class="narrow-off">Registered</th>
      <th>Expires</th><th>Push</th><th class="narrow-off">Last push</th></tr></thead>
    <tbody>${[...devices].sort(byAgent).map((device) => html`<tr key=${device.id}>
      <td><a href="#/device/${device.id}">${short(device.agent)}</a></td>
      <td><span class="tag ${state(device)[1]}">${state(device)[0]}</span></td>
      <td>${device.transport}</td><td class="narrow-off">${moment(device.registered_ms)}</td>
      <td>${moment(device.expires_ms)}</td><td>${device.push ? device.push.provider : '—'}</td>
      <td class="narrow-off ${device.last_push && !WELL.includes(device.last_push.verdict) ? 'bad' : ''}">${device.last_push ? `${device.last_push.verdict}, ${moment(device.last_push.at_ms)}` : ''}</td></tr>`)}
    </tbody></table></div>`;
}

/* ------------------------------------------------------------------ views */

function Overview({ summary, recent }) {
  if (!summary) return html`<p class="faint">…</p>`;
  const woken = summary.wakes.find(({ outcome }) => outcome === 'woken');
  const failed = summary.wakes.find(({ outcome }) => outcome === 'timeout')?.count ?? 0;
  const wakes = sum(summary.wakes);
  const taken = summary.answers.find(({ label }) => label === '2xx')?.count ?? 0;
  const verdicts = [...summary.pushes].sort((a, b) => b.count - a.count);
  let under = 0;
  const spread = (woken?.buckets ?? []).map(({ seconds, count }) => {
    const bar = { label: seconds == null ? 'longer' : `≤ ${seconds} s`, count: count - under, tone: 'cool' };
    under = count;
    return bar;
  }).filter(({ count }) => count);
  if (failed) spread.push({ label: 'did not wake', count: failed, tone: 'bad' });
  // A caller who hangs up is none.
  const refused = summary.rejects.filter(({ label }) => label !== 'cancelled');
  const lines = (from, to) => [history[0], ...history.slice(from, to)].map((values) => [...values]);
  return html`
    <dl class="tiles">
      <${Tile} name="Calls" value=${summary.calls} small=${`${taken} answered`} />
      <${Tile} name="Phones woken" value=${wakes ? `${Math.round((100 * (woken?.count ?? 0)) / wakes)} %` : '—'}
        small=${`${wakes} had to be woken`} tone=${wakes && failed > wakes / 2 ? 'bad' : ''} />
      <${Tile} name="Wake, median" value=${woken?.count ? lasting(1000 * quantile(woken, 0.5)) : '—'}
        small=${woken?.count ? `99 % within ${lasting(1000 * quantile(woken, 0.99))}` : ''} />
      <${Tile} name="Devices awake" value=${summary.devices_awake} small=${many(sum(summary.connections), 'connection')} />
      <${Tile} name="Devices asleep" value=${summary.devices_asleep} />
      <${Tile} name="Refused" value=${sum(refused)} small=${`${many(sum(summary.dropped), 'message')} dropped`} />
    </dl>
    <div class="charts">
      <${Lines} title="In a minute" data=${lines(1, 4)} told="Calls, wakes and pushes in a minute over the last quarter of an hour"
        series=${[{ label: 'calls', tone: 'good' }, { label: 'wakes', tone: 'cool' }, { label: 'pushes', tone: 'warn' }]} />
      <${Lines} title="Devices" data=${lines(4, 6)} told="Devices awake and asleep over the last quarter of an hour"
        series=${[{ label: 'awake', tone: 'good' }, { label: 'asleep', tone: 'cool' }]} />
      <${Bars} title="How long phones took to wake" rows=${spread} none="No phone had to be woken yet." />
      <${Bars} title="What push services said" none="Nothing was pushed yet." rows=${verdicts.map(({ provider, notice, verdict, count }) =>
        ({ label: `${provider}: ${notice}, ${verdict}`, count, tone: verdict === 'accepted' ? '' : verdict === 'withdrawn' ? 'cool' : 'bad' }))} />
      ${refused.length > 0 && html`<${Bars} title="Refused, by reason" none="" rows=${refused.map((row) => ({ ...row, tone: 'warn' }))} />`}
    </div>
    <section class="card"><div class="row"><h2>Last calls</h2><a href="#/calls">all of them</a></div>
      <${Calls} calls=${recent} none="No calls yet: the first one appears here by itself." /></section>`;
}

function CallList({ fields, pulse }) {
  const asked = { agent: fields.get('agent'), number: fields.get('number'), outcome: fields.get('outcome') };
  const [before, setBefore] = useState('');
  useEffect(() => setBefore(''), [fields.toString()]);
  const { body, error } = useJson(query('/api/calls', { ...asked, before, limit: 100 }), 0, before ? 0 : pulse);
  const choose = (event) => { location.hash = query('/calls', { ...asked, outcome: event.target.value }); };
  return html`<section class="card"><div class="row"><h2>Calls</h2>
      <label>Outcome <select onChange=${choose} value=${asked.outcome ?? ''}><option value="">any</option>
        ${Object.entries(OUTCOMES).map(([key, [name]]) => html`<option value=${key}>${name}</option>`)}</select></label>
      ${(asked.number || asked.agent) && html`<span>with “${asked.number ?? asked.agent}”: <a href="#/calls">all calls</a>, <a
        href="#${query('/devices', { agent: asked.number ?? asked.agent })}">devices of that name</a></span>`}</div>
    <${Trouble} error=${error} />
    ${body && html`<${Calls} calls=${body.calls} none="No call like that is remembered." />`}
    <div class="row">${before && html`<button onClick=${() => setBefore('')}>Latest</button>`}
      ${body?.next && html`<button onClick=${() => setBefore(body.next)}>Earlier calls</button>`}</div></section>`;
}

function Call({ id, pulse }) {
  const { body: call, error } = useJson(`/api/calls/${id}`, 0, pulse);
  if (!call) return html`<${Trouble} error=${error} />`;
  const agent = query('/devices', { agent: call.agent });
  const devices = [...new Set(call.steps.map(({ device }) => device).filter(Boolean))];
  return html`<section class="card">
      <h2>${short(call.caller)} → ${short(call.agent)}, ${moment(call.began_ms)}</h2>
      <p class="verdict"><${Outcome} of=${call.outcome} /> ${call.summary}</p>
      <div class="scroll"><${Ladder} steps=${call.steps} /></div></section>
    <section class="card"><h2>Step by step</h2>
      <ol class="steps">${call.steps.map((step) => html`<li><time>${lasting(step.at_ms)}</time><span>${step.text}</span></li>`)}</ol>
      ${call.omitted > 0 && html`<p class="faint">${call.omitted} further steps were not kept.</p>`}
      <dl class="facts"><dt>Call-ID</dt><dd>${call.call_id}</dd><dt>Caller</dt><dd><a href="#${query('/calls', { number: short(call.caller) })}">${call.caller}</a></dd>
        <dt>Agent</dt><dd><a href="#${agent}">${call.agent}</a></dd>
        <dt>Devices</dt><dd>${call.devices}, of which ${call.asleep} without an open connection
          ${devices.map((id) => html` <a href="#/device/${id}">${id.slice(17, 25)}</a>`)}</dd>
        ${call.status && html`<dt>Final answer</dt><dd>${call.status}, after ${lasting(call.after_ms)}</dd>`}
        ${talk(call) && html`<dt>Talk</dt><dd>${talk(call)}</dd>`}</dl></section>`;
}

function DeviceList({ fields, pulse }) {
  const asked = { agent: fields.get('agent'), state: fields.get('state') };
  const [after, setAfter] = useState('');
  useEffect(() => setAfter(''), [fields.toString()]);
  const { body, error } = useJson(query('/api/devices', { ...asked, after, limit: 100 }), 0, pulse);
  const choose = (event) => { location.hash = query('/devices', { ...asked, state: event.target.value }); };
  return html`<section class="card"><div class="row"><h2>Devices</h2>
      <label>State <select onChange=${choose} value=${asked.state ?? ''}><option value="">any</option>
        <option value="awake">awake</option><option value="asleep">asleep</option></select></label>
      ${asked.agent && html`<span>of “${asked.agent}”: <a href="#/devices">all devices</a>, <a
        href="#${query('/calls', { agent: asked.agent })}">their calls</a></span>`}</div>
    <${Trouble} error=${error} />
    ${body && html`<${Devices} devices=${body.devices} none="No device like that is registered." />`}
    <div class="row">${after && html`<button onClick=${() => setAfter('')}>First</button>`}
      ${body?.next && html`<button onClick=${() => setAfter(body.next)}>More</button>`}</div></section>`;
}

function Device({ id, pulse }) {
  const { body, error } = useJson(`/api/devices/${id}`, 0, pulse);
  const [told, tell] = useState(null);
  if (!body) return html`<${Trouble} error=${error} />`;
  const { device, notes } = body;
  const push = () => {
    tell('asking the push service …');
    json(`/api/push/${encodeURIComponent(device.agent)}`, { method: 'POST' }).then(
      ({ pushes }) => tell(pushes.map(({ provider, text, after_ms }) => `${provider}: ${text} (${lasting(after_ms)})`).join('; ') || 'No device of this agent can be pushed.'),
      (problem) => tell(problem.message),
    );
  };
  const remove = () => confirm('Take this device out? It is not called any more until it registers again.')
    && json(`/api/devices/${id}`, { method: 'DELETE' }).then(() => { location.hash = '/devices'; }, (problem) => tell(problem.message));
  return html`<section class="card"><h2>${device ? short(device.agent) : 'A device that has left'}</h2>
      ${device && html`<dl class="facts">
        <dt>State</dt><dd><span class="tag ${state(device)[1]}">${state(device)[0]}</span></dd>
        <dt>Agent</dt><dd>${device.agent} (<a href="#${query('/calls', { agent: device.agent })}">calls</a>, <a
          href="#${query('/devices', { agent: device.agent })}">devices</a>)</dd>
        <dt>Upstream</dt><dd>${device.upstream}</dd>
        <dt>Connection</dt><dd>${device.transport}, from ${device.address}</dd>
        <dt>Registered</dt><dd>${moment(device.registered_ms)}</dd><dt>Expires</dt><dd>${moment(device.expires_ms)}</dd>
        <dt>Push</dt><dd>${device.push ? `${device.push.provider}, ${device.push.app}, token ${device.push.token}` : 'none: it cannot be woken'}</dd>
        <dt>Last push</dt><dd>${device.last_push ? `${device.last_push.notice}, ${moment(device.last_push.at_ms)}: ${device.last_push.text}` : 'none remembered'}</dd>
        ${device.instance && html`<dt>Instance</dt><dd>${device.instance}</dd>`}</dl>
        <p class="row"><button onClick=${push}>Test push</button><button onClick=${remove}>Take out</button>
          <span role="status">${told}</span></p>`}</section>
    <section class="card"><h2>What it did lately</h2>
      ${notes.length ? html`<ol class="steps">${[...notes].reverse().map((note) => html`<li><time>${moment(note.at_ms)}</time><span>${note.text}</span></li>`)}</ol>`
        : html`<p class="faint">Nothing is remembered.</p>`}</section>`;
}

function Ask({ onToken, isWrong }) {
  const submit = (event) => {
    event.preventDefault();
    token.set(new FormData(event.target).get('token').trim());
    onToken();
  };
  return html`<main><section class="card"><h2>Token</h2>
    <p>This gateway wants the content of the file that <code>[admin] token_file</code> names. It is kept for this tab alone.</p>
    ${isWrong && html`<p class="notice bad" role="alert">That is not the token.</p>`}
    <form onSubmit=${submit}><p><label>Token <input type="password" name="token" autocomplete="current-password" required autofocus /></label></p>
      <button>Go on</button></form></section></main>`;
}

/* ------------------------------------------------------------------ the whole */

function theme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = isDark ? 'light' : 'dark';
  localStorage.setItem('theme', root.dataset.theme);
}

const TABS = [['/', 'Now', (path) => path === '/'], ['/calls', 'Calls', (path) => path.startsWith('/call')],
  ['/devices', 'Devices', (path) => path.startsWith('/device')]];

function Page({ onLocked }) {
  const { path, fields } = useRoute();
  const search = useRef();
  const [pulse, beat] = useReducer((count) => count + 1, 0);
  const [isLive, setLive] = useState(true);
  const summary = useJson('/api/summary', EVERY);
  const ready = useJson('/readyz', 5 * EVERY);
  const recent = useJson('/api/calls?limit=15', 0, pulse);
  const [isRecalled, setRecalled] = useState(isTold);
  useEffect(() => { recall().catch(() => { isTold = false; }).then(() => setRecalled(true)); }, []);
  if (isRecalled && summary.body && summary.body !== last) { sample(summary.body); last = summary.body; }
  useEffect(() => { if (summary.error instanceof Unauthorized) onLocked(); }, [summary.error]);
  useEffect(() => {
    const end = new AbortController();
    let timer = 0;
    // A busy gateway tells more than anybody reads: look again at most twice a second.
    const soon = () => { timer ||= setTimeout(() => { timer = 0; beat(); }, 500); };
    follow(end.signal, soon, (live) => { setLive(live); beat(); });
    return () => { end.abort(); clearTimeout(timer); };
  }, []);
  useEffect(() => {
    const key = (event) => {
      const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.key === '/' && !isTyping) { event.preventDefault(); search.current.focus(); }
      if (event.key === 'Escape' && isTyping) event.target.blur();
    };
    addEventListener('keydown', key);
    return () => removeEventListener('keydown', key);
  }, []);
  const find = (event) => {
    event.preventDefault();
    const wanted = search.current.value.trim();
    location.hash = path.startsWith('/device') ? query('/devices', { agent: wanted }) : query('/calls', { number: wanted });
  };
  const [, view, id] = path.split('/');
  const wrong = ready.body && !ready.body.ready ? ready.body.checks.filter(({ ok }) => !ok) : [];
  const body = summary.body;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById('main').focus(); }}>To the content</a>
    <header><h1><img src="icon.svg" alt="" />Rouse</h1>
      <nav aria-label="Views">${TABS.map(([to, name, is]) => html`<a href="#${to}" aria-current=${is(path) ? 'page' : undefined}>${name}</a>`)}</nav>
      <form role="search" onSubmit=${find}><input ref=${search} type="search" aria-label="Search by agent or number"
        placeholder="Agent or number  ( / )" /></form>
      <span class="tag ${isLive && !summary.error ? 'good' : 'bad'}" role="status">${isLive && !summary.error ? 'live' : 'not connected'}</span>
      <button onClick=${theme} aria-label="Light or dark">◐</button></header>
    <main id="main" tabindex="-1">
      <${Trouble} error=${summary.error} />
      ${body?.draining && html`<p class="notice">The gateway is about to stop: new calls are refused, calls under way go on.</p>`}
      ${wrong.length > 0 && html`<p class="notice bad" role="alert">Not ready: ${wrong.map(({ name, text }) => `${name}: ${text}`).join('; ')}</p>`}
      ${view === 'calls' ? html`<${CallList} fields=${fields} pulse=${pulse} />`
        : view === 'call' ? html`<${Call} id=${id} pulse=${pulse} />`
        : view === 'devices' ? html`<${DeviceList} fields=${fields} pulse=${pulse} />`
        : view === 'device' ? html`<${Device} id=${id} pulse=${pulse} />`
        : html`<${Overview} summary=${body} recent=${recent.body?.calls ?? []} />`}
      ${body && html`<p class="faint">Rouse ${body.version}, up ${lasting(body.now_ms - body.started_ms)}, ${many(body.shards, 'shard')}, ${clock(body.now_ms)} there. ${' '}<a
        href="api/openapi.json">API</a></p>`}
    </main>`;
}

function App() {
  const [lock, set] = useState({ isOpen: true, tries: 0 });
  return lock.isOpen
    ? html`<${Page} key=${lock.tries} onLocked=${() => set(({ tries }) => ({ isOpen: false, tries }))} />`
    : html`<${Ask} isWrong=${lock.tries > 0} onToken=${() => set(({ tries }) => ({ isOpen: true, tries: tries + 1 }))} />`;
}

render(html`<${App} />`, document.body);
