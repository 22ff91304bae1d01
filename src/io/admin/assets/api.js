// What the page asks the gateway: JSON, and the stream of events. The token is kept for this tab alone.

export class Unauthorized extends Error {}

export const token = {
  get: () => sessionStorage.getItem('token'),
  set: (text) => sessionStorage.setItem('token', text),
};

async function ask(path, options = {}) {
  const headers = token.get() ? { authorization: `Bearer ${token.get()}` } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) throw new Unauthorized();
  return answer;
}

export async function json(path, options) {
  const answer = await ask(path, options);
  if (answer.status === 204 || answer.status === 202) return null;
  const body = await answer.json().catch(() => null);
  // A readiness that is not well is an answer too.
  if (answer.ok || path === '/readyz') return body;
  throw new Error(body?.detail ?? `the gateway answered ${answer.status}`);
}

export function query(path, fields) {
  const given = Object.entries(fields).filter(([, value]) => value);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

// Follows the events until `signal` ends it; comes back by itself when the gateway was away.
// EventSource cannot show a token, hence by hand.
export async function follow(signal, onEvent, onState) {
  while (!signal.aborted) {
    try {
      const answer = await ask('/api/events', { signal });
      if (!answer.ok) throw new Error(`events: ${answer.status}`);
      onState(true);
      await read(answer.body.pipeThrough(new TextDecoderStream()).getReader(), onEvent);
    } catch (error) {
      if (signal.aborted || error instanceof Unauthorized) return;
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

async function read(reader, onEvent) {
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf('\n\n')) >= 0) {
      const lines = text.slice(0, end).split('\n');
      text = text.slice(end + 2);
      const name = lines.find((line) => line.startsWith('event: '))?.slice(7);
      const data = lines.find((line) => line.startsWith('data: '))?.slice(6);
      if (name && data) onEvent(name, JSON.parse(data));
    }
  }
}
