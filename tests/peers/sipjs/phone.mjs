// SIP.js as a telephone: commands on standard input, one a line (register, answer, hang_up, dial URI,
// vanish, return); events on standard output (registered, offline, ringing, talking, over, failed WHY).
//
// Its account is the first argument, as JSON. There is no sound: each description is the same text.

import { createInterface } from 'node:readline';
import { Inviter, Registerer, SessionState, UserAgent } from 'sip.js';
import WebSocket from 'ws';

const account = JSON.parse(process.argv[2]);

// What a browser brings. The certificate is for localhost; the account names an address.
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, account.ca ? { ca: account.ca, servername: 'localhost' } : {});
    this.on('error', (error) => process.stderr.write(`${error}\n`));
  }
};

const description = [
  'v=0',
  'o=- 1 1 IN IP4 127.0.0.1',
  's=-',
  'c=IN IP4 127.0.0.1',
  't=0 0',
  'm=audio 45000 RTP/AVP 0',
  'a=rtpmap:0 PCMU/8000',
  '',
].join('\r\n');

// Takes every offer and answers with the one description.
class Silence {
  close() {}
  getDescription() {
    return Promise.resolve({ body: description, contentType: 'application/sdp' });
  }
  hasDescription(contentType) {
    return contentType === 'application/sdp';
  }
  rollbackDescription() {
    return Promise.resolve();
  }
  setDescription() {
    return Promise.resolve();
  }
  sendDtmf() {
    return false;
  }
}

const say = (event) => process.stdout.write(`${event}\n`);
const fail = (error) => say(`failed ${error}`);

let session;

function follow(next) {
  session = next;
  next.stateChange.addListener((state) => {
    if (state === SessionState.Established) say('talking');
    if (state === SessionState.Terminated) say('over');
  });
}

const agent = new UserAgent({
  uri: UserAgent.makeURI(`sip:${account.user}@${account.domain}`),
  authorizationUsername: account.user,
  authorizationPassword: account.password,
  contactName: account.user,
  contactParams: { transport: 'ws', ...account.push },
  viaHost: 'rouse-peer.invalid',
  transportOptions: { server: account.server },
  sessionDescriptionHandlerFactory: () => new Silence(),
  // Standard output is for events.
  logBuiltinEnabled: false,
  logConnector: (level, category, label, content) =>
    process.stderr.write(`${new Date().toISOString()} ${level} ${category} ${content}\n`),
  delegate: {
    onDisconnect() {
      say('offline');
    },
    onInvite(invitation) {
      follow(invitation);
      say('ringing');
      // Rejected when the caller gave up meanwhile.
      invitation.progress().catch(fail);
    },
  },
});
const registerer = new Registerer(agent, {
  expires: 120,
  instanceId: account.instance,
  regId: 1,
});
const register = () =>
  registerer.register({ requestDelegate: { onAccept: () => say('registered') } });

const commands = {
  register,
  answer: () => session.accept(),
  hang_up: () => session.bye(),
  dial(uri) {
    const inviter = new Inviter(agent, UserAgent.makeURI(uri));
    follow(inviter);
    return inviter.invite();
  },
  // The network goes: nobody is told, calls stay.
  vanish: () => agent.transport.disconnect(),
  // Another network is there: another socket.
  return: () => agent.transport.connect().then(register),
};

createInterface({ input: process.stdin }).on('line', (line) => {
  const [command, argument] = line.split(' ');
  Promise.resolve()
    .then(() => commands[command](argument))
    .catch(fail);
});

agent
  .start()
  .then(register)
  .catch(fail);
