//! A test phone: a SIP user agent (RFC 3261) that registers with push parameters, sleeps and wakes.
//!
//! It uses the crate's message core but its own small transaction handling, so that a mistake in
//! the gateway's transactions does not hide itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::proto::Transport;
use crate::proto::sip::Message;
use crate::standin::call::{IncomingCall, OutgoingCall, PATIENCE};
use crate::standin::error::PhoneError;
use crate::standin::timeline::Timeline;

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
pub struct Phone {}

impl Phone {
    /// Opens the socket (for TCP and TLS: connects).
    pub async fn wake(_config: PhoneConfig, _timeline: Timeline) -> io::Result<Self> {
        todo!()
    }
    /// Registers: answers 401 and 407, follows 423. A final status outside 2xx is
    /// `PhoneError::Refused`.
    pub async fn register(&mut self) -> Result<Registered, PhoneError> {
        todo!()
    }
    /// Registers with `Expires: 0`.
    pub async fn unregister(&mut self) -> Result<Registered, PhoneError> {
        todo!()
    }
    /// The socket is gone and nothing was said, as when the system kills the app.
    pub fn sleep(self) {
        todo!()
    }
    /// Waits for an INVITE; 100 is sent as soon as it arrives.
    pub async fn next_call(&mut self) -> Result<IncomingCall, PhoneError> {
        todo!()
    }
    /// The same with a patience of its own.
    pub async fn next_call_within(
        &mut self,
        _patience: Duration,
    ) -> Result<IncomingCall, PhoneError> {
        todo!()
    }
    /// Calls a user of the domain, or a URI. Answers 401 and 407 and returns when the first other
    /// response (100 counts) is there.
    pub async fn call(&mut self, _target: &str, _sdp: &str) -> Result<OutgoingCall, PhoneError> {
        todo!()
    }
    /// Sends a MESSAGE, OPTIONS or the like outside of a dialog and returns the final response.
    pub async fn request(
        &mut self,
        _method: &str,
        _target: &str,
        _body: &str,
    ) -> Result<Message, PhoneError> {
        todo!()
    }
    /// Returns how many INVITEs without a To tag came over this phone's socket, not counting
    /// retransmissions.
    #[must_use]
    pub fn invites_seen(&self) -> usize {
        todo!()
    }
    /// Returns the requests that came so far, oldest first, without retransmissions.
    #[must_use]
    pub fn requests_seen(&self) -> Vec<Message> {
        todo!()
    }
    /// Returns the socket's local address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }
}
