//! A stand-in Asterisk: a registrar with digest over UDP and TCP that calls and is called.
//!
//! It does what the real ones do where that matters to a gateway: OPTIONS before the 200 of a
//! REGISTER (chan_sip), Path stored and used as Route, 420 for a Path that the phone does not
//! support (PJSIP), requests sent where the REGISTER came from (chan_sip with `nat=force_rport`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::proto::Transport;
use crate::proto::sip::{HeaderName, Message};
use crate::standin::call::{IncomingCall, OutgoingCall, PATIENCE, plain_sdp};
use crate::standin::dialog::address_uri;
use crate::standin::draft::{Draft, text, value_texts};
use crate::standin::error::PhoneError;
use crate::standin::exchange::Exchange;
use crate::standin::inviter::Invitation;
use crate::standin::link::{Link, Peer};
use crate::standin::registrar::{Granted, Registrar, Verdict};
use crate::standin::timeline::Timeline;
use crate::standin::ua::{Endpoint, Fresh, Setup, random_token};

const CALLS: usize = 64;
const LONGEST_CALL: Duration = Duration::from_secs(600);

/// What the stand-in knows and how it behaves. Start from [`AsteriskConfig::new`].
#[derive(Clone, Debug)]
pub struct AsteriskConfig {
    /// The address to bind.
    pub ip: IpAddr,
    /// The port, UDP and TCP alike; 0 takes one from the system.
    pub port: u16,
    /// Users with their passwords.
    pub users: Vec<(String, String)>,
    /// The digest realm.
    pub realm: String,
    /// Whether challenges carry `qop="auth"` (PJSIP) or not (chan_sip).
    pub qop: bool,
    /// Whether an OPTIONS goes out before the 200 to a REGISTER (chan_sip with `qualify`).
    pub qualify: bool,
    /// Whether a Path from a phone without `Supported: path` is answered with 420 (PJSIP).
    pub strict_path: bool,
    /// Whether requests to a user go where its REGISTER came from, whatever Route and Contact say
    /// (chan_sip with `nat=force_rport`).
    pub force_rport: bool,
    /// Whether calls from phones are challenged.
    pub challenge_calls: bool,
    /// Shortest registration granted: less is answered with 423.
    pub min_expires: u32,
    /// Longest registration granted.
    pub max_expires: u32,
    /// The transport of requests to contacts that do not name one.
    pub transport: Transport,
    /// How long every wait lasts.
    pub patience: Duration,
    /// Its name in the timeline.
    pub name: String,
    /// The gateway's name in the timeline.
    pub peer_name: String,
}

impl AsteriskConfig {
    /// chan_sip's habits on UDP and TCP at a port from the system.
    #[must_use]
    pub fn new(ip: IpAddr, users: &[(&str, &str)]) -> Self {
        Self {
            ip,
            port: 0,
            users: users
                .iter()
                .map(|(user, password)| ((*user).to_owned(), (*password).to_owned()))
                .collect(),
            realm: "asterisk".to_owned(),
            qop: false,
            qualify: true,
            strict_path: true,
            force_rport: false,
            challenge_calls: true,
            min_expires: 1,
            max_expires: 3600,
            transport: Transport::Udp,
            patience: PATIENCE,
            name: "Asterisk".to_owned(),
            peer_name: "Rouse".to_owned(),
        }
    }
}

/// What a user's last REGISTER left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The Contact URI as it came.
    pub contact: String,
    /// Path values, topmost first.
    pub path: Vec<String>,
    /// Seconds granted.
    pub expires: u32,
    /// Where the REGISTER came from.
    pub source: SocketAddr,
    /// Over what.
    pub transport: Transport,
}

/// A running stand-in. 600 answers and stays; 601 answers and hangs up; other numbers wait for
/// [`Asterisk::next_call`].
#[derive(Debug)]
pub struct Asterisk {
    shared: Arc<Shared>,
    calls: tokio::sync::Mutex<mpsc::Receiver<IncomingCall>>,
}

impl Asterisk {
    /// Opens the sockets and serves.
    pub async fn start(config: AsteriskConfig, timeline: Timeline) -> io::Result<Self> {
        let (link, arrivals) = Link::bind(config.ip, config.port).await?;
        let setup = Setup {
            name: config.name.clone(),
            peer_name: config.peer_name.clone(),
            outbound: None,
            transport: config.transport,
            registrar: true,
        };
        let (endpoint, fresh) = Endpoint::start(link, arrivals, setup, timeline);
        let (sender, calls) = mpsc::channel(CALLS);
        let shared = Arc::new(Shared {
            registrar: Mutex::new(Registrar::new(&config)),
            config,
            endpoint: endpoint.clone(),
            changed: watch::Sender::new(0),
            calls: sender,
        });
        endpoint.spawn(Arc::clone(&shared).serve(fresh));
        Ok(Self {
            shared,
            calls: tokio::sync::Mutex::new(calls),
        })
    }

    /// Returns the address, UDP and TCP alike.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.endpoint.local_addr()
    }

    /// Waits until the user is registered.
    pub async fn registered(&self, user: &str) -> Result<Registration, PhoneError> {
        let mut changed = self.shared.changed.subscribe();
        let registered = async {
            loop {
                changed.borrow_and_update();
                if let Some(registration) = self.registration(user) {
                    return Some(registration);
                }
                changed.changed().await.ok()?;
            }
        };
        let Shared {
            endpoint, config, ..
        } = &*self.shared;
        endpoint
            .wait(
                &format!("the registration of {user}"),
                config.patience,
                registered,
            )
            .await
    }

    /// Returns the user's registration, if there is one that has not expired.
    #[must_use]
    pub fn registration(&self, user: &str) -> Option<Registration> {
        self.shared.registrar.lock().registration(user)
    }

    /// Returns how many REGISTERs were accepted with 2xx.
    #[must_use]
    pub fn registers_accepted(&self) -> usize {
        self.shared.registrar.lock().accepted()
    }

    /// Calls a registered user from `caller` (a user part): INVITE to the stored Contact by way of
    /// the Path. Returns when the first response (100 counts) is there.
    pub async fn call(&self, user: &str, caller: &str) -> Result<OutgoingCall, PhoneError> {
        let shared = &self.shared;
        let registration = shared.find(user)?;
        let local = self.address();
        let invitation = Invitation {
            hop: shared.hop(&registration),
            routes: registration.path,
            from: format!("\"{caller}\" <sip:{caller}@{local}>"),
            to: format!("<{}>", registration.contact),
            target: registration.contact,
            user: caller.to_owned(),
            lines: Vec::new(),
            sdp: plain_sdp(local.ip()),
            login: None,
        };
        let endpoint = shared.endpoint.clone();
        OutgoingCall::start(endpoint, invitation, shared.config.patience).await
    }

    /// Sends OPTIONS to a registered user and returns the final status.
    pub async fn qualify(&self, user: &str) -> Result<u16, PhoneError> {
        let shared = &self.shared;
        let registration = shared.find(user)?;
        let mut exchange = shared.options(&registration).await?;
        let patience = shared.config.patience;
        let response = exchange.last(&shared.endpoint, patience).await?;
        Ok(response.status().unwrap_or_default())
    }

    /// Waits for a call from a phone to another number than 600 and 601.
    pub async fn next_call(&self) -> Result<IncomingCall, PhoneError> {
        let mut calls = self.calls.lock().await;
        let Shared {
            endpoint, config, ..
        } = &*self.shared;
        let next = calls.recv();
        let mut call = endpoint
            .wait("a call from a phone", config.patience, next)
            .await?;
        call.within(config.patience);
        Ok(call)
    }

    /// Returns the requests that came so far, oldest first, without retransmissions and ACKs.
    #[must_use]
    pub fn requests_seen(&self) -> Vec<Message> {
        self.shared.endpoint.requests_seen()
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        self.shared.endpoint.close();
    }
}

struct Shared {
    config: AsteriskConfig,
    endpoint: Endpoint,
    registrar: Mutex<Registrar>,
    changed: watch::Sender<usize>,
    calls: mpsc::Sender<IncomingCall>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.endpoint)
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut fresh: mpsc::Receiver<Fresh>) {
        while let Some(fresh) = fresh.recv().await {
            match fresh {
                Fresh::Call(call) => {
                    let shared = Arc::clone(&self);
                    // dropped: the far side hears what went wrong, or does not answer.
                    self.endpoint.spawn(async move {
                        shared.take_call(*call).await.ok();
                    });
                }
                Fresh::Register(from, request) => self.take_register(from, &request).await,
            }
        }
    }

    async fn take_register(&self, from: Peer, request: &Message) {
        let verdict = self.registrar.lock().judge(request, "REGISTER");
        let respond = |status| Draft::response(request, from.address, status, &random_token());
        let response = match verdict {
            Verdict::Challenge(challenge) => respond(401).line("WWW-Authenticate", challenge),
            Verdict::Refuse(status) => respond(status),
            Verdict::Pass(user) => {
                let granted = self.registrar.lock().register(&user, request, from);
                match granted {
                    Granted::TooBrief(minimum) => {
                        respond(423).line("Min-Expires", minimum.to_string())
                    }
                    Granted::BadExtension => respond(420).line("Unsupported", "path"),
                    Granted::Removed => respond(200),
                    Granted::Bound(registration) => {
                        if self.config.qualify {
                            // dropped: an unanswered OPTIONS is the far side's affair.
                            self.options(&registration).await.ok();
                        }
                        let Registration {
                            contact, expires, ..
                        } = &registration;
                        respond(200)
                            .line("Contact", format!("<{contact}>;expires={expires}"))
                            .lines("Path", &registration.path)
                            .line("Expires", expires.to_string())
                    }
                }
            }
        };
        let response = response.line("Server", "Rouse stand-in Asterisk").finish();
        self.endpoint.respond(from, request, response).await;
        self.changed.send_modify(|count| *count += 1);
    }

    async fn take_call(&self, mut call: IncomingCall) -> Result<(), PhoneError> {
        if self.config.challenge_calls {
            let verdict = self.registrar.lock().judge(&call.invite, "INVITE");
            match verdict {
                Verdict::Challenge(challenge) => {
                    let lines = [("WWW-Authenticate", challenge.as_str())];
                    return call.reject_with(401, &lines).await;
                }
                Verdict::Refuse(status) => return call.reject(status).await,
                Verdict::Pass(_) => {}
            }
        }
        match call.dialled().as_str() {
            "600" => {
                call.answer().await?;
                call.within(LONGEST_CALL).wait_bye().await.map(drop)
            }
            "601" => {
                call.answer().await?;
                call.hangup().await.map(drop)
            }
            _ => {
                // dropped: 64 calls that nobody took.
                self.calls.try_send(call).ok();
                Ok(())
            }
        }
    }

    fn find(&self, user: &str) -> Result<Registration, PhoneError> {
        let registration = self.registrar.lock().registration(user);
        registration.ok_or_else(|| PhoneError::Instead {
            awaited: format!("{user} to be registered"),
            instead: "no registration".to_owned(),
        })
    }

    fn hop(&self, registration: &Registration) -> Peer {
        let source = Peer {
            transport: registration.transport,
            address: registration.source,
        };
        if self.config.force_rport {
            return source;
        }
        let route = registration.path.first().and_then(|path| address_uri(path));
        let uri = route.unwrap_or_else(|| registration.contact.clone());
        self.endpoint.hop(&uri, source)
    }

    async fn options(&self, registration: &Registration) -> Result<Exchange, PhoneError> {
        let hop = self.hop(registration);
        let local = self.endpoint.local_addr();
        let via = self.endpoint.via(hop.transport);
        let contact = self.endpoint.contact_uri("asterisk", hop.transport, "");
        let options = Draft::request("OPTIONS", &registration.contact, &via)
            .lines("Route", &registration.path)
            .line(
                "From",
                format!("<sip:asterisk@{local}>;tag={}", random_token()),
            )
            .line("To", format!("<{}>", registration.contact))
            .line("Call-ID", random_token())
            .line("CSeq", "102 OPTIONS")
            .line("Contact", format!("<{contact}>"))
            .finish();
        self.endpoint.transact(hop, options).await
    }
}

/// Returns what a REGISTER binds: the first Contact's URI with its `expires`, and the Path.
pub(crate) fn contact_and_path(request: &Message) -> (Option<String>, Option<u32>, Vec<String>) {
    let value = request.values(HeaderName::Contact).next().map(text);
    let expires = value.as_deref().and_then(|value| {
        let address = crate::proto::sip::NameAddr::parse(value.as_bytes()).ok()?;
        text(address.params.value("expires")?).parse().ok()
    });
    let contact = value.and_then(|value| {
        if value == "*" {
            Some(value)
        } else {
            address_uri(&value)
        }
    });
    let header = request.expires().ok().flatten();
    let path = value_texts(request, HeaderName::Path);
    (contact, expires.or(header), path)
}
