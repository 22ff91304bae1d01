//! A registration that the gateway refreshes for a device that sleeps (RFC 3261 §10.2.4): what it
//! says, how it answers a challenge, what the registrar's answer means, and when it is due.

use std::time::{Duration, Instant};

use crate::proto::digest::{Asking, Challenge, Secrets};
use crate::proto::push::refresh;
use crate::proto::registration::relay::{Ask, DeviceAsk, Relay, escape_user};
use crate::proto::sip::{HeaderName, Message};

/// So many requests are sent for one refresh; challenges, a stale nonce and a 423 need four.
const MOST_REQUESTS: u8 = 5;

/// When the gateway refreshes a registration that was granted at `since` until `expires`: evenly
/// spread, by `random`, over a quarter of its time, which ends when a push would be due; so those
/// that began together do not stay together. `None` if that is not after `now`.
#[must_use]
pub fn due(since: Instant, expires: Instant, now: Instant, random: u64) -> Option<Instant> {
    let whole = expires.saturating_duration_since(since);
    let before = refresh::first_before(whole).unwrap_or(whole / 2);
    let latest = expires.checked_sub(before)?;
    let share = whole / 4 / 1024 * u32::try_from(random % 1024).unwrap_or(0);
    let at = latest.checked_sub(share)?;
    (latest > now).then(|| at.max(now + Duration::from_secs(1)).min(latest))
}

/// Why a registration could not be refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepFailure {
    /// The registrar does not take the credentials.
    WrongCredentials,
    /// It asks for a realm or a hash that there are no credentials for.
    NoCredentials,
    /// It refuses, whoever asks: 403, 404.
    Refused(u16),
    /// Nobody answered, or the answer says that it is of no use now.
    Unavailable,
}

impl KeepFailure {
    /// Its name in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::WrongCredentials => "wrong-credentials",
            Self::NoCredentials => "no-credentials",
            Self::Refused(_) => "refused",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether it is the same the next time, until an operator does something.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::WrongCredentials | Self::NoCredentials | Self::Refused(_) => true,
            Self::Unavailable => false,
        }
    }
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It holds for so many seconds more.
    Granted(u32),
    /// The request goes out again, to the same registrar.
    Again,
    /// That was it.
    Failed(KeepFailure),
}

/// A refresh under way.
#[derive(Debug)]
pub struct Refresh {
    /// Whose, and what the registrar is to know.
    pub relay: Relay,
    /// The Request-URI; the digest covers it.
    pub uri: String,
    /// From and To, without tags.
    pub address: String,
    /// Call-ID: always the same for a device (RFC 3261 §10.2.4).
    pub call_id: String,
    /// From's tag.
    pub tag: u64,
    /// Rises from one request to the next, across refreshes and restarts.
    pub cseq: u32,
    /// The credentials' line.
    pub credentials: Option<(HeaderName, String)>,
    requests: u8,
    is_answered: bool,
    was_stale: bool,
    is_lengthened: bool,
}

impl Refresh {
    /// A refresh of the one device that `relay` names; `host` stands for us where the agent has no
    /// domain, `unix_ms` is the time.
    #[must_use]
    pub fn new(relay: Relay, host: &str, unix_ms: u64, tag: u64) -> Self {
        let domain = match &*relay.aor.domain {
            "" => host.to_owned(),
            name if name.contains(':') => format!("[{name}]"),
            name => name.to_owned(),
        };
        let user = escape_user(&relay.aor.user);
        let device = match &relay.ask {
            Ask::Devices(devices) => devices.first().map(|device| device.id.0),
            Ask::Query | Ask::RemoveAll => None,
        };
        Self {
            uri: format!("sip:{domain}"),
            address: format!("sip:{user}@{domain}"),
            call_id: format!(
                "{:016x}{:016x}@{host}",
                relay.aor.id().0,
                device.unwrap_or_default()
            ),
            tag,
            // Seconds: fewer requests are sent in the time, and it needs no memory (RFC 3261
            // §8.1.1.5 has it below 2^31).
            cseq: u32::try_from(unix_ms / 1000 % (1 << 31)).unwrap_or(1),
            credentials: None,
            relay,
            requests: 0,
            is_answered: false,
            was_stale: false,
            is_lengthened: false,
        }
    }

    /// Takes the registrar's final answer.
    pub fn on_answer(&mut self, response: &Message, secrets: &Secrets, random: [u64; 2]) -> Next {
        let status = response.status().unwrap_or(500);
        self.requests += 1;
        let next = match status {
            200..=299 => match self.device().map(|own| self.relay.granted(response, own)) {
                Some(granted) => Next::Granted(granted),
                None => Next::Failed(KeepFailure::Unavailable),
            },
            401 | 407 => self.on_challenge(response, secrets, random),
            423 => self.lengthen(response),
            403 | 404 => Next::Failed(KeepFailure::Refused(status)),
            _ => Next::Failed(KeepFailure::Unavailable),
        };
        if next == Next::Again && self.requests >= MOST_REQUESTS {
            return Next::Failed(KeepFailure::Unavailable);
        }
        if next == Next::Again {
            self.cseq = self.cseq.wrapping_add(1);
        }
        next
    }

    /// Goes on at another registrar, whose nonce is another.
    pub fn start_over(&mut self) {
        self.cseq = self.cseq.wrapping_add(1);
        self.credentials = None;
        (self.is_answered, self.was_stale) = (false, false);
    }

    fn on_challenge(&mut self, response: &Message, secrets: &Secrets, random: [u64; 2]) -> Next {
        let challenges = response.headers().filter(|header| {
            matches!(
                header.name,
                HeaderName::WwwAuthenticate | HeaderName::ProxyAuthenticate
            )
        });
        let challenges = challenges.filter_map(|header| Challenge::parse(header.value));
        let user = &self.relay.aor.user;
        let Some(challenge) = Challenge::strongest(challenges.collect(), secrets, user) else {
            return Next::Failed(KeepFailure::NoCredentials);
        };
        // The same again after a right answer: it was not right (RFC 3261 §22.1).
        let is_stale = challenge.is_stale && !self.was_stale;
        if self.is_answered && !is_stale {
            return Next::Failed(KeepFailure::WrongCredentials);
        }
        self.was_stale |= self.is_answered;
        self.is_answered = true;
        let [one, other] = random;
        let asking = Asking {
            method: "REGISTER",
            uri: &self.uri,
            user,
            cnonce: &format!("{one:016x}{other:016x}"),
        };
        let name = if response.status() == Some(407) {
            HeaderName::ProxyAuthorization
        } else {
            HeaderName::Authorization
        };
        let answer = challenge.answer(secrets, asking);
        self.credentials = answer.map(|answer| (name, answer));
        Next::Again
    }

    /// RFC 3261 §10.3 step 7: the registrar wants it to be longer.
    fn lengthen(&mut self, response: &Message) -> Next {
        let least = response
            .header(HeaderName::MinExpires)
            .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
        let own = match &mut self.relay.ask {
            Ask::Devices(devices) => devices.first_mut(),
            Ask::Query | Ask::RemoveAll => None,
        };
        match (own, least) {
            (Some(own), Some(least)) if !self.is_lengthened && least > own.expires => {
                own.expires = least;
                self.is_lengthened = true;
                // A nonce is good for one use here.
                self.credentials = None;
                self.is_answered = false;
                Next::Again
            }
            _ => Next::Failed(KeepFailure::Unavailable),
        }
    }

    fn device(&self) -> Option<&DeviceAsk> {
        match &self.relay.ask {
            Ask::Devices(devices) => devices.first(),
            Ask::Query | Ask::RemoveAll => None,
        }
    }
}
