//! What the gateway is told by its configuration, typed and valid: see `config` for the file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::proto::Transport;
use crate::proto::aor::Aor;
use crate::proto::digest::Secrets;
use crate::proto::push::Pns;
use crate::proto::push::params::{PushParams, allows_host};

/// The settings of all shards.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[[listen]]`, in file order; at least one.
    pub listeners: Vec<Listener>,
    /// `[[upstream]]`, in file order; at least one.
    pub upstreams: Vec<Upstream>,
    /// `[wake]`.
    pub wake: Wake,
    /// `[register]`: what is done about a REGISTER that cannot be had as it is.
    pub register: RegisterRules,
    /// `[sip]`: the transactions' timers.
    pub timing: Timing,
    /// `[limits]`.
    pub limits: Limits,
    /// `[guard]`.
    pub guard: Guard,
    /// `[push]` and `[[device]]`.
    pub push: Push,
}

/// Who can be pushed.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// The apps: of `[[push.apns]]`, `[[push.fcm]]`, `[[push.webpush]]`, `[[push.webhook]]`.
    pub apps: Vec<PushApp>,
    /// Our public key for Web Push, as `+sip.vapid` carries it.
    pub vapid: Option<Arc<str>>,
    /// `[[device]]`: how devices are woken that do not say it themselves.
    pub devices: Vec<ConfiguredDevice>,
}

/// How a device is woken whose Contact does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredDevice {
    /// The agent's user name.
    pub user: Box<str>,
    /// The agent's domain, lower case; `None`: any.
    pub domain: Option<Box<str>>,
    /// Only a device with this `+sip.instance`.
    pub instance: Option<Box<str>>,
    /// Only a device whose User-Agent has this in it, in any case.
    pub user_agent: Option<Box<str>>,
    /// How.
    pub params: PushParams,
}

impl ConfiguredDevice {
    /// Whether it is one of this agent's.
    #[must_use]
    pub fn is_for(&self, aor: &Aor) -> bool {
        let is_there = self.domain.is_none() || self.domain.as_ref() == Some(&aor.domain);
        self.user == aor.user && is_there
    }
}

/// An app that can be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushApp {
    /// Its service.
    pub pns: Pns,
    /// APNs: the bundle id. FCM: the project id. Web Push: an allowed host, with its port if it is
    /// not 443, `*.` for all below a domain. Webhook: a provider's name, lower case.
    pub name: Arc<str>,
}

impl Push {
    /// Whether a device of an app can be pushed. A device in APNs' sandbox can by an entry for
    /// either environment, one whose FCM project has no entry of its own by the only entry.
    #[must_use]
    pub fn can_push(&self, pns: Pns, app: &str) -> bool {
        let of = |wanted: Pns| self.apps.iter().filter(move |known| known.pns == wanted);
        match pns {
            Pns::Apns => of(Pns::Apns).any(|known| *known.name == *app),
            Pns::ApnsSandbox => of(Pns::Apns)
                .chain(of(Pns::ApnsSandbox))
                .any(|known| *known.name == *app),
            Pns::Fcm => {
                let is_named = of(Pns::Fcm).any(|known| app.is_empty() || *known.name == *app);
                is_named || of(Pns::Fcm).count() == 1
            }
            Pns::WebPush => of(Pns::WebPush).any(|known| allows_host(&known.name, app)),
            Pns::Webhook => of(Pns::Webhook).any(|known| *known.name == *app),
        }
    }

    /// The names of the services that can be reached, as `+sip.pns` has them.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        let is_there = |pns: Pns| {
            self.apps
                .iter()
                .any(|app| app.pns == pns || (pns == Pns::ApnsSandbox && app.pns == Pns::Apns))
        };
        let named = Pns::NAMED.into_iter();
        let named = named.filter_map(move |(pns, name)| is_there(pns).then_some(name));
        let own = self.apps.iter().filter(|app| app.pns == Pns::Webhook);
        named.chain(own.map(|app| &*app.name))
    }
}

/// A listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its transport.
    pub transport: Transport,
    /// Where it is bound (after binding: with the real port).
    pub address: SocketAddr,
    /// Host in Via, Record-Route, Contact, Path: an address (IPv6 in brackets) or a name.
    pub advertise_host: Arc<str>,
    /// Port beside it.
    pub advertise_port: u16,
}

/// A group of Asterisk nodes that serves some domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in logs and in the store.
    pub name: Arc<str>,
    /// The domains it serves, lower case; `*` for any.
    pub domains: Vec<Arc<str>>,
    /// Its nodes in order of priority.
    pub nodes: Vec<Node>,
    /// What it sees as an agent's Contact.
    pub contact: ContactMode,
    /// Who answers its OPTIONS to an agent.
    pub qualify: Qualify,
    /// Who may call its agents.
    pub trust: Vec<IpNet>,
    /// Whether a datagram from such an address is believed to come from there.
    pub trusts_datagrams: bool,
    /// The registration time that it is asked for, at least.
    pub expires: Duration,
    /// How registrations of devices that sleep are refreshed without them; `None`: not at all.
    pub keep: Option<Keep>,
}

/// How the gateway refreshes registrations itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The agents' credentials.
    pub secrets: Arc<Secrets>,
    /// For so long after a device last registered itself.
    pub span: Duration,
}

/// One node, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its index over all upstreams: see `Output::Resolve`.
    pub index: u16,
    /// Host: an address (no brackets) or a name.
    pub host: Arc<str>,
    /// Port, if the URI has one.
    pub port: Option<u16>,
    /// Transport, if the URI names one.
    pub transport: Option<Transport>,
}

/// What Asterisk sees as the Contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactMode {
    /// One contact per agent: the gateway forks to the devices.
    Agent,
    /// One contact per device.
    Device,
    /// The phone's own contact, and a Path header (RFC 3327).
    Path,
}

/// Who answers an upstream's OPTIONS to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualify {
    /// The gateway, for devices awake or asleep.
    Local,
    /// The devices whose flow is open; the gateway if all sleep.
    Forward,
}

/// How a sleeping phone is woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Without a REGISTER for so long the branch ends.
    pub timeout: Duration,
    /// A flow heard within this time is awake.
    pub fresh: Duration,
    /// How long a pinged flow may take to answer.
    pub probe: Duration,
    /// An INVITE without 1xx for so long is helped by a push.
    pub grace: Duration,
    /// How long a woken phone may come late to learn that the call is over.
    pub late: Duration,
    /// What the caller's side sees while a phone is woken.
    pub hold_response: HoldResponse,
    /// The status for a phone that did not wake.
    pub unreachable_status: u16,
    /// How long a MESSAGE or NOTIFY is kept for a phone that sleeps; zero: not at all.
    pub message_hold: Duration,
    /// Whether a call that nobody answered is told to devices that it did not reach.
    pub missed_call_push: bool,
    /// Whether a 6xx of one device leaves the others ringing.
    pub no_global_decline: bool,
}

/// What the caller's side sees while a phone is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldResponse {
    /// Nothing beyond 100.
    None,
    /// 180 Ringing.
    Ringing,
    /// 182 Queued.
    Queued,
}

/// What is done about a REGISTER whose push cannot be had as it asks (RFC 8599 §5.6.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterRules {
    /// It asks for a time too short to be kept by pushes.
    pub too_short: TooShort,
    /// It names a push service, or an app, that we cannot push.
    pub unsupported_pns: UnsupportedPns,
}

/// What a REGISTER gets that asks for a time too short to be kept by pushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooShort {
    /// 423 with Min-Expires.
    #[default]
    Refuse,
    /// It is forwarded, and its device is not pushed.
    Plain,
}

/// What a REGISTER gets that names a push service that we cannot reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnsupportedPns {
    /// It is forwarded: somebody behind us may reach it.
    #[default]
    Forward,
    /// 555: nobody behind us does.
    Refuse,
}

/// The transactions' times (RFC 3261 §17, appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round-trip estimate; 500 ms.
    pub t1: Duration,
    /// Cap of retransmission intervals; 4 s.
    pub t2: Duration,
    /// How long a message may stay in the network; 5 s.
    pub t4: Duration,
    /// Proxy INVITE transaction timeout; more than 3 minutes.
    pub timer_c: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(185),
        }
    }
}

/// Bounds, each with a refusal and a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Devices per agent.
    pub devices_per_agent: usize,
    /// Held calls per agent.
    pub held_per_agent: usize,
    /// Kept MESSAGE and NOTIFY requests per agent.
    pub messages_per_agent: usize,
    /// Bytes of all kept requests of a shard.
    pub messages_bytes: usize,
    /// Pushes to one device in a minute.
    pub pushes_per_device: u32,
    /// Message size in bytes.
    pub message_bytes: usize,
    /// Header lines per message.
    pub headers: usize,
    /// Server transactions per shard.
    pub transactions: usize,
    /// Stream connections that others hold open.
    pub connections: usize,
    /// Of these, from one address without a registered agent.
    pub connections_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            devices_per_agent: 12,
            held_per_agent: 8,
            messages_per_agent: 32,
            messages_bytes: 64 * 1024 * 1024,
            pushes_per_device: 20,
            message_bytes: 65_536,
            headers: 128,
            transactions: 200_000,
            connections: 100_000,
            connections_per_address: 100,
        }
    }
}

/// So many at once, and one more in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Until there may be one more.
    pub interval: Duration,
}

/// Who may ask how often: see `proto::guard`.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Whether there is one.
    pub is_on: bool,
    /// Who is exempt.
    pub allow: Vec<IpNet>,
    /// Whether strangers are told over UDP that they may not.
    pub answer_strangers: bool,
    /// Requests of strangers, by address.
    pub requests: Rate,
    /// Requests of one registered agent that begin something.
    pub agent_requests: Rate,
    /// REGISTERs of unknown devices that reach the upstreams, all together.
    pub registers: Rate,
    /// Refused REGISTERs of one account.
    pub account_failures: Rate,
    /// Refused REGISTERs of one address.
    pub address_failures: Rate,
    /// Offences of one address before it is banned.
    pub offences: Rate,
    /// For how long it is; zero: never.
    pub ban: Duration,
    /// What the User-Agent of a scanner contains.
    pub scanners: Vec<Box<str>>,
    /// Entries of each of its tables.
    pub entries: usize,
}

/// What scanners that are widely used call themselves.
pub const SCANNERS: [&str; 7] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sundayddr",
    "pplsip",
];

impl Default for Guard {
    fn default() -> Self {
        let rate = |burst, interval| Rate {
            burst,
            interval: Duration::from_micros(interval),
        };
        Self {
            is_on: true,
            allow: Vec::new(),
            answer_strangers: true,
            requests: rate(2_000, 10_000),
            agent_requests: rate(200, 50_000),
            registers: rate(5_000, 2_000),
            account_failures: rate(10, 6_000_000),
            address_failures: rate(60, 1_000_000),
            offences: rate(20, 30_000_000),
            ban: Duration::from_secs(15 * 60),
            scanners: SCANNERS.map(Box::from).to_vec(),
            entries: 65_536,
        }
    }
}
