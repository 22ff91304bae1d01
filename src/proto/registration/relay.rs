//! Relaying one REGISTER (RFC 3261 §10, RFC 3327, RFC 8599 §5.6.1).
//!
//! The phone's Contact becomes ours on the way up and its own again on the way down; what the
//! upstream granted becomes changes of bindings. Pure: who sends, stores and answers is the
//! proxy's business.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::proto::aor::{Aor, CONTACT_PARAM};
use crate::proto::push::params::{NoPush, PushParams, is_push_param};
use crate::proto::push::refresh::SHORTEST;
use crate::proto::registration::binding::{device_identity, instance_of};
use crate::proto::registration::location::Agent;
use crate::proto::registration::offer::{Offer, configured};
use crate::proto::registration::outbound;
use crate::proto::reject::Reject;
use crate::proto::settings::{ContactMode, Settings};
use crate::proto::sip::{Contact, HeaderName, Message, NameAddr, Uri, unescape};
use crate::proto::{AorId, BindingId, BindingKey, FlowId};

/// What a REGISTER asks when it names no time (RFC 3261 §10.2.1.1 leaves it to the registrar).
const DEFAULT_EXPIRES: u32 = 3600;

/// One REGISTER on its way.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Whose.
    pub aor: Aor,
    /// The upstream group.
    pub upstream: u16,
    /// How that group sees devices.
    pub mode: ContactMode,
    /// What it asks.
    pub ask: Ask,
    /// The push services that are offered in return, RFC 8599 §5.6.1.
    pub offer: Offer,
    /// Whether outbound is applied to it (RFC 5626 §6).
    pub is_outbound: bool,
}

/// What a REGISTER asks.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Nothing: which bindings are there?
    Query,
    /// Remove all bindings (`Contact: *`).
    RemoveAll,
    /// Add, refresh or remove these devices.
    Devices(SmallVec<[DeviceAsk; 1]>),
}

/// What a REGISTER asks for one Contact.
#[derive(Clone, Debug)]
pub struct DeviceAsk {
    /// Its number.
    pub id: BindingId,
    /// The Contact's value without `expires`.
    pub contact: Bytes,
    /// `+sip.instance`.
    pub instance: Option<Box<str>>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
    /// How to wake it, or why not.
    pub push: Result<PushParams, NoPush>,
    /// Whether that was entered for it, and not said by its Contact.
    pub is_entered: bool,
    /// q in thousandths.
    pub q: u16,
    /// For how long, seconds; 0 removes it.
    pub expires: u32,
}

impl DeviceAsk {
    /// Whether another REGISTER speaks of the same device, as [`Agent::number_of`] knows one;
    /// `is_there`: it came on the same flow.
    #[must_use]
    pub fn is_same(&self, other: &Self, is_there: bool) -> bool {
        let has_instance = self.instance.is_some() && self.instance == other.instance;
        let has_app = || {
            let both = self.push.as_ref().ok().zip(other.push.as_ref().ok());
            both.is_some_and(|(one, other)| one.wakes_same_app(other))
        };
        let has_place = || {
            let own = NameAddr::parse(&self.contact);
            let other = NameAddr::parse(&other.contact);
            let uris = own.ok().zip(other.ok());
            let uris =
                uris.and_then(|(own, other)| own.parse_uri().ok().zip(other.parse_uri().ok()));
            uris.is_some_and(|(own, other)| {
                is_there && (own.user, own.host, own.port) == (other.user, other.host, other.port)
            })
        };
        self.reg_id == other.reg_id && (has_instance || has_app() || has_place())
    }
}

/// What the upstream is sent instead of the phone's Contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamContacts {
    /// The request's own Contact lines, as they are.
    AsSent,
    /// These values and this Expires.
    Ours {
        /// Contact values.
        values: SmallVec<[String; 1]>,
        /// Seconds.
        expires: u32,
    },
}

impl Relay {
    /// Reads a REGISTER for an agent of an upstream.
    ///
    /// # Errors
    /// The refusal if it cannot be read.
    pub fn read(
        request: &Message,
        aor: Aor,
        upstream: u16,
        settings: &Settings,
    ) -> Result<Self, Reject> {
        let group = settings.upstreams.get(usize::from(upstream));
        let group = group.ok_or(Reject::UnknownDomain)?;
        let least = seconds(group.expires);
        let is_nearer = request
            .values(HeaderName::FeatureCaps)
            .any(|caps| memchr::memmem::find(caps, b"+sip.pns=").is_some());
        let mut offer = Offer::default();
        let header_expires = request.expires().map_err(|_| Reject::Malformed)?;
        let mut devices = SmallVec::new();
        let mut is_star = false;
        for contact in request.contacts() {
            match contact.map_err(|_| Reject::Malformed)? {
                Contact::Star => is_star = true,
                Contact::Address(address) => {
                    let mut device = DeviceAsk::read(&address, header_expires, aor.id())?;
                    offer.consider(&mut device, &address, settings, is_nearer, least)?;
                    if !is_nearer && device.expires.max(least) >= SHORTEST {
                        configured(&mut device, &aor, request, &settings.push);
                    }
                    devices.push(device);
                }
            }
        }
        // RFC 3261 §10.3 step 6: the wildcard goes with Expires: 0 and with nothing else.
        if is_star && (header_expires != Some(0) || !devices.is_empty()) {
            return Err(Reject::Malformed);
        }
        let is_outbound = outbound::applies(request, &devices, group.contact)?;
        let ask = match (is_star, devices.is_empty()) {
            (true, _) => Ask::RemoveAll,
            (false, true) => Ask::Query,
            (false, false) => Ask::Devices(devices),
        };
        Ok(Self {
            aor,
            upstream,
            mode: group.contact,
            ask,
            offer,
            is_outbound,
        })
    }

    /// Whether it asks to be reachable.
    #[must_use]
    pub fn adds(&self) -> bool {
        match &self.ask {
            Ask::Query | Ask::RemoveAll => false,
            Ask::Devices(devices) => devices.iter().any(|device| device.expires > 0),
        }
    }

    /// The Contact that the upstream is sent, at this address of ours (`host:port` with transport
    /// parameter if it needs one). `others` is the longest time, in seconds, that a device not
    /// named in this REGISTER stays.
    #[must_use]
    pub fn upstream_contacts(
        &self,
        our_address: &str,
        least: Duration,
        others: Option<u32>,
    ) -> UpstreamContacts {
        let devices = match &self.ask {
            Ask::Query => return UpstreamContacts::AsSent,
            // The wildcard would take the agent's one contact: right, all devices go.
            Ask::RemoveAll => return UpstreamContacts::AsSent,
            Ask::Devices(devices) => devices,
        };
        let longest = devices
            .iter()
            .map(|device| device.expires)
            .max()
            .unwrap_or(0);
        let least = seconds(least);
        let aor = self.aor.id();
        let user = self.escaped_user();
        let mut values = SmallVec::new();
        match self.mode {
            ContactMode::Agent => {
                // Neither a device that leaves nor one that asks for less than others have may take
                // the agent's one contact from them.
                let own = if longest > 0 { longest.max(least) } else { 0 };
                let expires = own.max(others.unwrap_or(0));
                values.push(format!(
                    "<sip:{user}@{our_address};{CONTACT_PARAM}={:016x}>",
                    aor.0
                ));
                UpstreamContacts::Ours { values, expires }
            }
            ContactMode::Device => {
                for device in devices {
                    values.push(format!(
                        "<sip:{user}@{our_address};{CONTACT_PARAM}={:016x}.{:016x}>;expires={}",
                        aor.0,
                        device.id.0,
                        if device.expires > 0 {
                            device.expires.max(least)
                        } else {
                            0
                        },
                    ));
                }
                let expires = if longest > 0 { longest.max(least) } else { 0 };
                UpstreamContacts::Ours { values, expires }
            }
            ContactMode::Path => {
                for device in devices {
                    values.push(device.for_upstream(least, our_address, aor));
                }
                let expires = if longest > 0 { longest.max(least) } else { 0 };
                UpstreamContacts::Ours { values, expires }
            }
        }
    }

    /// The Contacts under which the upstream still knows the devices of this REGISTER, when it sees
    /// their own and they have changed: they go, or each call would reach the device twice.
    #[must_use]
    pub fn replaced_contacts(
        &self,
        agent: Option<&Agent>,
        our_address: &str,
    ) -> SmallVec<[String; 1]> {
        let (ContactMode::Path, Ask::Devices(devices), Some(agent)) = (self.mode, &self.ask, agent)
        else {
            return SmallVec::new();
        };
        let key = |device: &DeviceAsk| device.key(self.aor.id());
        let named: SmallVec<[Vec<u8>; 1]> = devices
            .iter()
            .filter_map(|device| uri_for_upstream(&device.contact, our_address, key(device)))
            .collect();
        devices
            .iter()
            .filter_map(|device| {
                let old = agent.binding(device.id)?.contact();
                uri_for_upstream(&old, our_address, key(device))
            })
            .filter(|old| !named.contains(old))
            .map(|old| format!("<{}>;expires=0", String::from_utf8_lossy(&old)))
            .collect()
    }

    /// What the upstream granted a device, in seconds, by its 2xx.
    #[must_use]
    pub fn granted(&self, response: &Message, device: &DeviceAsk) -> u32 {
        if device.expires == 0 {
            return 0;
        }
        let ours = response
            .contacts()
            .flatten()
            .find_map(|contact| match contact {
                Contact::Star => None,
                Contact::Address(address) => self.is_ours(&address, device).then_some(address),
            });
        let by_contact = ours.and_then(|address| number(address.params.value("expires")?));
        let granted = by_contact
            .or_else(|| response.expires().ok().flatten())
            .unwrap_or(device.expires);
        // A device that cannot be woken chose its time for its NAT's sake: it keeps its rhythm.
        if device.push.is_err() {
            granted.min(device.expires)
        } else {
            granted
        }
    }

    /// The Contact values of the 2xx to the phone: its own, as it sent them.
    #[must_use]
    pub fn phone_contacts(&self, granted: &[(BindingId, u32)]) -> SmallVec<[Vec<u8>; 1]> {
        let devices = match &self.ask {
            Ask::Query | Ask::RemoveAll => return SmallVec::new(),
            Ask::Devices(devices) => devices,
        };
        devices
            .iter()
            .filter_map(|device| {
                let (_, expires) = granted
                    .iter()
                    .find(|(id, expires)| *id == device.id && *expires > 0)?;
                Some(
                    [
                        &device.contact[..],
                        format!(";expires={expires}").as_bytes(),
                    ]
                    .concat(),
                )
            })
            .collect()
    }

    /// The longest time, in seconds, that devices of the agent stay which this REGISTER does not
    /// name.
    #[must_use]
    pub fn others_stay(&self, agent: Option<&Agent>, now: std::time::Instant) -> Option<u32> {
        let named = |id: BindingId| match &self.ask {
            Ask::Query | Ask::RemoveAll => false,
            Ask::Devices(devices) => devices.iter().any(|device| device.id == id),
        };
        let stay = agent?
            .bindings
            .iter()
            .filter(|binding| !named(binding.id))
            .map(|binding| binding.expires().saturating_duration_since(now).as_secs())
            .max()?;
        Some(u32::try_from(stay).unwrap_or(u32::MAX)).filter(|stay| *stay > 0)
    }

    /// Gives devices that the agent has already their numbers there; a number made of what a device
    /// says of itself is for new ones.
    pub fn recognise(&mut self, agent: &Agent, flow: FlowId) {
        let Ask::Devices(devices) = &mut self.ask else {
            return;
        };
        let mut taken: SmallVec<[BindingId; 2]> = devices.iter().map(|device| device.id).collect();
        for device in devices {
            let push = device.push.as_ref().ok();
            let instance = device.instance.as_deref();
            let place = (&device.contact[..], flow);
            let number = agent.number_of(instance, device.reg_id, push, place);
            let is_named = device.instance.is_some() || push.is_some();
            if let Some(number) = number {
                if !taken.contains(&number) {
                    device.id = number;
                    taken.push(number);
                }
            } else if is_named && agent.binding(device.id).is_some() {
                // Who had that number first was recognised by its token since, as another instance.
                device.id = BindingId::of(self.aor.id(), &device.contact);
            }
        }
    }

    fn is_ours(&self, address: &NameAddr<'_>, device: &DeviceAsk) -> bool {
        let Ok(uri) = address.parse_uri() else {
            return false;
        };
        match self.mode {
            ContactMode::Agent | ContactMode::Device => {
                let Some(value) = uri.params.value(CONTACT_PARAM) else {
                    return false;
                };
                match crate::proto::aor::parse_contact_param(value) {
                    Some((aor, None)) => aor == self.aor.id(),
                    Some((aor, Some(id))) => aor == self.aor.id() && id == device.id,
                    None => false,
                }
            }
            ContactMode::Path => NameAddr::parse(&device.contact)
                .ok()
                .and_then(|own| own.parse_uri().ok())
                .is_some_and(|own| {
                    own.user == uri.user && own.host == uri.host && own.port == uri.port
                }),
        }
    }

    /// The user as a URI may carry it (RFC 3261 §25.1).
    fn escaped_user(&self) -> String {
        escape_user(&self.aor.user)
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

impl DeviceAsk {
    fn read(
        address: &NameAddr<'_>,
        header_expires: Option<u32>,
        aor: AorId,
    ) -> Result<Self, Reject> {
        let uri = address.parse_uri().map_err(|_| Reject::Malformed)?;
        let push = PushParams::read(uri.params);
        let instance = instance_of(address);
        // A reg-id counts the flows of an instance (RFC 5626 §4.2, §6): without one it says nothing.
        let reg_id = address.params.value("reg-id").and_then(number);
        let reg_id = reg_id.filter(|id| instance.is_some() && (1..1 << 31).contains(id));
        let own = address
            .params
            .value("expires")
            .map(|v| number(v).ok_or(Reject::Malformed));
        let expires = own
            .transpose()?
            .or(header_expires)
            .unwrap_or(DEFAULT_EXPIRES);
        let identity =
            device_identity(instance.as_deref(), reg_id, push.as_ref().ok(), address.uri);
        Ok(Self {
            id: BindingId::of(aor, &identity),
            contact: strip_expires(address),
            instance,
            reg_id,
            push,
            is_entered: false,
            q: q_value(address.params.value("q")),
            expires,
        })
    }

    const fn key(&self, aor: AorId) -> BindingKey {
        BindingKey {
            aor,
            binding: self.id,
        }
    }

    /// The Contact for an upstream that sees the phone's own.
    fn for_upstream(&self, least: u32, our_address: &str, aor: AorId) -> String {
        let (Ok(address), Some(uri)) = (
            NameAddr::parse(&self.contact),
            uri_for_upstream(&self.contact, our_address, self.key(aor)),
        ) else {
            return String::new();
        };
        let expires = if self.expires > 0 {
            self.expires.max(least)
        } else {
            0
        };
        let mut value = format!("<{}>", String::from_utf8_lossy(&uri));
        for (name, text) in address.params.iter() {
            value.push(';');
            value.push_str(&String::from_utf8_lossy(name));
            if let Some(text) = text {
                value.push('=');
                value.push_str(&String::from_utf8_lossy(text));
            }
        }
        value.push_str(&format!(";expires={expires}"));
        value
    }
}

/// The URI of a phone's own Contact as an upstream sees it: without what is about pushes, and with
/// the transport by which the upstream reaches us. chan_sip goes by the Contact's, even to the next
/// hop of a Path; and with whose it is: chan_sip's qualify has no Route, and the Contact's user need
/// not be the agent's.
fn uri_for_upstream(contact: &[u8], our_address: &str, key: BindingKey) -> Option<Vec<u8>> {
    let address = NameAddr::parse(contact).ok()?;
    let uri = address.parse_uri().ok()?;
    let mut written =
        uri.without_params(|name| is_push_param(name) || name.eq_ignore_ascii_case(b"transport"));
    if uri.headers.is_none() {
        if let Some((_, transport)) = our_address.split_once(';') {
            written.push(b';');
            written.extend_from_slice(transport.as_bytes());
        }
        let (aor, device) = (key.aor.0, key.binding.0);
        written.extend_from_slice(format!(";{CONTACT_PARAM}={aor:016x}.{device:016x}").as_bytes());
    }
    Some(written)
}

/// The agent that a REGISTER is for: the user of its To.
///
/// # Errors
/// The refusal if To names none.
pub fn user_of(address: &NameAddr<'_>) -> Result<Box<str>, Reject> {
    let uri = address.parse_uri().map_err(|_| Reject::Malformed)?;
    let user = uri.user.ok_or(Reject::Malformed)?;
    let user = unescape(user).into_owned();
    if user.is_empty() || user.len() > 256 || user.iter().any(u8::is_ascii_control) {
        return Err(Reject::Malformed);
    }
    String::from_utf8(user)
        .map(String::into_boxed_str)
        .map_err(|_| Reject::Malformed)
}

/// Escapes what may not stand in a URI's user part.
#[must_use]
pub fn escape_user(user: &str) -> String {
    let mut escaped = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Writes a Contact's value without its `expires`.
fn strip_expires(address: &NameAddr<'_>) -> Bytes {
    if address.params.get("expires").is_none() && address.raw.starts_with(b"<") {
        return Bytes::copy_from_slice(address.raw);
    }
    let mut value = Vec::with_capacity(address.raw.len() + 2);
    if let Some(display) = address.display {
        value.extend_from_slice(display);
        value.push(b' ');
    }
    value.push(b'<');
    value.extend_from_slice(address.uri);
    value.push(b'>');
    for (name, text) in address.params.iter() {
        if name.eq_ignore_ascii_case(b"expires") {
            continue;
        }
        value.push(b';');
        value.extend_from_slice(name);
        if let Some(text) = text {
            value.push(b'=');
            value.extend_from_slice(text);
        }
    }
    value.into()
}

/// A q-value in thousandths; 1.0 if there is none or it cannot be read.
#[must_use]
pub fn q_value(value: Option<&[u8]>) -> u16 {
    let parsed = value.and_then(|v| std::str::from_utf8(v).ok()?.trim().parse::<f32>().ok());
    match parsed {
        Some(q) if (0.0..=1.0).contains(&q) => (q * 1000.0).round() as u16,
        Some(_) | None => 1000,
    }
}

/// Decimal digits, saturating.
fn number(value: &[u8]) -> Option<u32> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u32, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
    }))
}

/// Removes `HeaderName::Contact` parameters about pushes from a message on its way to anybody but
/// the device itself: the new first Contact value, if it has to change.
#[must_use]
pub fn contact_without_push(message: &Message) -> Option<Vec<u8>> {
    let value = message.values(HeaderName::Contact).next()?;
    let address = NameAddr::parse(value).ok()?;
    let uri = Uri::parse(address.uri).ok()?;
    // RFC 8599 §6.1.1: whoever is in a dialog with the device has its PURR.
    let is_private = |name: &[u8]| is_push_param(name) && !name.eq_ignore_ascii_case(b"pn-purr");
    if !uri.params.iter().any(|(name, _)| is_private(name)) {
        return None;
    }
    let stripped = uri.without_params(is_private);
    let start = address.uri.as_ptr() as usize - value.as_ptr() as usize;
    let (before, rest) = value.split_at_checked(start)?;
    let after = rest.get(address.uri.len()..)?;
    Some([before, &stripped, after].concat())
}
