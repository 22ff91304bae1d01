//! From a configured node to addresses (RFC 3263): NAPTR, SRV, A and AAAA.
//!
//! What is asked and in which order the answers stand are pure functions ([`Plan`],
//! [`order_services`], [`order_targets`]); the rest asks. A name in the hosts file is an address
//! and nothing else. Nothing is cached here: the caller asks again when the TTL is over, and keeps
//! its last good answer when that fails.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use rand::{Rng, RngExt};
use tokio::task::JoinSet;

use crate::proto::settings::Node;
use crate::proto::{Hop, Transport};

/// All of one resolution.
const LIMIT: Duration = Duration::from_secs(2);
/// One question; two retries fit into [`LIMIT`].
const QUESTION: Duration = Duration::from_millis(600);
const RETRIES: usize = 2;
/// The TTL's bounds: DNS may neither make us ask all the time nor never again.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);
/// SRV records that are followed, and hops that are returned.
const TARGETS: usize = 32;
/// What is tried for a name that says nothing about its transports (RFC 3263 §4.1).
const TRANSPORTS: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

/// Why a node has no hops.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// DNS does not answer.
    #[error("no answer from DNS within {} s", LIMIT.as_secs())]
    Timeout,
    /// DNS answers, and there is no such thing.
    #[error("{0} has no address")]
    NotFound(Arc<str>),
    /// The name's owner says that the service is not there (RFC 2782, target `.`).
    #[error("{0} says that it has no SIP service")]
    Refused(Arc<str>),
    /// DNS failed.
    #[error("DNS failed for {name}")]
    Dns {
        /// The name that was asked.
        name: Arc<str>,
        /// How.
        source: Box<NetError>,
    },
    /// The resolver could not be set up.
    #[error("the system's DNS configuration cannot be used")]
    Setup(#[source] Box<NetError>),
}

/// Resolves nodes.
#[derive(Clone)]
pub struct Resolver {
    dns: TokioResolver,
    hosts: Arc<std::path::Path>,
}

/// What was found, before it is ordered into an answer.
#[derive(Debug)]
struct Found<T> {
    records: Vec<T>,
    ttl: Duration,
}

impl Resolver {
    /// A resolver with the system's name servers and hosts file.
    ///
    /// A machine without a name server still has its hosts file, and a gateway whose nodes are
    /// addresses needs no more: it is told so, and starts.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn from_system() -> Result<Self, ResolveError> {
        let (config, options) =
            hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
                tracing::warn!(%error, "no name servers: only addresses and the hosts file resolve");
                (without_servers(), ResolverOpts::default())
            });
        Self::with_options(config, options, "/etc/hosts")
    }

    /// A resolver with these name servers and this hosts file.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn new(
        config: ResolverConfig,
        hosts: impl AsRef<std::path::Path>,
    ) -> Result<Self, ResolveError> {
        Self::with_options(config, ResolverOpts::default(), hosts)
    }

    fn with_options(
        config: ResolverConfig,
        options: ResolverOpts,
        hosts: impl AsRef<std::path::Path>,
    ) -> Result<Self, ResolveError> {
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let options = builder.options_mut();
        options.timeout = QUESTION;
        options.attempts = RETRIES;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Ok(Self {
            dns: builder.build().map_err(setup)?,
            hosts: Arc::from(hosts.as_ref()),
        })
    }

    /// Resolves a node into hops in order of preference, and says how long they hold.
    ///
    /// # Errors
    /// If there are none, or DNS fails. Keep the last answer then.
    pub async fn resolve(&self, node: &Node) -> Result<(Vec<Hop>, Duration), ResolveError> {
        let found = tokio::time::timeout(LIMIT, Box::pin(self.locate(node)))
            .await
            .map_err(|_| ResolveError::Timeout)??;
        let mut hops: Vec<Hop> = Vec::with_capacity(found.records.len());
        for hop in found.records {
            if !hops.contains(&hop) && hops.len() < TARGETS {
                hops.push(hop);
            }
        }
        if hops.is_empty() {
            return Err(ResolveError::NotFound(Arc::clone(&node.host)));
        }
        Ok((hops, found.ttl.clamp(*TTL.start(), *TTL.end())))
    }

    async fn locate(&self, node: &Node) -> Result<Found<Hop>, ResolveError> {
        match Plan::of(node) {
            Plan::Known(hop) => Ok(Found {
                records: vec![hop],
                ttl: *TTL.end(),
            }),
            Plan::Addresses { transport, port } => self.at(node, transport, port).await,
            Plan::Service(transport) => {
                if self.in_hosts(&node.host).await.is_some() {
                    return self.at(node, transport, transport.default_port()).await;
                }
                let services = vec![service(transport, &node.host)];
                self.services_or_address(node, services, transport).await
            }
            Plan::Discover => self.discover(node).await,
        }
    }

    async fn discover(&self, node: &Node) -> Result<Found<Hop>, ResolveError> {
        if self.in_hosts(&node.host).await.is_some() {
            return self
                .at(node, Transport::Udp, Transport::Udp.default_port())
                .await;
        }
        let pointers = self.pointers(&node.host).await?;
        let mut services = order_services(pointers.records);
        services.truncate(TARGETS);
        let default = services
            .first()
            .map_or(Transport::Udp, |service| service.transport);
        if services.is_empty() {
            services = TRANSPORTS
                .iter()
                .map(|transport| service(*transport, &node.host))
                .collect();
        }
        let mut found = self.services_or_address(node, services, default).await?;
        found.ttl = found.ttl.min(pointers.ttl);
        Ok(found)
    }

    /// RFC 3263 §4.2: SRV, and without any SRV record the addresses of the name itself.
    async fn services_or_address(
        &self,
        node: &Node,
        services: Vec<Service>,
        default: Transport,
    ) -> Result<Found<Hop>, ResolveError> {
        let mut ttl = *TTL.end();
        let mut hops = Vec::new();
        let mut has_records = false;
        for service in services {
            let targets = self.targets(&service.name).await?;
            has_records |= !targets.records.is_empty();
            let targets = Found {
                records: order_targets(targets.records, &mut rand::rng()),
                ttl: targets.ttl,
            };
            let found = self.follow(node, service.transport, targets).await?;
            if !found.records.is_empty() {
                ttl = ttl.min(found.ttl);
            }
            hops.extend(found.records);
        }
        if !has_records {
            return self.at(node, default, default.default_port()).await;
        }
        if hops.is_empty() {
            return Err(ResolveError::Refused(Arc::clone(&node.host)));
        }
        Ok(Found { records: hops, ttl })
    }

    /// Asks for the addresses of all targets at once and puts them in the targets' order.
    async fn follow(
        &self,
        node: &Node,
        transport: Transport,
        targets: Found<Target>,
    ) -> Result<Found<Hop>, ResolveError> {
        let mut questions = JoinSet::new();
        for (place, target) in targets.records.into_iter().take(TARGETS).enumerate() {
            let resolver = self.clone();
            questions.spawn(async move {
                let found = resolver.addresses(&target.name).await;
                (place, target.port, found)
            });
        }
        let mut answers = questions.join_all().await;
        answers.sort_by_key(|(place, _, _)| *place);
        let mut all = Found {
            records: Vec::new(),
            ttl: targets.ttl,
        };
        let mut failure = None;
        for (_, port, found) in answers {
            match found {
                Ok(found) if !found.records.is_empty() => {
                    all.ttl = all.ttl.min(found.ttl);
                    let addresses = found.records.into_iter();
                    all.records
                        .extend(addresses.map(|ip| hop(node, transport, ip, port)));
                }
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if all.records.is_empty() => Err(error),
            Some(_) | None => Ok(all),
        }
    }

    async fn at(
        &self,
        node: &Node,
        transport: Transport,
        port: u16,
    ) -> Result<Found<Hop>, ResolveError> {
        let found = self.addresses(&node.host).await?;
        let addresses = found.records.into_iter();
        Ok(Found {
            records: addresses.map(|ip| hop(node, transport, ip, port)).collect(),
            ttl: found.ttl,
        })
    }

    /// IPv4 before IPv6; one family that fails does not hide the other.
    async fn addresses(&self, name: &str) -> Result<Found<IpAddr>, ResolveError> {
        if let Some(records) = self.in_hosts(name).await {
            return Ok(Found {
                records,
                ttl: *TTL.start(),
            });
        }
        let (four, six) = tokio::join!(
            self.ask(name, RecordType::A, RData::ip_addr),
            self.ask(name, RecordType::AAAA, RData::ip_addr),
        );
        match (four, six) {
            (Ok(mut four), Ok(six)) => {
                four.ttl = four.ttl.min(six.ttl);
                four.records.extend(six.records);
                Ok(four)
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.records.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn pointers(&self, name: &str) -> Result<Found<Pointer>, ResolveError> {
        self.ask(name, RecordType::NAPTR, Pointer::read).await
    }

    async fn targets(&self, name: &str) -> Result<Found<Target>, ResolveError> {
        self.ask(name, RecordType::SRV, Target::read).await
    }

    /// Asks one question. That there is no such record is an answer, not an error.
    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Found<T>, ResolveError> {
        match self.dns.lookup(name, kind).await {
            Ok(lookup) => Ok(Found::read(&lookup, read)),
            Err(error) if is_absent(&error) => Ok(Found {
                records: Vec::new(),
                ttl: *TTL.end(),
            }),
            Err(NetError::Timeout) => Err(ResolveError::Timeout),
            Err(error) => Err(ResolveError::Dns {
                name: name.into(),
                source: Box::new(error),
            }),
        }
    }

    /// What the hosts file says. It is read each time: an operator's edit counts at the next
    /// question.
    async fn in_hosts(&self, name: &str) -> Option<Vec<IpAddr>> {
        // A hosts file that is missing or unreadable names nobody.
        let text = tokio::fs::read(&self.hosts).await.ok()?;
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(text.as_slice()).ok()?;
        let name = Name::from_utf8(name).ok()?;
        let addresses: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)))
            .flat_map(|lookup| Found::read(&lookup, RData::ip_addr).records)
            .collect();
        (!addresses.is_empty()).then_some(addresses)
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl<T> Found<T> {
    fn read(lookup: &Lookup, read: impl Fn(&RData) -> Option<T>) -> Self {
        let answers = lookup.answers();
        let ttl = answers.iter().map(|record| record.ttl).min();
        Self {
            records: answers
                .iter()
                .filter_map(|record| read(&record.data))
                .collect(),
            ttl: ttl.map_or(*TTL.end(), |seconds| Duration::from_secs(seconds.into())),
        }
    }
}

/// What has to be asked for a node (RFC 3263 §4.1, §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    /// Its addresses: the port is known.
    Addresses {
        /// Over this transport.
        transport: Transport,
        /// At this port.
        port: u16,
    },
    /// Everything: neither transport nor port is known.
    Discover,
    /// Nothing: the host is an address.
    Known(Hop),
    /// Its SRV records for this transport.
    Service(Transport),
}

impl Plan {
    fn of(node: &Node) -> Self {
        // An address or a port without a transport means UDP (RFC 3263 §4.1).
        let transport = node.transport.unwrap_or(Transport::Udp);
        if let Ok(ip) = node.host.parse::<IpAddr>() {
            let port = node.port.unwrap_or_else(|| transport.default_port());
            return Self::Known(hop(node, transport, ip, port));
        }
        match (node.port, node.transport) {
            (Some(port), _) => Self::Addresses { transport, port },
            (None, Some(Transport::Ws | Transport::Wss)) => Self::Addresses {
                transport,
                port: transport.default_port(),
            },
            (None, Some(Transport::Tcp | Transport::Tls | Transport::Udp)) => {
                Self::Service(transport)
            }
            (None, None) => Self::Discover,
        }
    }
}

/// A NAPTR record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pointer {
    order: u16,
    preference: u16,
    flags: Box<[u8]>,
    service: Box<[u8]>,
    replacement: Box<str>,
}

impl Pointer {
    fn read(data: &RData) -> Option<Self> {
        let RData::NAPTR(naptr) = data else {
            return None;
        };
        Some(Self {
            order: naptr.order,
            preference: naptr.preference,
            flags: naptr.flags.clone(),
            service: naptr.services.clone(),
            replacement: naptr.replacement.to_ascii().into(),
        })
    }
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    priority: u16,
    weight: u16,
    port: u16,
    name: Box<str>,
}

impl Target {
    fn read(data: &RData) -> Option<Self> {
        let RData::SRV(srv) = data else {
            return None;
        };
        Some(Self {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            name: srv.target.to_ascii().into(),
        })
    }
}

/// A name whose SRV records are asked for, and the transport that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    transport: Transport,
    name: Box<str>,
}

fn service(transport: Transport, host: &str) -> Service {
    let label = match transport {
        Transport::Tls | Transport::Wss => "_sips._tcp",
        Transport::Tcp | Transport::Ws => "_sip._tcp",
        Transport::Udp => "_sip._udp",
    };
    Service {
        transport,
        name: format!("{label}.{host}").into(),
    }
}

/// The services that NAPTR records point to and that are spoken here, best first
/// (RFC 3263 §4.1).
fn order_services(mut pointers: Vec<Pointer>) -> Vec<Service> {
    pointers.sort_by_key(|pointer| (pointer.order, pointer.preference));
    pointers
        .into_iter()
        .filter(|pointer| pointer.flags.eq_ignore_ascii_case(b"s") && &*pointer.replacement != ".")
        .filter_map(|pointer| {
            let transport = match pointer.service.to_ascii_uppercase().as_slice() {
                b"SIP+D2U" => Transport::Udp,
                b"SIP+D2T" => Transport::Tcp,
                b"SIPS+D2T" => Transport::Tls,
                _ => return None,
            };
            Some(Service {
                transport,
                name: pointer.replacement,
            })
        })
        .collect()
}

/// Puts SRV records into the order in which they are tried (RFC 2782): lower priority first, and
/// within one priority at random by weight. A target `.` is none.
fn order_targets(mut targets: Vec<Target>, rng: &mut impl Rng) -> Vec<Target> {
    targets.retain(|target| &*target.name != ".");
    // Weight 0 comes first in the running sum, so that it has a small chance beside others.
    targets.sort_by(|a, b| {
        (a.priority, a.weight, &a.name, a.port).cmp(&(b.priority, b.weight, &b.name, b.port))
    });
    let mut ordered = Vec::with_capacity(targets.len());
    while let Some(priority) = targets.first().map(|target| target.priority) {
        let rivals = targets
            .iter()
            .take_while(|target| target.priority == priority);
        let sum: u32 = rivals.map(|target| u32::from(target.weight)).sum();
        let mut draw = rng.random_range(0..=sum);
        let chosen = targets.iter().position(|target| {
            let weight = u32::from(target.weight);
            let is_chosen = weight >= draw;
            draw = draw.saturating_sub(weight);
            is_chosen
        });
        ordered.push(targets.remove(chosen.unwrap_or_default()));
    }
    ordered
}

fn hop(node: &Node, transport: Transport, ip: IpAddr, port: u16) -> Hop {
    // RFC 3263 §4.1, §8: the certificate is for the name that the operator wrote, not for what
    // DNS made of it.
    let server_name = match transport {
        Transport::Tls | Transport::Wss => Some(Arc::clone(&node.host)),
        Transport::Tcp | Transport::Udp | Transport::Ws => None,
    };
    Hop {
        transport,
        address: (ip, port).into(),
        server_name,
    }
}

fn setup(error: NetError) -> ResolveError {
    ResolveError::Setup(Box::new(error))
}

/// Whether the answer is "there is none". Some servers refuse types that they do not know.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's enums are non-exhaustive and large"
)]
fn is_absent(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => matches!(
            none.response_code,
            ResponseCode::NoError | ResponseCode::NXDomain
        ),
        NetError::Dns(DnsError::ResponseCode(code)) => matches!(
            *code,
            ResponseCode::NXDomain | ResponseCode::NotImp | ResponseCode::FormErr
        ),
        _ => false,
    }
}

/// A configuration that asks nobody.
fn without_servers() -> ResolverConfig {
    ResolverConfig::from_parts(None, Vec::new(), Vec::new())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn node(host: &str, port: Option<u16>, transport: Option<Transport>) -> Node {
        Node {
            index: 0,
            host: host.into(),
            port,
            transport,
        }
    }

    fn known(transport: Transport, address: &str, server_name: Option<&str>) -> Plan {
        Plan::Known(Hop {
            transport,
            address: address.parse().unwrap(),
            server_name: server_name.map(Arc::from),
        })
    }

    #[tokio::test]
    async fn without_name_servers_an_address_resolves_and_a_name_fails_with_a_sentence() {
        let hosts = "/nonexistent/hosts";
        let resolver = Resolver::new(without_servers(), hosts).unwrap();
        let (hops, _) = resolver
            .resolve(&node("192.0.2.7", Some(5080), None))
            .await
            .unwrap();
        assert_eq!(hops[0].address, "192.0.2.7:5080".parse().unwrap());
        let error = resolver
            .resolve(&node("pbx.example.com", Some(5080), None))
            .await
            .unwrap_err();
        assert!(!error.to_string().is_empty());
    }

    fn addresses(transport: Transport, port: u16) -> Plan {
        Plan::Addresses { transport, port }
    }

    #[test]
    fn what_is_asked_follows_from_host_port_and_transport() {
        use Transport::{Tcp, Tls, Udp, Ws};
        let table = [
            ("192.0.2.1", None, None, known(Udp, "192.0.2.1:5060", None)),
            (
                "192.0.2.1",
                Some(5080),
                None,
                known(Udp, "192.0.2.1:5080", None),
            ),
            (
                "192.0.2.1",
                None,
                Some(Tls),
                known(Tls, "192.0.2.1:5061", Some("192.0.2.1")),
            ),
            (
                "2001:db8::1",
                None,
                Some(Tcp),
                known(Tcp, "[2001:db8::1]:5060", None),
            ),
            ("pbx.example", Some(5070), None, addresses(Udp, 5070)),
            ("pbx.example", Some(5070), Some(Tls), addresses(Tls, 5070)),
            ("pbx.example", None, Some(Ws), addresses(Ws, 80)),
            ("pbx.example", None, Some(Udp), Plan::Service(Udp)),
            ("pbx.example", None, Some(Tcp), Plan::Service(Tcp)),
            ("pbx.example", None, Some(Tls), Plan::Service(Tls)),
            ("pbx.example", None, None, Plan::Discover),
        ];
        for (host, port, transport, expected) in table {
            assert_eq!(Plan::of(&node(host, port, transport)), expected);
        }
    }

    #[test]
    fn the_service_name_says_the_transport() {
        for (transport, expected) in [
            (Transport::Udp, "_sip._udp.pbx.example"),
            (Transport::Tcp, "_sip._tcp.pbx.example"),
            (Transport::Tls, "_sips._tcp.pbx.example"),
        ] {
            assert_eq!(&*service(transport, "pbx.example").name, expected);
        }
    }

    fn pointer(order: u16, preference: u16, flags: &str, service: &str, to: &str) -> Pointer {
        Pointer {
            order,
            preference,
            flags: flags.as_bytes().into(),
            service: service.as_bytes().into(),
            replacement: to.into(),
        }
    }

    #[test]
    fn pointers_are_followed_by_order_then_preference_where_spoken_here() {
        let services = order_services(vec![
            pointer(100, 50, "s", "SIP+D2U", "u"),
            pointer(50, 60, "S", "sip+d2t", "t"),
            pointer(50, 50, "s", "SIPS+D2T", "s"),
            pointer(10, 10, "s", "SIP+D2W", "w"),
            pointer(10, 10, "u", "E2U+sip", "e"),
            pointer(10, 10, "s", "SIP+D2U", "."),
        ]);
        let found: Vec<_> = services.iter().map(|s| (s.transport, &*s.name)).collect();
        assert_eq!(
            found,
            [
                (Transport::Tls, "s"),
                (Transport::Tcp, "t"),
                (Transport::Udp, "u")
            ]
        );
    }

    fn target(priority: u16, weight: u16, name: &str) -> Target {
        Target {
            priority,
            weight,
            port: 5060,
            name: name.into(),
        }
    }

    #[test]
    fn a_lower_priority_always_comes_first_and_a_dot_is_no_target() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..100 {
            let ordered = order_targets(
                vec![
                    target(20, 65_535, "c"),
                    target(10, 0, "a"),
                    target(0, 0, "."),
                    target(20, 0, "d"),
                    target(10, 9, "b"),
                ],
                &mut rng,
            );
            let names: String = ordered.iter().map(|target| &*target.name).collect();
            assert!(
                ["abcd", "bacd", "abdc", "badc"].contains(&names.as_str()),
                "{names}"
            );
        }
    }

    #[test]
    fn within_a_priority_the_first_place_is_drawn_by_weight() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut first = [0_u32; 3];
        for _ in 0..10_000 {
            let ordered = order_targets(
                vec![target(1, 60, "a"), target(1, 30, "b"), target(1, 0, "c")],
                &mut rng,
            );
            assert_eq!(ordered.len(), 3);
            match &*ordered[0].name {
                "a" => first[0] += 1,
                "b" => first[1] += 1,
                _ => first[2] += 1,
            }
        }
        assert!((6_300..6_900).contains(&first[0]), "{first:?}");
        assert!((3_000..3_600).contains(&first[1]), "{first:?}");
        assert!((50..200).contains(&first[2]), "{first:?}");
    }

    #[test]
    fn targets_without_weights_are_all_tried() {
        let mut rng = StdRng::seed_from_u64(3);
        let ordered = order_targets(vec![target(1, 0, "b"), target(1, 0, "a")], &mut rng);
        let mut names: Vec<_> = ordered.iter().map(|target| &*target.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
    }
}
