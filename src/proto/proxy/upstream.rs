//! Upstream groups as one shard sees them: which serves a domain, whom it trusts, and where its
//! nodes are after DNS (RFC 3263).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;

use crate::proto::effects::Effects;
use crate::proto::settings::{Listener, Node, Settings, Upstream};
use crate::proto::sip::Host;
use crate::proto::timer::Timer;
use crate::proto::{Destination, Event, Flow, FlowId, Hop, ListenerId, Output, Transport};

/// How long a node that failed is tried last.
const PENALTY: Duration = Duration::from_secs(30);
/// How soon a failed resolution is tried again.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);

/// How long a connection that was refused is not tried again for a large request.
const REFUSED: Duration = Duration::from_secs(600);
/// How many addresses are remembered so: nodes, and what their domains' Contacts name.
const STREAMS: usize = 1024;

/// Where a request toward an upstream goes, and the listener that stands for us there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpstreamHop {
    /// The node's index, or `flow::NO_NODE`.
    pub(super) node: u16,
    /// Where to.
    pub(super) to: Destination,
    /// The transport.
    pub(super) transport: Transport,
    /// Our address there.
    pub(super) listener: ListenerId,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Upstreams {
    settings: Arc<Settings>,
    nodes: Vec<NodeState>,
    /// Addresses reached by datagrams where a connection was tried for a large request; `None`: it
    /// was had, else until when it is not tried again.
    streams: HashMap<SocketAddr, Option<Instant>, RandomState>,
}

#[derive(Debug, Default)]
struct NodeState {
    hops: Vec<Hop>,
    penalty_until: Option<Instant>,
    /// It is asked by OPTIONS until it answers.
    is_down: bool,
}

impl Upstreams {
    /// Groups whose named nodes have no address yet.
    #[must_use]
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let count = settings
            .upstreams
            .iter()
            .map(|upstream| upstream.nodes.len())
            .sum();
        let nodes = std::iter::repeat_with(NodeState::default)
            .take(count)
            .collect();
        Self {
            settings,
            nodes,
            streams: HashMap::default(),
        }
    }

    /// Finds the addresses of all nodes: literal ones at once, names through DNS.
    pub(super) fn start(&mut self, fx: &mut Effects<'_>) {
        let settings = self.settings.clone();
        for node in settings
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.nodes)
        {
            self.find(fx, node);
        }
    }

    /// Goes on with other nodes; those with a known index keep what is known of them.
    pub(super) fn reload(&mut self, fx: &mut Effects<'_>, settings: Arc<Settings>) {
        self.settings = Arc::clone(&settings);
        let known = self.nodes.len();
        for node in settings.upstreams.iter().flat_map(|group| &group.nodes) {
            let index = usize::from(node.index);
            if index >= self.nodes.len() {
                self.nodes.resize_with(index + 1, NodeState::default);
            }
            if index >= known {
                self.find(fx, node);
            }
        }
    }

    /// Whether a node is still one of a group's.
    fn is_configured(&self, node: u16) -> bool {
        let mut groups = self.settings.upstreams.iter();
        groups.any(|group| group.nodes.iter().any(|known| known.index == node))
    }

    /// Finds a node's address: a literal one at once, a name through DNS.
    fn find(&mut self, fx: &mut Effects<'_>, node: &Node) {
        match literal(node) {
            Some(hop) => {
                if let Some(state) = self.nodes.get_mut(usize::from(node.index)) {
                    state.hops = vec![hop];
                }
            }
            None => fx.output(Output::Resolve { node: node.index }),
        }
    }

    /// DNS answered. An empty answer keeps the last good one.
    pub(super) fn on_resolved(
        &mut self,
        fx: &mut Effects<'_>,
        node: u16,
        hops: Vec<Hop>,
        ttl: Duration,
    ) {
        fx.event(Event::NodeResolved {
            node,
            hops: hops.len(),
        });
        let again = if hops.is_empty() {
            RESOLVE_AGAIN
        } else {
            ttl.max(RESOLVE_AGAIN)
        };
        if let Some(state) = self.nodes.get_mut(usize::from(node))
            && !hops.is_empty()
        {
            state.hops = hops;
        }
        if self.is_configured(node) {
            fx.arm(again, Timer::Resolve(node));
        }
    }

    /// A node gave no answer: others of its group come first for a time, or until it answers
    /// OPTIONS. True if it is to be asked: nobody does so yet, and there are others.
    pub(super) fn penalise(&mut self, now: Instant, node: u16) -> bool {
        let mut groups = self.settings.upstreams.iter();
        let has_sibling = groups.any(|group| {
            group.nodes.len() > 1 && group.nodes.iter().any(|known| known.index == node)
        });
        let Some(state) = self.nodes.get_mut(usize::from(node)) else {
            return false;
        };
        state.penalty_until = Some(now + PENALTY);
        has_sibling && !std::mem::replace(&mut state.is_down, has_sibling)
    }

    /// Whether a node is asked by OPTIONS whether it is back.
    #[must_use]
    pub(super) fn is_down(&self, node: u16) -> bool {
        self.nodes
            .get(usize::from(node))
            .is_some_and(|state| state.is_down)
    }

    /// A node answered.
    pub(super) fn absolve(&mut self, node: u16) {
        if let Some(state) = self.nodes.get_mut(usize::from(node)) {
            state.penalty_until = None;
            state.is_down = false;
        }
    }

    /// The group that serves a domain, and the domain's canonical form: empty for our own
    /// addresses, so that an agent is the same by whichever of them the app reaches us.
    #[must_use]
    pub(super) fn of_domain(&self, host: Host<'_>) -> Option<(u16, Box<str>)> {
        let name = host_text(host)?;
        let upstreams = &self.settings.upstreams;
        let serves = |wanted: &str| {
            upstreams
                .iter()
                .position(|u| u.domains.iter().any(|domain| **domain == *wanted))
        };
        if let Some(index) = serves(&name) {
            return Some((u16::try_from(index).ok()?, name));
        }
        let is_own = self.is_own_host(host);
        let index = match serves("*") {
            Some(index) => index,
            None if is_own && upstreams.len() == 1 => 0,
            None => return None,
        };
        let domain = if is_own { "".into() } else { name };
        Some((u16::try_from(index).ok()?, domain))
    }

    /// Whether a host is one of our own addresses.
    #[must_use]
    pub(super) fn is_own_host(&self, host: Host<'_>) -> bool {
        self.settings.listeners.iter().any(|listener| match host {
            Host::Address(address) => {
                listener.address.ip() == address
                    || parse_ip(&listener.advertise_host) == Some(address)
            }
            Host::Name(name) => listener
                .advertise_host
                .as_bytes()
                .eq_ignore_ascii_case(name),
        })
    }

    /// Whether a host and port are one of our own addresses; without a port DNS decides it.
    #[must_use]
    pub(super) fn is_own_address(&self, host: Host<'_>, port: Option<u16>) -> bool {
        let listeners = &self.settings.listeners;
        self.is_own_host(host)
            && port.is_none_or(|port| {
                listeners
                    .iter()
                    .any(|l| l.address.port() == port || l.advertise_port == port)
            })
    }

    /// The group that trusts an address.
    #[must_use]
    pub(super) fn trusting(&self, address: IpAddr) -> Option<u16> {
        self.trusting_if(address, |_| true)
    }

    /// The group that trusts whoever sent something over a flow. A datagram can be sent in
    /// anybody's name; a connection proves its address.
    #[must_use]
    pub(super) fn trusting_flow(&self, flow: &Flow) -> Option<u16> {
        let is_proof = flow.transport.is_reliable();
        self.trusting_if(flow.remote.ip(), |group| is_proof || group.trusts_datagrams)
    }

    fn trusting_if(&self, address: IpAddr, may: impl Fn(&Upstream) -> bool) -> Option<u16> {
        let canonical = address.to_canonical();
        let trusts = |net: &ipnet::IpNet| net.contains(&canonical) || net.contains(&address);
        let mut groups = self.settings.upstreams.iter();
        let index = groups.position(|group| may(group) && group.trust.iter().any(trusts))?;
        u16::try_from(index).ok()
    }

    /// Where a group is reached: its nodes in order, those that failed lately last.
    #[must_use]
    pub(super) fn hops(&self, now: Instant, upstream: u16) -> Vec<UpstreamHop> {
        let Some(group) = self.settings.upstreams.get(usize::from(upstream)) else {
            return Vec::new();
        };
        let mut healthy = Vec::new();
        let mut penalised = Vec::new();
        for node in &group.nodes {
            let Some(state) = self.nodes.get(usize::from(node.index)) else {
                continue;
            };
            let list = match state.penalty_until {
                Some(until) if until > now || state.is_down => &mut penalised,
                Some(_) | None => &mut healthy,
            };
            list.extend(
                state
                    .hops
                    .iter()
                    .filter_map(|hop| self.upstream_hop(node.index, hop)),
            );
        }
        healthy.append(&mut penalised);
        healthy
    }

    /// Where a node is reached.
    #[must_use]
    pub(super) fn node_hop(&self, node: u16) -> Option<UpstreamHop> {
        let hop = self.nodes.get(usize::from(node))?.hops.first()?;
        self.upstream_hop(node, hop)
    }

    /// Whether a node is at an address.
    #[must_use]
    pub(super) fn is_at(&self, node: u16, transport: Transport, address: SocketAddr) -> bool {
        self.nodes.get(usize::from(node)).is_some_and(|state| {
            state
                .hops
                .iter()
                .any(|hop| hop.transport == transport && hop.address == address)
        })
    }

    /// The way to an address of an upstream's own.
    #[must_use]
    pub(super) fn upstream_hop(&self, node: u16, hop: &Hop) -> Option<UpstreamHop> {
        let listener = self.listener(hop.transport, hop.address.ip())?;
        let to = match hop.transport {
            Transport::Udp => Destination::Flow(FlowId::Datagram {
                listener,
                remote: hop.address,
            }),
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                Destination::Hop(hop.clone())
            }
        };
        Some(UpstreamHop {
            node,
            to,
            transport: hop.transport,
            listener,
        })
    }

    /// The way over a connection to an address that is reached by datagrams.
    #[must_use]
    pub(super) fn stream(&self, node: u16, address: SocketAddr) -> Option<UpstreamHop> {
        let hop = Hop {
            transport: Transport::Tcp,
            address,
            server_name: None,
        };
        self.upstream_hop(node, &hop)
    }

    /// Whether a connection to an address was refused lately.
    #[must_use]
    pub(super) fn refuses_stream(&self, now: Instant, address: SocketAddr) -> bool {
        let until = self.streams.get(&address).copied().flatten();
        until.is_some_and(|until| until > now)
    }

    /// Whether a connection to an address has carried a request.
    #[must_use]
    pub(super) fn has_stream(&self, address: SocketAddr) -> bool {
        matches!(self.streams.get(&address), Some(None))
    }

    /// A connection was tried for a large request.
    pub(super) fn on_stream(&mut self, now: Instant, address: SocketAddr, is_there: bool) {
        if self.streams.len() >= STREAMS && !self.streams.contains_key(&address) {
            self.streams.clear();
        }
        let until = (!is_there).then(|| now + REFUSED);
        self.streams.insert(address, until);
    }

    /// The listener that stands for us toward an address: of that transport and family; for a
    /// stream transport that we do not listen on, any of that family, browsers' last.
    fn listener(&self, transport: Transport, address: IpAddr) -> Option<ListenerId> {
        let fits_family = |listener: &Listener| listener.address.is_ipv4() == address.is_ipv4();
        let find = |wanted: &dyn Fn(&Listener) -> bool| {
            let at = self
                .settings
                .listeners
                .iter()
                .position(|l| fits_family(l) && wanted(l))?;
            u16::try_from(at).ok().map(ListenerId)
        };
        let exact = find(&|listener| listener.transport == transport);
        if transport.is_reliable() {
            exact
                .or_else(|| find(&|listener| !listener.transport.is_websocket()))
                .or_else(|| find(&|_| true))
        } else {
            exact
        }
    }

    /// A listener's settings.
    #[must_use]
    pub(super) fn listener_settings(&self, id: ListenerId) -> Option<&Listener> {
        self.settings.listeners.get(usize::from(id.0))
    }
}

/// A host as text: a name in lower case, an address without brackets.
#[must_use]
pub(super) fn host_text(host: Host<'_>) -> Option<Box<str>> {
    match host {
        Host::Address(address) => Some(address.to_string().into()),
        Host::Name(name) => {
            let name = std::str::from_utf8(name).ok()?;
            Some(name.trim_end_matches('.').to_ascii_lowercase().into())
        }
    }
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// The hop of a node whose host is an address.
fn literal(node: &Node) -> Option<Hop> {
    let address = parse_ip(&node.host)?;
    let transport = node.transport.unwrap_or(Transport::Udp);
    let port = node.port.unwrap_or_else(|| transport.default_port());
    let server_name = matches!(transport, Transport::Tls).then(|| node.host.clone());
    Some(Hop {
        transport,
        address: (address, port).into(),
        server_name,
    })
}
