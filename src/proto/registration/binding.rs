//! A binding: one device of an agent, and how it is reached (RFC 3261 §10, RFC 5626 §6).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::proto::push::params::PushParams;
use crate::proto::registration::asked::{Asked, Number};
use crate::proto::registration::moment::Moment;
use crate::proto::registration::shape::{Packed, Shapes};
use crate::proto::sip::{NameAddr, unquote};
use crate::proto::{
    AorId, AppId, BindingId, BindingKey, Claim, ConnectionId, Flow, FlowId, ListenerId, Transport,
};

/// A datagram flow on which nothing was heard for so long has nobody behind it: keep-alives come
/// at least twice as often (RFC 5626 §4.4.2).
const AWAKE: Duration = Duration::from_secs(60);

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
    /// When it ends, seconds since the Unix epoch.
    pub expires_unix: u64,
    /// When it last registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
}

/// A binding as a REGISTER or the store gives it.
#[derive(Clone, Debug)]
pub struct NewBinding {
    /// Its number.
    pub id: BindingId,
    /// The value of the Contact header as the device sent it, without `expires`.
    pub contact: Bytes,
    /// `+sip.instance`, unquoted.
    pub instance: Option<Box<str>>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// How to wake it.
    pub push: Option<PushParams>,
    /// Whether its instance, and its push parameters if it has any, were read from its Contact.
    pub is_as_said: bool,
    /// The apps that it is without being pushed: its token died, and another agent may register
    /// them.
    pub former_apps: SmallVec<[AppId; 2]>,
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
    /// When it ends.
    pub expires: Instant,
    /// When it last registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
    /// Which of its REGISTERs that was.
    pub asked: Asked,
    /// The Contact's q-value in thousandths (RFC 3261 §20.10).
    pub q: u16,
}

impl NewBinding {
    /// The app on a phone that can be pushed, by what it is known: its token, and its instance.
    #[must_use]
    pub fn apps(&self) -> SmallVec<[AppId; 2]> {
        match &self.push {
            Some(push) => apps_of(push, self.instance.as_deref()),
            None => self.former_apps.clone(),
        }
    }

    /// Its claim to one of its apps.
    #[must_use]
    pub fn claim(&self, aor: AorId, app: AppId) -> Claim {
        let token = self.push.as_ref().map(PushParams::wakes);
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

/// A binding as a shard keeps it: as small as it can be, since there are many, most of them asleep.
/// What its Contact says is read from there when it is asked for.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its number.
    pub id: BindingId,
    /// When it last registered, milliseconds since the Unix epoch.
    pub registered_ms: u64,
    contact: Packed,
    more: Option<Box<More>>,
    place: Place,
    last_heard: Option<Moment>,
    last_call: Option<Moment>,
    expires: Moment,
    due: Option<Moment>,
    asked: Moment,
    number: Option<Number>,
    /// 0 is none: RFC 5626 §4.2 counts from 1.
    reg_id: u32,
    /// The Contact's q-value in thousandths (RFC 3261 §20.10).
    pub q: u16,
    push: Said,
    instance: Said,
    /// Whether the store has all of it: only then its times alone may be written.
    pub is_durable: bool,
    /// Whether its last REGISTER is not answered yet, since the store has not answered.
    pub awaits_store: bool,
    /// Whether its flow may still carry a request.
    pub(super) is_flow_open: bool,
    /// Whether it said that it refreshes by itself (`+sip.pnsreg`, RFC 8599 §8.5).
    pub refreshes_itself: bool,
}

/// Where a part of a binding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// There is none.
    Nowhere,
    /// In its Contact.
    Contact,
    /// In [`More`], since the Contact says otherwise.
    More,
}

/// What few bindings have.
#[derive(Clone, Debug, Default)]
struct More {
    push: Option<PushParams>,
    instance: Option<Box<str>>,
    /// The apps that it was before its token died: another agent may register them.
    former_apps: SmallVec<[AppId; 2]>,
}

/// A flow, small.
#[derive(Clone, Debug)]
enum Place {
    /// IPv4: over datagrams, or a stream and its number.
    V4 {
        ip: Ipv4Addr,
        port: u16,
        listener: ListenerId,
        transport: Transport,
        connection: u64,
    },
    /// Any other.
    Other(Box<Flow>),
}

impl Binding {
    /// Packs a binding.
    pub(super) fn pack(new: NewBinding, shapes: &mut Shapes) -> Self {
        let mut more = More::default();
        let push = match new.push {
            None => Said::Nowhere,
            Some(_) if new.is_as_said => Said::Contact,
            push if push == read_push(&new.contact) => Said::Contact,
            push => {
                more.push = push;
                Said::More
            }
        };
        let instance = match new.instance {
            None => Said::Nowhere,
            Some(_) if new.is_as_said => Said::Contact,
            instance if instance == read_instance(&new.contact) => Said::Contact,
            instance => {
                more.instance = instance;
                Said::More
            }
        };
        let has_more = [push, instance].contains(&Said::More) || !new.former_apps.is_empty();
        more.former_apps = new.former_apps;
        Self {
            id: new.id,
            registered_ms: new.registered_ms,
            contact: shapes.pack(&new.contact, new.last_flow.remote),
            more: has_more.then(|| Box::new(more)),
            place: Place::of(new.last_flow),
            last_heard: new.last_heard.map(Moment::from),
            last_call: None,
            expires: new.expires.into(),
            due: None,
            asked: new.asked.at.into(),
            number: new.asked.number,
            reg_id: new.reg_id.unwrap_or(0),
            q: new.q,
            push,
            instance,
            is_durable: new.is_durable,
            awaits_store: new.awaits_store,
            is_flow_open: new.is_flow_open,
            refreshes_itself: refreshes_itself(&new.contact),
        }
    }

    /// Takes over a REGISTER that says the same of the device as its last; what its Contact shared
    /// with others until now is returned if that has changed: its address may be a new one.
    pub(super) fn renew(&mut self, new: &NewBinding, shapes: &mut Shapes) -> Option<Packed> {
        let old = (self.place.remote() != new.last_flow.remote).then(|| {
            let packed = shapes.pack(&new.contact, new.last_flow.remote);
            std::mem::replace(&mut self.contact, packed)
        });
        self.place = Place::of(new.last_flow);
        self.registered_ms = new.registered_ms;
        self.last_heard = new.last_heard.map(Moment::from);
        self.expires = new.expires.into();
        self.asked = new.asked.at.into();
        self.number = new.asked.number;
        self.q = new.q;
        self.is_durable = new.is_durable;
        self.awaits_store = new.awaits_store;
        self.is_flow_open = new.is_flow_open;
        old
    }

    /// What of it is shared with others.
    pub(super) const fn packed(&self) -> &Packed {
        &self.contact
    }

    /// The value of the Contact header as the device sent it, without `expires`.
    #[must_use]
    pub fn contact(&self) -> Bytes {
        self.contact.unpack(self.place.remote())
    }

    /// The URI of its Contact.
    #[must_use]
    pub fn contact_uri(&self) -> Bytes {
        let contact = self.contact();
        NameAddr::parse(&contact)
            .map_or_else(|_| Bytes::new(), |address| contact.slice_ref(address.uri))
    }

    /// `+sip.instance`, unquoted.
    #[must_use]
    pub fn instance(&self) -> Option<Box<str>> {
        match self.instance {
            Said::Nowhere => None,
            Said::Contact => read_instance(&self.contact()),
            Said::More => self.more.as_ref()?.instance.clone(),
        }
    }

    /// Whether that is its instance.
    #[must_use]
    pub fn is_instance(&self, instance: &str) -> bool {
        self.instance().as_deref() == Some(instance)
    }

    /// `reg-id` (RFC 5626 §4.2).
    #[must_use]
    pub fn reg_id(&self) -> Option<u32> {
        (self.reg_id > 0).then_some(self.reg_id)
    }

    /// Whether it can be woken.
    #[must_use]
    pub fn has_push(&self) -> bool {
        self.push != Said::Nowhere
    }

    /// How to wake it.
    #[must_use]
    pub fn push(&self) -> Option<PushParams> {
        match self.push {
            Said::Nowhere => None,
            Said::Contact => read_push(&self.contact()),
            Said::More => self.more.as_ref()?.push.clone(),
        }
    }

    /// Its token for all but calls is no good any more.
    pub fn forget_alert_token(&mut self) {
        if let Some(mut push) = self.push() {
            push.alert_token = None;
            self.more.get_or_insert_default().push = Some(push);
            self.push = Said::More;
        }
    }

    /// It cannot be woken any more, and is still known as the apps that it was.
    pub(super) fn forget_push(&mut self) {
        let apps = self.apps();
        if self.has_push() {
            self.push = Said::Nowhere;
            let more = self.more.get_or_insert_default();
            more.push = None;
            more.former_apps = apps;
        }
    }

    /// The flow of its last REGISTER: where it was last, open or not.
    #[must_use]
    pub fn last_flow(&self) -> Flow {
        self.place.flow()
    }

    /// The flow on which it may be reached now.
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        self.is_flow_open.then(|| self.place.flow())
    }

    /// When it last registered, or its flow was last heard before it closed; `None` since a restart.
    /// `LocationService::last_heard` knows of the flow that is open.
    #[must_use]
    pub(super) fn last_heard(&self) -> Option<Instant> {
        self.last_heard.map(Instant::from)
    }

    pub(super) fn set_last_heard(&mut self, at: Option<Instant>) {
        self.last_heard = at.map(Moment::from);
    }

    /// When it last took part in a call.
    #[must_use]
    pub fn last_call(&self) -> Option<Instant> {
        self.last_call.map(Instant::from)
    }

    /// It takes part in a call, or never did.
    pub fn set_last_call(&mut self, at: Option<Instant>) {
        self.last_call = at.map(Moment::from);
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> Instant {
        self.expires.into()
    }

    /// Lets it end at another time.
    pub fn set_expires(&mut self, at: Instant) {
        self.expires = at.into();
    }

    /// Which of its REGISTERs was the last.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            at: self.asked.into(),
            number: self.number,
        }
    }

    /// Whether its last REGISTER counts more than another of its agent's, though that is answered
    /// later.
    #[must_use]
    pub fn came_after(&self, asked: Asked) -> bool {
        self.asked().is_after(asked)
    }

    /// Its claim to one of its apps.
    #[must_use]
    pub fn claim(&self, aor: AorId, app: AppId) -> Claim {
        let token = self.push().map(|push| push.wakes());
        Claim {
            app,
            by: BindingKey {
                aor,
                binding: self.id,
            },
            flow: self.last_flow().id,
            is_by_instance: Some(app) != token,
            asked: self.asked().at,
        }
    }

    /// When it has to be looked at.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    pub(super) const fn set_due(&mut self, due: Option<Moment>) {
        self.due = due;
    }

    /// Whether its app runs: it has a connection open, or something was heard from it lately.
    #[must_use]
    pub fn is_awake(&self, now: Instant, last_heard: Option<Instant>) -> bool {
        let is_heard =
            || last_heard.is_some_and(|heard| now.saturating_duration_since(heard) < AWAKE);
        self.flow()
            .is_some_and(|flow| flow.transport.is_reliable() || is_heard())
    }

    /// The app on a phone that can be pushed, by what it is known: its token, and its instance.
    #[must_use]
    pub fn apps(&self) -> SmallVec<[AppId; 2]> {
        match self.push() {
            Some(push) => apps_of(&push, self.instance().as_deref()),
            None => self.former_apps().into(),
        }
    }

    /// Whether a REGISTER that gives this says the same of the device, wherever it came from.
    #[must_use]
    pub fn says_same(&self, new: &NewBinding) -> bool {
        if self.reg_id() != new.reg_id || !self.has_contact(&new.contact) {
            return false;
        }
        // What the same Contact says needs no second reading.
        let is_same_push = match (self.push, &new.push) {
            (Said::Nowhere, push) => push.is_none(),
            (Said::Contact, Some(_)) if new.is_as_said => true,
            (Said::Contact | Said::More, push) => self.push() == *push,
        };
        let is_same_instance = match (self.instance, &new.instance) {
            (Said::Nowhere, instance) => instance.is_none(),
            (Said::Contact, Some(_)) if new.is_as_said => true,
            (Said::Contact | Said::More, instance) => self.instance() == *instance,
        };
        is_same_push && is_same_instance && self.former_apps() == new.former_apps.as_slice()
    }

    fn has_contact(&self, contact: &[u8]) -> bool {
        self.contact.is(contact, self.place.remote())
    }

    /// Whether its Contact is the same to the byte, and names it: its instance, or else its token.
    #[must_use]
    pub fn is_named_by(&self, contact: &[u8]) -> bool {
        let names = match self.instance {
            Said::Nowhere => self.push,
            Said::Contact | Said::More => self.instance,
        };
        names == Said::Contact && self.has_contact(contact)
    }

    fn former_apps(&self) -> &[AppId] {
        self.more
            .as_ref()
            .map(|more| more.former_apps.as_slice())
            .unwrap_or_default()
    }
}

fn read_push(contact: &[u8]) -> Option<PushParams> {
    let uri = NameAddr::parse(contact).ok()?.parse_uri().ok()?;
    PushParams::read(uri.params).ok()
}

fn read_instance(contact: &[u8]) -> Option<Box<str>> {
    instance_of(&NameAddr::parse(contact).ok()?)
}

fn refreshes_itself(contact: &[u8]) -> bool {
    const NAME: &str = "+sip.pnsreg";
    memchr::memmem::find(contact, b"pnsreg").is_some()
        && NameAddr::parse(contact).is_ok_and(|address| address.params.get(NAME).is_some())
}

impl Place {
    fn of(flow: Flow) -> Self {
        let SocketAddr::V4(remote) = flow.remote else {
            return Self::Other(Box::new(flow));
        };
        let place = Self::V4 {
            ip: *remote.ip(),
            port: remote.port(),
            listener: flow.listener,
            transport: flow.transport,
            connection: match flow.id {
                FlowId::Datagram { .. } => 0,
                FlowId::Stream(connection) => connection.0,
            },
        };
        if place.flow() == flow {
            place
        } else {
            Self::Other(Box::new(flow))
        }
    }

    fn remote(&self) -> SocketAddr {
        match self {
            Self::V4 { ip, port, .. } => SocketAddr::new((*ip).into(), *port),
            Self::Other(flow) => flow.remote,
        }
    }

    fn flow(&self) -> Flow {
        match self {
            Self::V4 {
                listener,
                transport,
                connection,
                ..
            } => {
                let (listener, remote) = (*listener, self.remote());
                let id = if transport.is_reliable() {
                    FlowId::Stream(ConnectionId(*connection))
                } else {
                    FlowId::Datagram { listener, remote }
                };
                Flow {
                    id,
                    listener,
                    remote,
                    transport: *transport,
                }
            }
            Self::Other(flow) => **flow,
        }
    }
}

/// The instance-id of a Contact (RFC 5626 §4.1).
pub(super) fn instance_of(contact: &NameAddr<'_>) -> Option<Box<str>> {
    let value = contact.params.value("+sip.instance")?;
    let value = String::from_utf8(unquote(value).into_owned()).ok()?;
    Some(value.trim_matches(['<', '>']).into())
}

/// The apps of a device that is not pushed though its Contact names a token.
#[must_use]
pub fn unpushed_apps(contact: &[u8], instance: Option<&str>) -> SmallVec<[AppId; 2]> {
    let push = read_push(contact);
    push.map(|push| apps_of(&push, instance))
        .unwrap_or_default()
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
