//! A test phone: a SIP user agent (RFC 3261) that registers with push parameters, sleeps and wakes.
//!
//! It uses the crate's message core but its own small transaction handling, so that a mistake in
//! the gateway's transactions does not hide itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::proto::Transport;
use crate::proto::sip::{HeaderName, Message, NameAddr};
use crate::standin::call::{Content, IncomingCall, OutgoingCall, PATIENCE};
use crate::standin::draft::{Draft, header_text, text, value_texts};
use crate::standin::error::PhoneError;
use crate::standin::exchange::{Authorization, Login, authorize, refused};
use crate::standin::inviter::Invitation;
use crate::standin::link::{Dial, Link, Peer};
use crate::standin::timeline::Timeline;
use crate::standin::ua::{Endpoint, Fresh, Setup, random_token};

/// Who a phone is and where its gateway is. Start from [`PhoneConfig::new`].
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    /// User part and digest user name.
    pub user: String,
    /// Host of REGISTER's Request-URI and of From and To.
    pub domain: String,
    /// Digest password.
    pub password: String,
    /// Where everything is sent: the gateway.
    pub proxy: SocketAddr,
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// The address to bind; the port comes from the system.
    pub local_ip: IpAddr,
    /// TLS: the CA that signed the gateway's certificate.
    pub ca_pem: Option<String>,
    /// TLS: the name that the certificate must carry.
    pub server_name: String,
    /// Push parameters as they stand in the Contact URI, without a leading semicolon.
    pub push: Option<String>,
    /// Whether dialogs get the PURR of the last registration (RFC 8599 §6.1.1).
    pub uses_purr: bool,
    /// `+sip.instance` (RFC 5626 §4.1) without quotes and brackets: `urn:uuid:…`.
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// Seconds asked for in REGISTER.
    pub expires: u32,
    /// The Contact's preference.
    pub q: Option<f32>,
    /// How long every wait lasts.
    pub patience: Duration,
    /// The phone's name in the timeline.
    pub name: String,
    /// The gateway's name in the timeline.
    pub peer_name: String,
}

impl PhoneConfig {
    /// A phone on UDP without push: change the fields that differ.
    #[must_use]
    pub fn new(user: &str, domain: &str, password: &str, proxy: SocketAddr) -> Self {
        Self {
            user: user.to_owned(),
            domain: domain.to_owned(),
            password: password.to_owned(),
            proxy,
            transport: Transport::Udp,
            local_ip: proxy.ip(),
            ca_pem: None,
            server_name: "localhost".to_owned(),
            push: None,
            uses_purr: false,
            instance: None,
            reg_id: None,
            expires: 3600,
            q: None,
            patience: PATIENCE,
            name: "phone".to_owned(),
            peer_name: "Rouse".to_owned(),
        }
    }
}

/// A successful registration.
#[derive(Clone, Debug)]
pub struct Registered {
    /// 2xx.
    pub status: u16,
    /// Seconds granted to this phone's contact.
    pub expires: u32,
    /// The Contact values of the response.
    pub contacts: Vec<String>,
    /// How many REGISTER requests it took, challenges included.
    pub requests: u32,
    /// The response.
    pub response: Message,
}

/// An awake phone: it has a socket and a task that reads it.
#[derive(Debug)]
pub struct Phone {
    config: PhoneConfig,
    endpoint: Endpoint,
    fresh: mpsc::Receiver<Fresh>,
    /// Call-ID and From tag of its REGISTERs (RFC 3261 §10.2: the same for all).
    call_id: String,
    tag: String,
    cseq: u32,
}

impl Phone {
    /// Opens the socket (for TCP and TLS: connects).
    pub async fn wake(config: PhoneConfig, timeline: Timeline) -> io::Result<Self> {
        let (link, arrivals) = Link::connect(&config.dial()).await?;
        let setup = Setup {
            name: config.name.clone(),
            peer_name: config.peer_name.clone(),
            outbound: Some(config.far()),
            transport: config.transport,
            registrar: false,
        };
        let (endpoint, fresh) = Endpoint::start(link, arrivals, setup, timeline);
        Ok(Self {
            config,
            endpoint,
            fresh,
            call_id: random_token(),
            tag: random_token(),
            cseq: 0,
        })
    }

    /// Registers: answers 401 and 407, follows 423. A final status outside 2xx is
    /// `PhoneError::Refused`.
    pub async fn register(&mut self) -> Result<Registered, PhoneError> {
        self.send_register(self.config.expires).await
    }

    /// Registers with `Expires: 0`.
    pub async fn unregister(&mut self) -> Result<Registered, PhoneError> {
        self.send_register(0).await
    }

    /// The socket is gone and nothing was said, as when the system kills the app.
    pub fn sleep(self) {
        self.endpoint.close();
    }

    /// The app is suspended: the socket stays open, and nothing is read or answered.
    pub fn freeze(&self) {
        self.endpoint.freeze(true);
    }

    /// The app runs again and finds what has arrived meanwhile.
    pub fn thaw(&self) {
        self.endpoint.freeze(false);
    }

    /// The network changed: the old socket is gone, a new one is opened, calls and dialogs stay.
    pub async fn change_network(&mut self) -> io::Result<()> {
        self.change_transport(self.config.transport, self.config.proxy)
            .await
    }

    /// The same, and the gateway is reached in another way from there.
    pub async fn change_transport(
        &mut self,
        transport: Transport,
        proxy: SocketAddr,
    ) -> io::Result<()> {
        self.config.transport = transport;
        self.config.proxy = proxy;
        let (link, arrivals) = Link::connect(&self.config.dial()).await?;
        self.endpoint.move_to(self.config.far(), link, arrivals);
        Ok(())
    }

    /// Waits for an INVITE; 100 is sent as soon as it arrives.
    pub async fn next_call(&mut self) -> Result<IncomingCall, PhoneError> {
        self.next_call_within(self.config.patience).await
    }

    /// The same with a patience of its own.
    pub async fn next_call_within(
        &mut self,
        patience: Duration,
    ) -> Result<IncomingCall, PhoneError> {
        let fresh = &mut self.fresh;
        let next = async {
            loop {
                match fresh.recv().await? {
                    Fresh::Call(call) => return Some(*call),
                    Fresh::Register(..) => {}
                }
            }
        };
        let mut call = self.endpoint.wait("an INVITE", patience, next).await?;
        call.within(self.config.patience);
        Ok(call)
    }

    /// Calls a user of the domain, or a URI. Returns when the first response is there that is no
    /// challenge (100 counts); 401 and 407 are answered in the background.
    pub async fn call(&mut self, target: &str, sdp: &str) -> Result<OutgoingCall, PhoneError> {
        self.call_with(target, Content::sdp(sdp)).await
    }

    /// The same with header lines of one's own, `Supported` among them.
    pub async fn call_with(
        &mut self,
        target: &str,
        content: Content<'_>,
    ) -> Result<OutgoingCall, PhoneError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let target = self.config.target(target);
        let invitation = Invitation {
            routes: Vec::new(),
            from: format!("<{}>", self.config.identity()),
            to: format!("<{target}>"),
            target,
            user: self.config.user.clone(),
            hop: self.config.far(),
            lines: content.lines.iter().map(owned).collect(),
            sdp: content.body.to_owned(),
            login: Some(self.config.login()),
        };
        OutgoingCall::start(self.endpoint.clone(), invitation, self.config.patience).await
    }

    /// Sends a MESSAGE, OPTIONS or the like outside of a dialog, answers a challenge, and returns
    /// the final response.
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        body: &str,
    ) -> Result<Message, PhoneError> {
        let target = self.config.target(target);
        let (call_id, tag) = (random_token(), random_token());
        let mut authorization = None;
        let mut cseq = 1;
        loop {
            let via = self.endpoint.via(self.config.transport);
            let request = Draft::request(method, &target, &via)
                .line("From", format!("<{}>;tag={tag}", self.config.identity()))
                .line("To", format!("<{target}>"))
                .line("Call-ID", &call_id)
                .line("CSeq", format!("{cseq} {method}"))
                .lines_named(authorization.take())
                .body("text/plain", body)
                .finish();
            let mut exchange = self.endpoint.transact(self.config.far(), request).await?;
            let response = exchange.last(&self.endpoint, self.config.patience).await?;
            let answer = authorize(&response, &self.config.login(), method, &target);
            match answer {
                Some(answer) if cseq == 1 => {
                    authorization = Some((answer.header, answer.value));
                    cseq += 1;
                }
                Some(_) | None => return Ok(response),
            }
        }
    }

    /// Returns how many INVITEs without a To tag came over this phone's socket, not counting
    /// retransmissions.
    #[must_use]
    pub fn invites_seen(&self) -> usize {
        self.endpoint.invites_seen()
    }

    /// Returns the requests that came so far, oldest first, without retransmissions and ACKs.
    #[must_use]
    pub fn requests_seen(&self) -> Vec<Message> {
        self.endpoint.requests_seen()
    }

    /// Returns the socket's local address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    async fn send_register(&mut self, expires: u32) -> Result<Registered, PhoneError> {
        let mut expires = expires;
        let mut authorization: Option<Authorization> = None;
        let mut answered = false;
        for requests in 1_u32.. {
            let line = authorization.take().map(|line| (line.header, line.value));
            let register = self.register_draft(expires, line);
            let mut exchange = self.endpoint.transact(self.config.far(), register).await?;
            let response = exchange.last(&self.endpoint, self.config.patience).await?;
            let status = response.status().unwrap_or_default();
            let shortest = minimum(&response).filter(|minimum| *minimum > expires);
            let uri = format!("sip:{}", self.config.domain);
            let answer = authorize(&response, &self.config.login(), "REGISTER", &uri)
                .filter(|answer| !answered || answer.stale);
            match (status, answer, shortest) {
                (200..=299, _, _) => return Ok(self.registered(response, expires, requests)),
                (401 | 407, Some(answer), _) if requests < 6 => {
                    answered = true;
                    authorization = Some(answer);
                }
                (423, _, Some(minimum)) if requests < 6 => {
                    expires = minimum;
                    answered = false;
                }
                _ => return Err(refused(&exchange.request, &response)),
            }
        }
        Err(PhoneError::Closed {
            awaited: "the response to REGISTER".to_owned(),
        })
    }

    fn register_draft(
        &mut self,
        expires: u32,
        authorization: Option<(&'static str, String)>,
    ) -> Bytes {
        self.cseq += 1;
        let config = &self.config;
        let uri = format!("sip:{}", config.domain);
        let outbound = config.reg_id.map(|_| ("Supported", "path, outbound"));
        Draft::request("REGISTER", &uri, &self.endpoint.via(config.transport))
            .line("From", format!("<{}>;tag={}", config.identity(), self.tag))
            .line("To", format!("<{}>", config.identity()))
            .line("Call-ID", &self.call_id)
            .line("CSeq", format!("{} REGISTER", self.cseq))
            .line("Contact", self.contact())
            .line("Expires", expires.to_string())
            .lines_named(authorization)
            .lines_named(outbound)
            .line("User-Agent", "Rouse test phone")
            .finish()
    }

    fn contact(&self) -> String {
        let config = &self.config;
        let push = config.push.as_ref().map(|push| format!(";{push}"));
        let uri = self.endpoint.contact_uri(
            &config.user,
            config.transport,
            push.as_deref().unwrap_or_default(),
        );
        let mut contact = format!("<{uri}>");
        if let Some(instance) = &config.instance {
            contact = format!("{contact};+sip.instance=\"<{instance}>\"");
        }
        if let Some(reg_id) = config.reg_id {
            contact = format!("{contact};reg-id={reg_id}");
        }
        if let Some(q) = config.q {
            contact = format!("{contact};q={q}");
        }
        contact
    }

    fn registered(&self, response: Message, asked: u32, requests: u32) -> Registered {
        let ours = self.local_addr().to_string();
        let contacts = value_texts(&response, HeaderName::Contact);
        let granted = |value: &String| -> Option<u32> {
            let address = NameAddr::parse(value.as_bytes()).ok()?;
            text(address.params.value("expires")?).parse().ok()
        };
        let mine = contacts.iter().find(|value| value.contains(&ours));
        let expires = mine
            .and_then(granted)
            .or_else(|| header_text(&response, HeaderName::Expires).parse().ok())
            .or_else(|| contacts.first().and_then(granted))
            .unwrap_or(asked);
        let caps = header_text(&response, HeaderName::FeatureCaps);
        if let Some((_, after)) = caps.split_once("+sip.pnspurr=\"")
            && let (true, Some((purr, _))) = (self.config.uses_purr, after.split_once('"'))
        {
            self.endpoint.use_purr(purr.to_owned());
        }
        Registered {
            status: response.status().unwrap_or_default(),
            expires,
            contacts,
            requests,
            response,
        }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.endpoint.close();
    }
}

impl PhoneConfig {
    const fn far(&self) -> Peer {
        Peer {
            transport: self.transport,
            address: self.proxy,
        }
    }

    fn dial(&self) -> Dial {
        Dial {
            local_ip: self.local_ip,
            remote: self.far(),
            ca_pem: self.ca_pem.clone(),
            server_name: self.server_name.clone(),
        }
    }

    fn login(&self) -> Login {
        Login {
            user: self.user.clone(),
            password: self.password.clone(),
        }
    }

    fn identity(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    fn target(&self, target: &str) -> String {
        if target.contains(':') {
            target.to_owned()
        } else {
            format!("sip:{target}@{}", self.domain)
        }
    }
}

fn minimum(response: &Message) -> Option<u32> {
    header_text(response, HeaderName::MinExpires).parse().ok()
}
