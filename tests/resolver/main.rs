//! RFC 3263 against a DNS server that stands in on loopback: NAPTR, SRV, A, AAAA, and what a broken
//! or silent server leads to.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that fails shall stop where it fails, and measures real time"
)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use rouse::io::resolver::{ResolveError, Resolver};
use rouse::proto::settings::Node;
use rouse::proto::{Hop, Transport};

/// A name server for one zone, and what it was asked.
struct Dns {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    fn serve(zone: Vec<Record>) -> Self {
        Self::serve_with(move |query, answer| {
            let is_known = |record: &&Record| record.name == *query.name();
            answer.metadata.response_code = match zone.iter().find(is_known) {
                Some(_) => ResponseCode::NoError,
                None => ResponseCode::NXDomain,
            };
            let matches = zone.iter().filter(is_known).filter(|record| {
                [query.query_type(), RecordType::CNAME].contains(&record.record_type())
            });
            answer.add_answers(matches.cloned());
            true
        })
    }

    /// `answer` returns whether to answer at all.
    fn serve_with(answer: impl Fn(&Query, &mut Message) -> bool + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
                        continue;
                    };
                    let question = Message::from_vec(buffer.get(..length).unwrap()).unwrap();
                    let query = question.queries.first().unwrap().clone();
                    let line = format!("{} {}", query.query_type(), query.name());
                    asked.lock().unwrap().push(line);
                    let mut message = Message::response(question.metadata.id, OpCode::Query);
                    message.add_query(query.clone());
                    if answer(&query, &mut message) {
                        socket.send_to(&message.to_vec().unwrap(), peer).unwrap();
                    }
                }
            })
        };
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    fn resolver(&self, hosts: &str) -> (Resolver, tempfile::NamedTempFile) {
        let mut server = NameServerConfig::udp(self.address.ip());
        for connection in &mut server.connections {
            connection.port = self.address.port();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), hosts).unwrap();
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        (Resolver::new(config, file.path()).unwrap(), file)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, address: &str) -> Record {
    record(owner, 300, RData::A(A(address.parse().unwrap())))
}

fn aaaa(owner: &str, address: &str) -> Record {
    record(owner, 300, RData::AAAA(AAAA(address.parse().unwrap())))
}

fn srv(owner: &str, priority: u16, port: u16, target: &str) -> Record {
    let data = RData::SRV(SRV::new(priority, 10, port, name(target)));
    record(owner, 120, data)
}

fn naptr(owner: &str, order: u16, service: &str, to: &str) -> Record {
    let data = NAPTR::new(
        order,
        50,
        b"s".to_vec().into(),
        service.as_bytes().into(),
        Box::default(),
        name(to),
    );
    record(owner, 60, RData::NAPTR(data))
}

fn node(host: &str, port: Option<u16>, transport: Option<Transport>) -> Node {
    Node {
        index: 0,
        host: host.into(),
        port,
        transport,
    }
}

fn hop(transport: Transport, address: &str, server_name: Option<&str>) -> Hop {
    Hop {
        transport,
        address: address.parse().unwrap(),
        server_name: server_name.map(Arc::from),
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn resolve(dns: &Dns, node: &Node) -> Result<(Vec<Hop>, Duration), ResolveError> {
    let (resolver, _hosts) = dns.resolver("127.0.0.1 localhost\n::1 localhost\n");
    run(resolver.resolve(node))
}

#[test]
fn naptr_leads_to_srv_leads_to_addresses_in_order() {
    let dns = Dns::serve(vec![
        naptr("pbx.example.", 90, "SIP+D2U", "_sip._udp.pbx.example."),
        naptr("pbx.example.", 50, "SIPS+D2T", "_sips._tcp.pbx.example."),
        naptr("pbx.example.", 10, "SIP+D2S", "_sip._sctp.pbx.example."),
        srv("_sips._tcp.pbx.example.", 20, 5071, "b.pbx.example."),
        srv("_sips._tcp.pbx.example.", 10, 5061, "a.pbx.example."),
        srv("_sip._udp.pbx.example.", 10, 5060, "a.pbx.example."),
        a("a.pbx.example.", "192.0.2.1"),
        aaaa("a.pbx.example.", "2001:db8::1"),
        a("b.pbx.example.", "192.0.2.2"),
    ]);
    let (hops, ttl) = resolve(&dns, &node("pbx.example", None, None)).unwrap();
    let tls = |address| hop(Transport::Tls, address, Some("pbx.example"));
    assert_eq!(
        hops,
        [
            tls("192.0.2.1:5061"),
            tls("[2001:db8::1]:5061"),
            tls("192.0.2.2:5071"),
            hop(Transport::Udp, "192.0.2.1:5060", None),
            hop(Transport::Udp, "[2001:db8::1]:5060", None),
        ]
    );
    assert_eq!(
        ttl,
        Duration::from_secs(60),
        "the NAPTR record's, the least"
    );
}

#[test]
fn a_given_transport_asks_for_its_srv_alone() {
    let dns = Dns::serve(vec![
        naptr("pbx.example.", 50, "SIPS+D2T", "_sips._tcp.pbx.example."),
        srv("_sip._tcp.pbx.example.", 10, 5090, "a.pbx.example."),
        a("a.pbx.example.", "192.0.2.1"),
    ]);
    let (hops, ttl) = resolve(&dns, &node("pbx.example", None, Some(Transport::Tcp))).unwrap();
    assert_eq!(hops, [hop(Transport::Tcp, "192.0.2.1:5090", None)]);
    assert_eq!(ttl, Duration::from_secs(120));
    assert!(!dns.asked().iter().any(|line| line.contains("NAPTR")));
}

#[test]
fn a_given_port_asks_for_addresses_alone_and_follows_an_alias() {
    let dns = Dns::serve(vec![
        record(
            "pbx.example.",
            7,
            RData::CNAME(CNAME(name("real.example."))),
        ),
        a("pbx.example.", "192.0.2.1"),
        srv("_sip._udp.pbx.example.", 10, 5090, "a.pbx.example."),
    ]);
    // The alias and its address in one answer, as recursive servers send it.
    let (hops, ttl) = resolve(&dns, &node("pbx.example", Some(5080), None)).unwrap();
    assert_eq!(hops, [hop(Transport::Udp, "192.0.2.1:5080", None)]);
    assert_eq!(ttl, Duration::from_secs(7));
    assert!(!dns.asked().iter().any(|line| line.contains("SRV")));
}

#[test]
fn without_naptr_each_transports_srv_is_tried() {
    let dns = Dns::serve(vec![
        srv("_sips._tcp.pbx.example.", 10, 5061, "a.pbx.example."),
        srv("_sip._tcp.pbx.example.", 10, 5060, "a.pbx.example."),
        a("a.pbx.example.", "192.0.2.1"),
        a("pbx.example.", "192.0.2.99"),
    ]);
    let (hops, _) = resolve(&dns, &node("pbx.example", None, None)).unwrap();
    assert_eq!(
        hops,
        [
            hop(Transport::Tcp, "192.0.2.1:5060", None),
            hop(Transport::Tls, "192.0.2.1:5061", Some("pbx.example")),
        ]
    );
}

#[test]
fn without_any_service_record_the_name_itself_is_asked() {
    let dns = Dns::serve(vec![a("pbx.example.", "192.0.2.1")]);
    for (transport, expected) in [
        (None, hop(Transport::Udp, "192.0.2.1:5060", None)),
        (
            Some(Transport::Tls),
            hop(Transport::Tls, "192.0.2.1:5061", Some("pbx.example")),
        ),
    ] {
        let (hops, _) = resolve(&dns, &node("pbx.example", None, transport)).unwrap();
        assert_eq!(hops, [expected]);
    }
}

#[test]
fn a_target_without_address_is_passed_over() {
    let dns = Dns::serve(vec![
        srv("_sip._udp.pbx.example.", 10, 5060, "gone.pbx.example."),
        srv("_sip._udp.pbx.example.", 20, 5060, "a.pbx.example."),
        a("a.pbx.example.", "192.0.2.1"),
    ]);
    let (hops, _) = resolve(&dns, &node("pbx.example", None, Some(Transport::Udp))).unwrap();
    assert_eq!(hops, [hop(Transport::Udp, "192.0.2.1:5060", None)]);
}

#[test]
fn a_dot_as_target_means_that_there_is_no_service() {
    let dns = Dns::serve(vec![
        srv("_sip._udp.pbx.example.", 0, 0, "."),
        a("pbx.example.", "192.0.2.1"),
    ]);
    let result = resolve(&dns, &node("pbx.example", None, Some(Transport::Udp)));
    assert!(
        matches!(result, Err(ResolveError::Refused(_))),
        "{result:?}"
    );
}

#[test]
fn an_unknown_name_is_not_found() {
    let dns = Dns::serve(Vec::new());
    for port in [None, Some(5060)] {
        let result = resolve(&dns, &node("nowhere.example", port, None));
        assert!(
            matches!(result, Err(ResolveError::NotFound(_))),
            "{result:?}"
        );
    }
}

#[test]
fn addresses_and_names_of_the_hosts_file_need_no_dns() {
    let dns = Dns::serve_with(|_, _| false);
    let (hops, ttl) = resolve(&dns, &node("192.0.2.7", None, Some(Transport::Tls))).unwrap();
    assert_eq!(
        hops,
        [hop(Transport::Tls, "192.0.2.7:5061", Some("192.0.2.7"))]
    );
    assert_eq!(ttl, Duration::from_secs(3600));
    for transport in [None, Some(Transport::Udp)] {
        let (hops, ttl) = resolve(&dns, &node("localhost", None, transport)).unwrap();
        assert_eq!(
            hops,
            [
                hop(Transport::Udp, "127.0.0.1:5060", None),
                hop(Transport::Udp, "[::1]:5060", None),
            ]
        );
        assert_eq!(ttl, Duration::from_secs(5));
    }
    assert_eq!(dns.asked(), Vec::<String>::new());
}

#[test]
fn an_edit_of_the_hosts_file_counts_at_the_next_question() {
    let dns = Dns::serve(Vec::new());
    let (resolver, file) = dns.resolver("192.0.2.1 pbx\n");
    let ask = || {
        run(resolver.resolve(&node("pbx", Some(5060), None)))
            .unwrap()
            .0
    };
    assert_eq!(ask(), [hop(Transport::Udp, "192.0.2.1:5060", None)]);
    std::fs::write(file.path(), "192.0.2.2 pbx\n").unwrap();
    assert_eq!(ask(), [hop(Transport::Udp, "192.0.2.2:5060", None)]);
}

#[test]
fn a_silent_server_costs_two_seconds_and_no_more() {
    let dns = Dns::serve_with(|_, _| false);
    let started = Instant::now();
    let result = resolve(&dns, &node("pbx.example", None, None));
    assert!(matches!(result, Err(ResolveError::Timeout)), "{result:?}");
    assert!(started.elapsed() < Duration::from_millis(2_500));
    assert!(dns.asked().len() > 1, "a lost datagram is asked for again");
}

#[test]
fn a_failing_server_is_an_error_and_not_another_address() {
    let dns = Dns::serve_with(|query, answer| {
        if query.query_type() == RecordType::SRV {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else {
            answer.add_answer(a("pbx.example.", "192.0.2.1"));
        }
        true
    });
    let result = resolve(&dns, &node("pbx.example", None, Some(Transport::Tcp)));
    assert!(
        matches!(result, Err(ResolveError::Dns { .. })),
        "{result:?}"
    );
}

#[test]
fn a_server_that_does_not_know_naptr_is_asked_on() {
    let dns = Dns::serve_with(|query, answer| {
        if query.query_type() == RecordType::A {
            answer.add_answer(a("pbx.example.", "192.0.2.1"));
        }
        if query.query_type() == RecordType::NAPTR {
            answer.metadata.response_code = ResponseCode::NotImp;
        }
        true
    });
    let (hops, _) = resolve(&dns, &node("pbx.example", None, None)).unwrap();
    assert_eq!(hops, [hop(Transport::Udp, "192.0.2.1:5060", None)]);
}
