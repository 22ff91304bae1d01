//! A binding: one device of an agent, and how it is reached (RFC 3261 §10, RFC 5626 §6).

use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::proto::push::params::PushParams;
use crate::proto::sip::NameAddr;
use crate::proto::timer::TimerKey;
use crate::proto::{AorId, AppId, BindingId, BindingKey, Claim, Flow};

/// A datagram flow on which nothing was heard for so long has nobody behind it: keep-alives come
/// at least twice as often (RFC 5626 §4.4.2).
const AWAKE: Duration = Duration::from_secs(60);

/// As long a copy of a REGISTER may be under way: Timer F, 64*T1 (RFC 3261 §17.1.2.2).
const STRAYS: Duration = Duration::from_secs(32);

/// A REGISTER among those of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When it arrived; since a restart, when that was.
    pub at: Instant,
    /// The number of its CSeq; `None` since a restart.
    pub cseq: Option<u32>,
}

/// A binding as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBinding {
    /// Its name.
    pub key: BindingKey,
    /// The agent's user part, unescaped.
    pub user: Box<str>,
    /// The agent's domain; empty for the gateway's own addresses.
    pub domain: Box<str>,
    /// The upstream group's name.
    pub upstream: Box<str>,
    /// The value of the Contact header as the device sent it, without `expires`.
    pub contact: Bytes,
    /// `+sip.instance`, unquoted.
    pub instance: Option<Box<str>>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// How to wake it.
    pub push: Option<PushParams>,
    /// The flow of its last REGISTER: a datagram flow may still work after a restart.
    pub flow: Flow,
    /// The Call-ID of its last REGISTER.
    pub call_id: Box<str>,
    /// When it ends, seconds since the Unix epoch.
    pub expires_unix: u64,
    /// When it last registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
}

/// A binding as a shard keeps it.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its number.
    pub id: BindingId,
    /// The value of the Contact header as the device sent it, without `expires`.
    pub contact: Bytes,
    /// `+sip.instance`, unquoted.
    pub instance: Option<Box<str>>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// How to wake it.
    pub push: Option<Box<PushParams>>,
    /// The app that it is without being pushed: its token died, and another agent may register it.
    pub former_apps: Option<Box<[AppId]>>,
    /// The flow of its last REGISTER: where it was last, open or not.
    pub last_flow: Flow,
    /// Whether the store has all of it: only then its times alone may be written.
    pub is_durable: bool,
    /// Whether its last REGISTER is not answered yet, since the store has not answered.
    pub awaits_store: bool,
    /// Whether that flow may still carry a request.
    pub is_flow_open: bool,
    /// When it last registered, or its flow was last heard before it closed; `None` since a restart.
    /// `LocationService::last_heard` knows of the flow that is open.
    pub last_heard: Option<Instant>,
    /// The Call-ID of its last REGISTER.
    pub call_id: Box<str>,
    /// When it last took part in a call.
    pub last_call: Option<Instant>,
    /// When it ends.
    pub expires: Instant,
    /// When it last registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
    /// Which of its REGISTERs that was.
    pub asked: Asked,
    /// Its armed expiry.
    pub timer: Option<TimerKey>,
    /// The Contact's q-value in thousandths (RFC 3261 §20.10).
    pub q: u16,
}

impl Binding {
    /// The flow on which it may be reached now.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        self.is_flow_open.then_some(self.last_flow)
    }

    /// Whether its app runs: it has a connection open, or something was heard from it lately.
    #[must_use]
    pub fn is_awake(&self, now: Instant, last_heard: Option<Instant>) -> bool {
        let is_heard =
            || last_heard.is_some_and(|heard| now.saturating_duration_since(heard) < AWAKE);
        self.flow()
            .is_some_and(|flow| flow.transport.is_reliable() || is_heard())
    }

    /// Whether it said that it refreshes by itself (`+sip.pnsreg`, RFC 8599 §8.5).
    #[must_use]
    pub fn refreshes_itself(&self) -> bool {
        NameAddr::parse(&self.contact)
            .is_ok_and(|address| address.params.get("+sip.pnsreg").is_some())
    }

    /// The app on a phone that can be pushed, by what it is known: its token, and its instance.
    #[must_use]
    pub fn apps(&self) -> SmallVec<[AppId; 2]> {
        match &self.push {
            Some(push) => apps_of(push, self.instance.as_deref()),
            None => SmallVec::from_slice(self.former_apps.as_deref().unwrap_or_default()),
        }
    }

    /// Whether its last REGISTER counts more than another of its agent's, though that is answered
    /// later. RFC 3261 §10.3 has them processed in the order in which they are received, and those
    /// of one Call-ID by their CSeq; which goes for copies alone, lest an app that counts anew with
    /// the same Call-ID be deaf.
    #[must_use]
    pub fn came_after(&self, asked: Asked, call_id: &str) -> bool {
        let (own, other) = (self.asked, asked);
        let apart =
            own.at.saturating_duration_since(other.at) + other.at.saturating_duration_since(own.at);
        match (own.cseq, other.cseq) {
            (Some(own), Some(other))
                if *self.call_id == *call_id && own != other && apart < STRAYS =>
            {
                own > other
            }
            _ => own.at > other.at,
        }
    }

    /// Its claim to one of its apps.
    #[must_use]
    pub fn claim(&self, aor: AorId, app: AppId) -> Claim {
        let token = self.push.as_ref().map(|push| push.wakes());
        Claim {
            app,
            by: BindingKey {
                aor,
                binding: self.id,
            },
            flow: self.last_flow.id,
            is_by_instance: Some(app) != token,
            asked: self.asked.at,
        }
    }

    /// The URI of its Contact.
    #[must_use]
    pub fn contact_uri(&self) -> &[u8] {
        NameAddr::parse(&self.contact).map_or(&[][..], |address| address.uri)
    }
}

/// The app of a device that is not pushed though its Contact names a token.
#[must_use]
pub fn unpushed_apps(contact: &[u8], instance: Option<&str>) -> Option<Box<[AppId]>> {
    let address = NameAddr::parse(contact).ok()?;
    let push = PushParams::read(address.parse_uri().ok()?.params).ok()?;
    Some(apps_of(&push, instance).as_slice().into())
}

fn apps_of(push: &PushParams, instance: Option<&str>) -> SmallVec<[AppId; 2]> {
    let by_instance = instance.map(|name| push.installed_as(name));
    [push.wakes()].into_iter().chain(by_instance).collect()
}

/// The identity of a device (RFC 5626 §4.1, RFC 8599 §4.1): its instance and reg-id, else its push
/// token, else its Contact URI.
#[must_use]
pub fn device_identity(
    instance: Option<&str>,
    reg_id: Option<u32>,
    push: Option<&PushParams>,
    contact_uri: &[u8],
) -> Vec<u8> {
    match (instance, push) {
        (Some(instance), _) => {
            let mut identity = format!("instance {instance}").into_bytes();
            if let Some(reg_id) = reg_id {
                identity.extend_from_slice(format!(" {reg_id}").as_bytes());
            }
            identity
        }
        (None, Some(push)) => format!(
            "prid {} {} {}",
            push.pns.label(),
            push.app,
            push.call_token.expose()
        )
        .into_bytes(),
        (None, None) => [b"contact ".as_slice(), contact_uri].concat(),
    }
}
