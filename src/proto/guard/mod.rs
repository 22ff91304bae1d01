//! Who may ask how often, and who is no longer listened to.
//!
//! It stands before everything else for requests of strangers: those whose flow has no registered
//! device, and who are no upstream. A message of a registered phone passes it without a look-up.
//!
//! An address proves itself by a connection, or by a request over UDP that repeats a challenge that
//! only this address was sent. Only what has proved itself is banned or reported: a datagram can be
//! sent in anybody's name. Addresses of upstreams, of the allow-list, and those behind which a phone
//! has registered, are never banned. All that is kept here has a bound.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use siphasher::sip::SipHasher13;

use crate::proto::reject::Reject;
use crate::proto::settings::{self, Rate, Settings};
use crate::proto::sip::{HeaderName, Message, Method};
use crate::proto::{AorId, Flow};

mod aged;
mod rate;

use aged::Aged;
use rate::{Buckets, take};

/// Lines about offenders that a shard writes at most: what else there is, is only counted.
const LINES: Rate = Rate {
    burst: 50,
    interval: std::time::Duration::from_millis(50),
};
/// Of the requests beyond a rate, so many are looked at for what excuses them.
const SECOND_LOOKS: Rate = Rate {
    burst: 1000,
    interval: std::time::Duration::from_millis(1),
};

/// The guard of one shard.
#[derive(Debug)]
pub struct Guard {
    settings: Arc<Settings>,
    key: [u64; 2],
    /// Requests of strangers, by address.
    requests: Buckets<IpAddr>,
    /// Requests of registered agents that begin something.
    agents: Buckets<AorId>,
    /// Refused REGISTERs by account, and by address.
    account_failures: Buckets<AorId>,
    address_failures: Buckets<IpAddr>,
    /// What proven strangers did that they should not have.
    offences: Buckets<IpAddr>,
    /// Until when.
    bans: Aged<IpAddr, Instant>,
    /// Addresses behind which a phone has registered.
    good: Aged<IpAddr, ()>,
    /// Hashes of address and nonce of the challenges that strangers were sent.
    challenges: Aged<u64, ()>,
    /// The REGISTERs of unknown devices, all together.
    registers: Rate,
    registers_empty_at: Option<Instant>,
    lines_empty_at: Option<Instant>,
    looks_empty_at: Option<Instant>,
}

/// What the guard says of an offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// Whether the address is banned now.
    pub is_banned: bool,
    /// Whether to write a line: there is a limit to them.
    pub is_told: bool,
}

impl Guard {
    /// A guard that knows nobody; `shards` share what holds for the whole gateway.
    #[must_use]
    pub fn new(settings: Arc<Settings>, shards: u16, key: [u64; 2]) -> Self {
        let guard = &settings.guard;
        let entries = guard.entries;
        Self {
            registers: shared(guard.registers, shards),
            key,
            requests: Buckets::new(shared(guard.requests, shards), entries),
            agents: Buckets::new(guard.agent_requests, entries),
            account_failures: Buckets::new(guard.account_failures, entries),
            address_failures: Buckets::new(address_failures(guard, shards), entries),
            offences: Buckets::new(guard.offences, entries),
            bans: Aged::new(entries),
            good: Aged::new(entries),
            challenges: Aged::new(entries),
            registers_empty_at: None,
            lines_empty_at: None,
            looks_empty_at: None,
            settings,
        }
    }

    /// Goes by these settings from now on; what it knows stays.
    pub fn reload(&mut self, settings: Arc<Settings>, shards: u16) {
        let guard = &settings.guard;
        self.requests.change(shared(guard.requests, shards));
        self.agents.change(guard.agent_requests);
        self.account_failures.change(guard.account_failures);
        let failures = address_failures(guard, shards);
        self.address_failures.change(failures);
        self.offences.change(guard.offences);
        self.registers = shared(guard.registers, shards);
        self.settings = settings;
    }

    /// Looks at a request of a stranger before anybody else does.
    ///
    /// # Errors
    /// When nothing more is to be done with it.
    pub fn admit(&mut self, now: Instant, flow: &Flow, request: &Message) -> Result<(), Reject> {
        if self.is_exempt(flow) {
            return Ok(());
        }
        self.admit_address(now, flow)?;
        if self.is_scanner(request) {
            return Err(Reject::Scanner);
        }
        if self.requests.take(now, client(flow)) {
            return Ok(());
        }
        // It may be a customer in whose name somebody else floods us: what repeats our challenge,
        // or a known device (`admit_register`), is not of the flood.
        let look = take(SECOND_LOOKS, now, self.looks_empty_at).ok_or(Reject::TooFast)?;
        self.looks_empty_at = Some(look);
        match request.method() {
            Some(Method::Register) => Ok(()),
            _ => Err(Reject::TooFast),
        }
    }

    /// Looks at bytes of a stranger that are no message.
    ///
    /// # Errors
    /// When nothing more is to be done with them.
    pub fn admit_malformed(&mut self, now: Instant, flow: &Flow) -> Result<(), Reject> {
        if self.is_exempt(flow) {
            return Ok(());
        }
        self.admit_address(now, flow)?;
        if self.requests.take(now, client(flow)) {
            Ok(())
        } else {
            Err(Reject::TooFast)
        }
    }

    fn admit_address(&self, now: Instant, flow: &Flow) -> Result<(), Reject> {
        let until = self.bans.find(&client(flow));
        if until.is_some_and(|until| until > now) && !self.is_good(flow) {
            return Err(Reject::Banned);
        }
        Ok(())
    }

    /// Looks at a stranger's REGISTER that could be read. `is_known`: its agent has this device
    /// already, which nobody else can know.
    ///
    /// # Errors
    /// When it goes no further.
    pub fn admit_register(
        &mut self,
        now: Instant,
        flow: &Flow,
        request: &Message,
        (aor, is_known): (AorId, bool),
    ) -> Result<(), Reject> {
        if is_known || self.is_exempt(flow) {
            return Ok(());
        }
        let address = client(flow);
        let is_trying = has_credentials(request);
        if is_trying && !self.account_failures.has_room(now, aor)
            || !self.is_good(flow) && !self.address_failures.has_room(now, address)
        {
            return Err(Reject::TooManyFailures);
        }
        // Beyond its address's rate, and not excused: `admit` let it come so far for a look.
        let is_excused = is_trying && self.answers_challenge(flow, request);
        if !is_excused && !self.requests.has_room(now, address) {
            return Err(Reject::TooFast);
        }
        let next = take(self.registers, now, self.registers_empty_at);
        self.registers_empty_at = Some(next.ok_or(Reject::TooManyRegisters)?);
        Ok(())
    }

    /// Counts a request of a registered agent that begins something.
    ///
    /// # Errors
    /// When that is one too many.
    pub fn admit_agent(&mut self, now: Instant, aor: AorId) -> Result<(), Reject> {
        if !self.settings.guard.is_on || self.agents.take(now, aor) {
            Ok(())
        } else {
            Err(Reject::AgentTooFast)
        }
    }

    /// The upstream refused a stranger's REGISTER. `Some` if whoever sent it has proved itself.
    pub fn on_refused(
        &mut self,
        now: Instant,
        flow: &Flow,
        request: &Message,
        aor: AorId,
    ) -> Option<Offence> {
        if self.is_exempt(flow) || !self.has_proved(flow, request) {
            return None;
        }
        self.account_failures.take(now, aor);
        self.address_failures.take(now, client(flow));
        self.on_offence(now, flow, request, Reject::WrongCredentials)
    }

    /// A stranger sent what it may not send. `Some` if it has proved itself.
    pub fn on_offence(
        &mut self,
        now: Instant,
        flow: &Flow,
        request: &Message,
        reject: Reject,
    ) -> Option<Offence> {
        if self.is_exempt(flow) || !self.has_proved(flow, request) {
            return None;
        }
        let address = client(flow);
        let ban = self.settings.guard.ban;
        let is_too_much = reject == Reject::Scanner || !self.offences.take(now, address);
        let is_banned = is_too_much && !ban.is_zero() && !self.is_good(flow);
        if is_banned {
            self.bans.put(address, now + ban);
            self.offences.forgive(address);
        }
        let line = take(LINES, now, self.lines_empty_at);
        self.lines_empty_at = line.or(self.lines_empty_at);
        Some(Offence {
            is_banned,
            is_told: line.is_some() && !self.is_good(flow),
        })
    }

    /// A phone has registered: its address is not banned, whoever else is behind it.
    pub fn on_registered(&mut self, flow: &Flow) {
        let address = client(flow);
        self.good.put(address, ());
        self.bans.forget(&address);
    }

    /// A stranger is sent this challenge.
    pub fn on_challenged(&mut self, flow: &Flow, response: &Message) {
        if flow.transport.is_reliable() {
            return;
        }
        for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
            for nonce in nonces(response, name) {
                self.challenges.put(self.hash(flow, nonce), ());
            }
        }
    }

    /// Whether the sender of a request is where it says: it is a connection, or repeats a challenge.
    #[must_use]
    pub fn has_proved(&self, flow: &Flow, request: &Message) -> bool {
        flow.transport.is_reliable() || self.answers_challenge(flow, request)
    }

    /// Whether strangers are told that they may not.
    #[must_use]
    pub fn answers_strangers(&self) -> bool {
        self.settings.guard.answer_strangers
    }

    /// Entries of all tables, for checks of their bound.
    #[must_use]
    pub fn count(&self) -> usize {
        self.requests.count()
            + self.agents.count()
            + self.account_failures.count()
            + self.address_failures.count()
            + self.offences.count()
            + self.bans.count()
            + self.good.count()
            + self.challenges.count()
    }

    fn is_exempt(&self, flow: &Flow) -> bool {
        let settings::Guard { is_on, allow, .. } = &self.settings.guard;
        let address = flow.remote.ip().to_canonical();
        !is_on || allow.iter().any(|net| net.contains(&address))
    }

    fn is_good(&self, flow: &Flow) -> bool {
        self.good.find(&client(flow)).is_some()
    }

    fn is_scanner(&self, request: &Message) -> bool {
        let Some(agent) = request.header(HeaderName::UserAgent) else {
            return false;
        };
        let scanners = &self.settings.guard.scanners;
        scanners.iter().any(|name| contains(agent, name.as_bytes()))
    }

    fn answers_challenge(&self, flow: &Flow, request: &Message) -> bool {
        [HeaderName::Authorization, HeaderName::ProxyAuthorization]
            .into_iter()
            .flat_map(|name| nonces(request, name))
            .any(|nonce| self.challenges.find(&self.hash(flow, nonce)).is_some())
    }

    fn hash(&self, flow: &Flow, nonce: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        match client(flow) {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write(nonce);
        hasher.finish()
    }
}

/// A shard's share of a rate of the whole gateway.
fn shared(rate: Rate, shards: u16) -> Rate {
    Rate {
        burst: (rate.burst / u32::from(shards).max(1)).max(1),
        interval: rate.interval * u32::from(shards).max(1),
    }
}

/// A shard's share of an address's wrong passwords: of each account there is one shard, which must
/// leave it as many as an account has.
fn address_failures(guard: &settings::Guard, shards: u16) -> Rate {
    let share = shared(guard.address_failures, shards);
    let least = guard
        .account_failures
        .burst
        .min(guard.address_failures.burst);
    Rate {
        burst: share.burst.max(least),
        ..share
    }
}

/// Whether a request carries credentials.
#[must_use]
pub fn has_credentials(request: &Message) -> bool {
    [HeaderName::Authorization, HeaderName::ProxyAuthorization]
        .into_iter()
        .any(|name| request.header(name).is_some())
}

/// Whether a challenge says that only the nonce was too old (RFC 3261 §22.4).
#[must_use]
pub fn is_stale(response: &Message) -> bool {
    [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate]
        .into_iter()
        .filter_map(|name| response.header(name))
        .any(|value| contains(value, b"stale=true") || contains(value, b"stale=\"true\""))
}

/// What counts as one client: an IPv6 client owns a /64.
fn client(flow: &Flow) -> IpAddr {
    match flow.remote.ip().to_canonical() {
        ip @ IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// The nonces that the lines of a header carry.
fn nonces(message: &Message, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = message.headers().filter(move |line| line.name == name);
    lines.filter_map(|line| nonce(line.value))
}

/// The value of `nonce` (and not of `cnonce`) without its quotes.
fn nonce(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    loop {
        let at = rest
            .windows(6)
            .position(|part| part.eq_ignore_ascii_case(b"nonce="))?;
        let (before, found) = rest.split_at_checked(at)?;
        let found = found.get(6..)?;
        if matches!(before.last(), None | Some(b' ' | b'\t' | b',' | b'\n')) {
            let found = found.strip_prefix(b"\"").unwrap_or(found);
            let end = found
                .iter()
                .position(|byte| matches!(byte, b'"' | b',' | b' '));
            return Some(end.and_then(|end| found.get(..end)).unwrap_or(found));
        }
        rest = found;
    }
}

/// Whether text has a part in it, in any case.
fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty()
        && text
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_is_found_and_the_clients_own_is_not_it() {
        for (value, expected) in [
            (
                &b"Digest realm=\"a\", nonce=\"n1\", qop=\"auth\""[..],
                Some(&b"n1"[..]),
            ),
            (b"Digest cnonce=\"c\",nonce=\"n2\"", Some(b"n2")),
            (b"Digest cnonce=\"c\"", None),
            (b"Digest NONCE=n3, uri=\"x\"", Some(b"n3")),
            (b"Digest\r\n nonce=\"n4", Some(b"n4")),
            (b"nonce=", Some(b"")),
            (b"", None),
        ] {
            assert_eq!(nonce(value), expected, "{}", value.escape_ascii());
        }
    }
}
