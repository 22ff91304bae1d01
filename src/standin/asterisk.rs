//! A stand-in Asterisk: a registrar with digest over UDP and TCP that calls and is called.
//!
//! It does what PEERS says of the real ones where that matters to a gateway: OPTIONS before the
//! 200 of a REGISTER (chan_sip), Path stored and used as Route, Route repeated on CANCEL (PJSIP).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::proto::Transport;
use crate::standin::call::{IncomingCall, OutgoingCall};
use crate::standin::error::PhoneError;
use crate::standin::timeline::Timeline;

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
            challenge_calls: true,
            min_expires: 1,
            max_expires: 3600,
            transport: Transport::Udp,
            patience: crate::standin::call::PATIENCE,
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
}

/// A running stand-in.
#[derive(Debug)]
pub struct Asterisk {}

impl Asterisk {
    /// Opens the sockets and serves.
    pub async fn start(_config: AsteriskConfig, _timeline: Timeline) -> io::Result<Self> {
        todo!()
    }
    /// Returns the address, UDP and TCP alike.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        todo!()
    }
    /// Waits until the user is registered.
    pub async fn registered(&self, _user: &str) -> Result<Registration, PhoneError> {
        todo!()
    }
    /// Returns the user's registration, if there is one.
    #[must_use]
    pub fn registration(&self, _user: &str) -> Option<Registration> {
        todo!()
    }
    /// Returns how many REGISTERs were accepted with 2xx.
    #[must_use]
    pub fn registers_accepted(&self) -> usize {
        todo!()
    }
    /// Calls a registered user from `caller` (a user part): INVITE to the stored Contact by way of
    /// the Path. Returns when the first response (100 counts) is there.
    pub async fn call(&self, _user: &str, _caller: &str) -> Result<OutgoingCall, PhoneError> {
        todo!()
    }
    /// Sends OPTIONS to a registered user and returns the final status.
    pub async fn qualify(&self, _user: &str) -> Result<u16, PhoneError> {
        todo!()
    }
    /// Waits for a call from a phone to another number than 600, which is answered by itself.
    pub async fn next_call(&self) -> Result<IncomingCall, PhoneError> {
        todo!()
    }
}
