//! The stand-in Asterisk's registrar: who may register, and what was registered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::proto::sip::{HeaderName, Message, Uri};
use crate::standin::asterisk::{AsteriskConfig, Registration, contact_and_path};
use crate::standin::digest::{Algorithm, Challenge, Credentials};
use crate::standin::draft::text;
use crate::standin::link::Peer;
use crate::standin::recent::Recent;
use crate::standin::ua::random_token;

const NONCES: usize = 4096;
const DEFAULT_EXPIRES: u32 = 3600;

/// What authentication says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 401 with this challenge.
    Challenge(String),
    /// It is this user's.
    Pass(String),
    /// This status.
    Refuse(u16),
}

/// What became of a REGISTER that was authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// 420: a Path, and the phone does not list `path`.
    BadExtension,
    /// 200: bound.
    Bound(Registration),
    /// 200: nothing is bound.
    Removed,
    /// 423 with this Min-Expires.
    TooBrief(u32),
}

/// Users, nonces, registrations.
#[derive(Debug)]
pub(crate) struct Registrar {
    config: AsteriskConfig,
    passwords: HashMap<String, String>,
    /// Nonces given out, and whether they were used.
    nonces: Recent<String, bool>,
    bound: HashMap<String, (Registration, Instant)>,
    accepted: usize,
}

impl Registrar {
    pub(crate) fn new(config: &AsteriskConfig) -> Self {
        Self {
            passwords: config.users.iter().cloned().collect(),
            config: config.clone(),
            nonces: Recent::new(NONCES),
            bound: HashMap::new(),
            accepted: 0,
        }
    }

    /// Checks a request's credentials (RFC 3261 §22.4).
    pub(crate) fn judge(&mut self, request: &Message, method: &str) -> Verdict {
        let Some(user) = from_user(request) else {
            return Verdict::Refuse(400);
        };
        let Some(password) = self.passwords.get(&user).cloned() else {
            return Verdict::Refuse(404);
        };
        let credentials = request
            .header(HeaderName::Authorization)
            .and_then(|value| Credentials::parse(&text(value)));
        let Some(credentials) = credentials else {
            return Verdict::Challenge(self.challenge(false));
        };
        if credentials.user != user || !credentials.verify(&password, method) {
            return Verdict::Refuse(403);
        }
        // With qop the client counts the uses of a nonce; without, a nonce is good for one use.
        let fresh = match self.nonces.get(&credentials.nonce) {
            Some(used) => credentials.qop.is_some() || !used,
            None => false,
        };
        if !fresh {
            return Verdict::Challenge(self.challenge(true));
        }
        self.nonces.insert(credentials.nonce, true);
        Verdict::Pass(user)
    }

    /// Binds what a REGISTER asks for (RFC 3261 §10.3); one contact per user, as chan_sip.
    pub(crate) fn register(&mut self, user: &str, request: &Message, from: Peer) -> Granted {
        let (contact, expires, path) = contact_and_path(request);
        let expires = expires.unwrap_or(DEFAULT_EXPIRES);
        let Some(contact) = contact.filter(|contact| expires > 0 && contact != "*") else {
            self.bound.remove(user);
            self.accepted += 1;
            return Granted::Removed;
        };
        if expires < self.config.min_expires {
            return Granted::TooBrief(self.config.min_expires);
        }
        let supported = request.lists(HeaderName::Supported, "path");
        if self.config.strict_path && !path.is_empty() && !supported {
            return Granted::BadExtension;
        }
        let registration = Registration {
            contact,
            path,
            expires: expires.min(self.config.max_expires),
            source: from.address,
            transport: from.transport,
        };
        let until = Instant::now() + Duration::from_secs(u64::from(registration.expires));
        self.bound
            .insert(user.to_owned(), (registration.clone(), until));
        self.accepted += 1;
        Granted::Bound(registration)
    }

    pub(crate) fn registration(&self, user: &str) -> Option<Registration> {
        let (registration, until) = self.bound.get(user)?;
        (*until > Instant::now()).then(|| registration.clone())
    }

    pub(crate) const fn accepted(&self) -> usize {
        self.accepted
    }

    fn challenge(&mut self, stale: bool) -> String {
        let nonce = random_token();
        self.nonces.insert(nonce.clone(), false);
        let challenge = Challenge {
            realm: self.config.realm.clone(),
            nonce,
            opaque: self.config.qop.then(random_token),
            algorithm: Algorithm::Md5,
            qop_auth: self.config.qop,
            stale,
        };
        challenge.write()
    }
}

fn from_user(request: &Message) -> Option<String> {
    let from = request.from().ok()?;
    let uri = Uri::parse(from.uri).ok()?;
    Some(text(&uri.user_unescaped()?))
}
