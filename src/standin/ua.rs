//! The user agent core of the stand-ins: one socket link, its calls, and what answers by itself.
//!
//! What arrives is handled in `inbound`, client transactions are in `exchange`.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::proto::Transport;
use crate::proto::sip::{Host, Message, Uri};
use crate::standin::call::IncomingCall;
use crate::standin::dialog::Dialog;
use crate::standin::draft::label;
use crate::standin::error::PhoneError;
use crate::standin::link::{Arrived, Link, Peer};
use crate::standin::recent::Recent;
use crate::standin::timeline::Timeline;

/// RFC 3261 §17.1.1.1.
pub(crate) const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2.
pub(crate) const T2: Duration = Duration::from_secs(4);

const REMEMBERED: usize = 4096;
const EVENTS: usize = 64;

/// Who a user agent is.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Its name in the timeline.
    pub(crate) name: String,
    /// The far side's.
    pub(crate) peer_name: String,
    /// Where everything goes, if not where routes and targets say.
    pub(crate) outbound: Option<Peer>,
    /// The transport toward URIs that name none.
    pub(crate) transport: Transport,
    /// Whether REGISTER is handed on or refused.
    pub(crate) registrar: bool,
}

/// What nobody has dealt with yet.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// A new call.
    Call(Box<IncomingCall>),
    /// A REGISTER.
    Register(Peer, Message),
}

/// What happened to a call.
#[derive(Clone, Debug)]
pub(crate) enum CallEvent {
    /// The far side hung up.
    Bye(Message),
    /// The caller gave up.
    Cancel(Message),
    /// The far side offered again.
    Reinvite(Message),
    /// The far side sent something else in the dialog: INFO, NOTIFY, PRACK, REFER, UPDATE.
    Request(Message),
}

/// A call's name: Call-ID and our tag.
pub(crate) type CallKey = (String, String);
/// A server transaction's name: branch, CSeq number, method (RFC 3261 §17.2.3; chan_sip reuses a
/// branch for the NOTIFYs of one subscription).
pub(crate) type ServerKey = (Vec<u8>, u32, Vec<u8>);
/// A client transaction's name: branch and method (RFC 3261 §17.1.3).
pub(crate) type ClientKey = (Vec<u8>, Vec<u8>);

/// A call as its core and its owner share it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) key: CallKey,
    /// The user part of our Contact.
    pub(crate) user: String,
    pub(crate) dialog: Mutex<Option<Dialog>>,
    /// Whether a final response to the INVITE has left.
    pub(crate) is_final: AtomicBool,
    /// The CSeq number of the last ACK.
    pub(crate) acked: watch::Sender<Option<u32>>,
    events: mpsc::Sender<CallEvent>,
    /// The INVITE that we answer, and whence it came.
    pub(crate) invite: Option<(Peer, Message)>,
}

impl CallEvent {
    /// Returns the message that it was.
    pub(crate) fn message(self) -> Message {
        match self {
            Self::Bye(message)
            | Self::Cancel(message)
            | Self::Reinvite(message)
            | Self::Request(message) => message,
        }
    }
}

impl Call {
    pub(crate) fn tell(&self, event: CallEvent) {
        // dropped: a full queue means that nobody has looked at this call for 64 events.
        self.events.try_send(event).ok();
    }
}

pub(crate) struct State {
    pub(crate) clients: HashMap<ClientKey, mpsc::Sender<Message>>,
    pub(crate) servers: Recent<ServerKey, Option<Bytes>>,
    pub(crate) acks: Recent<(Vec<u8>, Vec<u8>), (Peer, Bytes)>,
    pub(crate) calls: Recent<CallKey, Arc<Call>>,
    pub(crate) invites: Recent<ServerKey, CallKey>,
    /// INVITEs by Call-ID, From tag and CSeq (RFC 3261 §8.2.2.2).
    pub(crate) merged: Recent<(Vec<u8>, Vec<u8>, u32), ()>,
    pub(crate) requests: VecDeque<Message>,
    pub(crate) heard: VecDeque<String>,
    pub(crate) heard_count: usize,
    pub(crate) invites_seen: usize,
    pub(crate) fresh: Option<mpsc::Sender<Fresh>>,
}

struct Inner {
    setup: Setup,
    /// [`Setup::outbound`] as it is now.
    outbound: Mutex<Option<Peer>>,
    timeline: Timeline,
    /// The PURR that goes into the Contact of dialogs (RFC 8599 §6.1.1).
    purr: Mutex<Option<String>>,
    link: Mutex<Link>,
    state: Mutex<State>,
    tasks: Mutex<JoinSet<()>>,
    closed: watch::Sender<bool>,
}

/// A user agent; clones share it.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Inner>);

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.0.setup.name)
    }
}

impl Endpoint {
    /// Serves a link.
    pub(crate) fn start(
        link: Link,
        arrivals: mpsc::Receiver<Arrived>,
        setup: Setup,
        timeline: Timeline,
    ) -> (Self, mpsc::Receiver<Fresh>) {
        let (sender, fresh) = mpsc::channel(EVENTS);
        let state = State {
            clients: HashMap::new(),
            servers: Recent::new(REMEMBERED),
            acks: Recent::new(REMEMBERED),
            calls: Recent::new(REMEMBERED),
            invites: Recent::new(REMEMBERED),
            merged: Recent::new(REMEMBERED),
            requests: VecDeque::new(),
            heard: VecDeque::new(),
            heard_count: 0,
            invites_seen: 0,
            fresh: Some(sender),
        };
        let endpoint = Self(Arc::new(Inner {
            outbound: Mutex::new(setup.outbound),
            setup,
            timeline,
            purr: Mutex::new(None),
            link: Mutex::new(link.clone()),
            state: Mutex::new(state),
            tasks: Mutex::default(),
            closed: watch::Sender::new(false),
        }));
        endpoint.serve(link, arrivals);
        (endpoint, fresh)
    }

    /// Goes on over another link: the phone's network changed, the app did not notice.
    pub(crate) fn move_to(&self, outbound: Peer, link: Link, arrivals: mpsc::Receiver<Arrived>) {
        *self.0.outbound.lock() = Some(outbound);
        let old = std::mem::replace(&mut *self.0.link.lock(), link.clone());
        old.close();
        self.serve(link, arrivals);
    }

    /// Closes the socket and everything that waits for it.
    pub(crate) fn close(&self) {
        self.0.closed.send_replace(true);
        self.link().close();
        self.0.tasks.lock().abort_all();
        let mut state = self.0.state.lock();
        state.clients.clear();
        state.calls.clear();
        state.fresh.take();
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.link().freeze(frozen);
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.link().local_addr()
    }

    pub(crate) fn invites_seen(&self) -> usize {
        self.0.state.lock().invites_seen
    }

    pub(crate) fn requests_seen(&self) -> Vec<Message> {
        self.0.state.lock().requests.iter().cloned().collect()
    }

    /// Waits, and says what came instead if it was in vain. `None` from the future: closed.
    pub(crate) async fn wait<T>(
        &self,
        awaited: &str,
        patience: Duration,
        future: impl Future<Output = Option<T>>,
    ) -> Result<T, PhoneError> {
        let before = self.0.state.lock().heard_count;
        let mut closed = self.0.closed.subscribe();
        let end = tokio::select! {
            biased;
            end = future => end,
            _ = closed.wait_for(|closed| *closed) => None,
            () = tokio::time::sleep(patience) => return Err(PhoneError::Timeout {
                awaited: awaited.to_owned(),
                within: patience,
                seen: self.heard_since(before),
            }),
        };
        end.ok_or_else(|| PhoneError::Closed {
            awaited: awaited.to_owned(),
        })
    }

    /// Returns the Contact URI of a user of ours.
    pub(crate) fn contact_uri(&self, user: &str, transport: Transport, params: &str) -> String {
        let local = self.local_addr();
        let transport = match transport {
            Transport::Udp => String::new(),
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                format!(";transport={}", transport.label())
            }
        };
        format!("sip:{user}@{local}{transport}{params}")
    }

    /// Returns the Contact URI that a dialog gets.
    pub(crate) fn dialog_contact(&self, user: &str, transport: Transport) -> String {
        let purr = self.0.purr.lock().clone();
        let purr = purr.map_or_else(String::new, |purr| format!(";pn-purr={purr}"));
        self.contact_uri(user, transport, &purr)
    }

    /// Has dialogs from now on bring requests inside them by a push.
    pub(crate) fn use_purr(&self, purr: String) {
        *self.0.purr.lock() = Some(purr);
    }

    /// Returns a Via value with a new branch.
    pub(crate) fn via(&self, transport: Transport) -> String {
        let local = self.local_addr();
        let branch = random_token();
        let token = transport.via_token();
        format!("SIP/2.0/{token} {local};branch=z9hG4bK{branch};rport")
    }

    /// Returns where a request for this URI goes (RFC 3263 for addresses), else `fallback`.
    pub(crate) fn hop(&self, uri: &str, fallback: Peer) -> Peer {
        if let Some(outbound) = *self.0.outbound.lock() {
            return outbound;
        }
        let Ok(uri) = Uri::parse(uri.as_bytes()) else {
            return fallback;
        };
        let Some(Host::Address(address)) = uri.host else {
            return fallback;
        };
        let named = uri
            .params
            .value("transport")
            .map(<[u8]>::to_ascii_lowercase);
        let transport = match named.as_deref() {
            Some(b"tcp") => Transport::Tcp,
            Some(b"udp") => Transport::Udp,
            Some(_) | None => self.0.setup.transport,
        };
        let port = uri.port.unwrap_or_else(|| transport.default_port());
        Peer {
            transport,
            address: SocketAddr::new(address, port),
        }
    }

    /// Sends a message and notes it.
    pub(crate) async fn send(&self, to: Peer, bytes: &Bytes, again: bool) -> io::Result<()> {
        if let Ok(message) = Message::parse(bytes.clone()) {
            self.note_sent(&message, again);
        }
        let link = self.link();
        link.send(to, bytes).await
    }

    /// Answers a request and remembers the answer for its retransmissions.
    pub(crate) async fn respond(&self, to: Peer, request: &Message, response: Bytes) {
        if let Some(key) = server_key(request) {
            let mut state = self.0.state.lock();
            state.servers.insert(key, Some(response.clone()));
        }
        // dropped: a response that cannot be sent is a lost response; the far side asks again.
        self.send(to, &response, false).await.ok();
    }

    /// Answers an INVITE for good, again and again until the ACK (RFC 3261 §13.3.1.4, §17.2.1).
    pub(crate) async fn respond_until_ack(
        &self,
        call: &Arc<Call>,
        to: Peer,
        invite: &Message,
        response: Bytes,
    ) {
        let cseq = invite.cseq().map_or(0, |cseq| cseq.number);
        let accepted = response.starts_with(b"SIP/2.0 2");
        self.respond(to, invite, response.clone()).await;
        // A 2xx is repeated over any transport, other finals only where they may be lost.
        if !accepted && to.transport.is_reliable() {
            return;
        }
        let endpoint = self.clone();
        let mut acked = call.acked.subscribe();
        self.spawn(async move {
            let mut interval = T1;
            let deadline = tokio::time::Instant::now() + 64 * T1;
            while tokio::time::Instant::now() < deadline {
                tokio::select! {
                    _ = acked.wait_for(|acked| *acked == Some(cseq)) => return,
                    () = tokio::time::sleep(interval) => {}
                }
                if endpoint.send(to, &response, true).await.is_err() {
                    return;
                }
                interval = (interval * 2).min(T2);
            }
        });
    }

    /// Registers a call that goes out, so that requests in its dialog find it.
    pub(crate) fn add_call(
        &self,
        key: CallKey,
        user: &str,
        invite: Option<(Peer, Message)>,
    ) -> (Arc<Call>, mpsc::Receiver<CallEvent>) {
        let (sender, events) = mpsc::channel(EVENTS);
        let call = Arc::new(Call {
            key: key.clone(),
            user: user.to_owned(),
            dialog: Mutex::new(None),
            is_final: AtomicBool::new(false),
            acked: watch::Sender::new(None),
            events: sender,
            invite,
        });
        self.0.state.lock().calls.insert(key, Arc::clone(&call));
        (call, events)
    }

    /// Remembers an ACK for retransmissions of the final response that it belongs to.
    pub(crate) fn remember_ack(&self, response: &Message, to: Peer, ack: Bytes) {
        if let Some(key) = ack_key(response) {
            self.0.state.lock().acks.insert(key, (to, ack));
        }
    }

    pub(crate) fn add_client(&self, key: ClientKey, sender: mpsc::Sender<Message>) {
        self.0.state.lock().clients.insert(key, sender);
    }

    pub(crate) fn remove_client(&self, key: &ClientKey) {
        self.0.state.lock().clients.remove(key);
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock();
        while tasks.try_join_next().is_some() {}
        if !*self.0.closed.borrow() {
            tasks.spawn(task);
        }
    }

    fn serve(&self, link: Link, mut arrivals: mpsc::Receiver<Arrived>) {
        let endpoint = self.clone();
        self.spawn(async move {
            while let Some(Arrived { from, message }) = arrivals.recv().await {
                if message.is_request() {
                    endpoint.handle_request(from, message).await;
                } else {
                    endpoint.handle_response(message).await;
                }
            }
            // The far side closed the connection; after a move it was us, on purpose.
            if endpoint.link().is(&link) {
                endpoint.0.closed.send_replace(true);
            }
        });
    }

    pub(crate) fn remember_request(&self, key: ServerKey, request: &Message) {
        let mut state = self.0.state.lock();
        state.servers.insert(key, None);
        state.requests.push_back(request.clone());
        if state.requests.len() > REMEMBERED {
            state.requests.pop_front();
        }
    }

    pub(crate) fn note_heard(&self, message: &Message, again: bool) {
        let what = noted(message, again);
        let Inner {
            setup, timeline, ..
        } = &*self.0;
        timeline.note(&setup.peer_name, &setup.name, what.clone());
        let mut state = self.0.state.lock();
        state.heard_count += 1;
        state.heard.push_back(what);
        if state.heard.len() > 16 {
            state.heard.pop_front();
        }
    }

    fn note_sent(&self, message: &Message, again: bool) {
        let Inner {
            setup, timeline, ..
        } = &*self.0;
        timeline.note(&setup.name, &setup.peer_name, noted(message, again));
    }

    fn heard_since(&self, before: usize) -> String {
        let state = self.0.state.lock();
        let count = (state.heard_count - before).min(state.heard.len());
        if count == 0 {
            return "nothing came".to_owned();
        }
        let skipped = state.heard.len() - count;
        let heard: Vec<&str> = state
            .heard
            .iter()
            .skip(skipped)
            .map(String::as_str)
            .collect();
        format!("meanwhile came {}", heard.join(", "))
    }

    /// Returns the state; held for no longer than one statement, never across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.0.setup
    }

    fn link(&self) -> Link {
        self.0.link.lock().clone()
    }
}

/// Returns a new tag, branch or Call-ID.
pub(crate) fn random_token() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn noted(message: &Message, again: bool) -> String {
    let mut what = label(message);
    if again {
        what.push_str(" (again)");
    }
    what
}

pub(crate) fn server_key(request: &Message) -> Option<ServerKey> {
    let branch = request.top_via().ok()?.branch()?.to_vec();
    let number = request.cseq().ok()?.number;
    Some((branch, number, request.method()?.as_bytes().to_vec()))
}

/// Returns the name of the client transaction that a response belongs to, or a request begins.
pub(crate) fn client_key(message: &Message) -> Option<ClientKey> {
    let branch = message.top_via().ok()?.branch()?.to_vec();
    Some((branch, message.cseq().ok()?.method.as_bytes().to_vec()))
}

pub(crate) fn ack_key(response: &Message) -> Option<(Vec<u8>, Vec<u8>)> {
    let (branch, method) = client_key(response)?;
    if method != b"INVITE" || response.status()? < 200 {
        return None;
    }
    let tag = response.to().ok()?.tag().unwrap_or_default().to_vec();
    Some((branch, tag))
}
