//! Does Asterisk answer? One OPTIONS to the first address of each node (RFC 3263 finds it), over
//! the transport that the node's URI or DNS names. And do the push services take our credentials?

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::runtime::Runtime;

use crate::cli::check::Report;
use crate::config::Config;
use crate::io::pns::{PnsConfig, PushService};
use crate::io::resolver::Resolver;
use crate::proto::settings::{Listener, Node};
use crate::proto::{Hop, Transport};

/// How long a node may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// When a datagram is sent again: together [`PATIENCE`] (RFC 3261 §17.1.2.2 doubles T1).
const ATTEMPTS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
];

/// Asks every node of every upstream at once.
pub(super) fn upstreams(config: &Config, runtime: &Runtime, report: &mut Report) {
    let (roots, resolver) = match (roots(config), Resolver::from_system()) {
        (Ok(roots), Ok(resolver)) => (roots, resolver),
        (Err(problem), _) => return report.fail("tls", problem),
        (_, Err(error)) => return report.fail("resolver", error),
    };
    let nodes: Vec<(&str, &Node)> = config
        .settings
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.nodes.iter().map(|node| (&*upstream.name, node)))
        .collect();
    let answers: Vec<Result<String, String>> = thread::scope(|scope| {
        let asked: Vec<_> = nodes
            .iter()
            .map(|(_, node)| {
                scope.spawn(|| {
                    let hop = runtime.block_on(first_hop(&resolver, node))?;
                    ask(&hop, node, &roots)
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("not asked".to_owned()))
            })
            .collect()
    });
    for ((upstream, node), answer) in nodes.into_iter().zip(answers) {
        let what = format!("{upstream} {}", show(node));
        match answer {
            Ok(answer) => report.ok("upstream", format!("{what}: {answer}")),
            Err(problem) => report.fail("upstream", format!("{what}: {problem}")),
        }
    }
}

/// Asks every push service whether it takes our credentials; no device is pushed.
pub(super) fn push_services(config: &Config, runtime: &Runtime, report: &mut Report) {
    let services = PnsConfig {
        apns: config.push.apns.clone(),
        fcm: config.push.fcm.clone(),
        webpush: config.push.webpush.clone(),
        webhook: config.push.webhook.clone(),
        gateway_id: "rouse check".to_owned(),
    };
    let verdicts = runtime.block_on(async {
        match PushService::new(services) {
            Ok(service) => Ok(service.check().await),
            Err(error) => Err(error),
        }
    });
    match verdicts {
        Err(error) => report.fail("push", error),
        Ok(verdicts) => {
            for (name, verdict) in verdicts {
                match verdict {
                    Ok(said) => report.ok("push", format!("{name}: {said}")),
                    Err(problem) => report.fail("push", format!("{name}: {problem}")),
                }
            }
        }
    }
}

async fn first_hop(resolver: &Resolver, node: &Node) -> Result<Hop, String> {
    let resolved = resolver.resolve(node).await;
    let (hops, _) = resolved.map_err(|error| error.to_string())?;
    let first = hops.into_iter().next();
    first.ok_or_else(|| format!("{} has no address", node.host))
}

fn show(node: &Node) -> String {
    let host = if node.host.contains(':') {
        format!("[{}]", node.host)
    } else {
        node.host.to_string()
    };
    let port = node
        .port
        .map_or_else(String::new, |port| format!(":{port}"));
    let transport = node.transport.map_or("", Transport::label);
    let parameter = if transport.is_empty() {
        String::new()
    } else {
        format!(";transport={transport}")
    };
    format!("sip:{host}{port}{parameter}")
}

fn ask(hop: &Hop, node: &Node, roots: &Arc<ClientConfig>) -> Result<String, String> {
    let (transport, address) = (hop.transport, hop.address);
    let status = match transport {
        Transport::Udp => over_udp(address),
        Transport::Tcp => connect(address).and_then(|mut stream| {
            let local = stream.local_addr()?;
            exchange(&mut stream, transport, local, address)
        }),
        Transport::Tls => over_tls(node, address, roots),
        Transport::Ws | Transport::Wss => return Err("not a transport toward Asterisk".to_owned()),
    };
    match status {
        Ok(status) => Ok(format!("{address} answers OPTIONS with {status}")),
        Err(error) => Err(explain(address, transport, &error)),
    }
}

fn explain(address: SocketAddr, transport: Transport, error: &io::Error) -> String {
    let label = transport.label();
    let kind = error.kind();
    if kind == ErrorKind::ConnectionRefused {
        return format!(
            "nothing listens on {label} {address}: start Asterisk, or correct the node's port"
        );
    }
    // A socket's read that times out reports the first, a connect the second.
    if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return format!(
            "no answer from {label} {address} within {} s: \
             is it the right address, is there a firewall?",
            PATIENCE.as_secs()
        );
    }
    format!("{label} {address}: {error}")
}

/// Whether a gateway answers where this configuration has one: an OPTIONS over UDP if it listens
/// there, else a connection.
pub(super) fn alive(config: &Config) -> Result<String, String> {
    let listeners = &config.settings.listeners;
    let is_udp = |listener: &&Listener| listener.transport == Transport::Udp;
    let listener = listeners.iter().find(is_udp).or_else(|| listeners.first());
    let listener = listener.ok_or("nothing is listened on")?;
    let mut address = listener.address;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    let label = listener.transport.label();
    let asked = if listener.transport == Transport::Udp {
        over_udp(address)
    } else {
        connect(address).map(|_| "it listens".to_owned())
    };
    let told = asked.map(|answer| format!("{label} {address}: {answer}"));
    told.map_err(|error| format!("{label} {address}: {error}"))
}

fn over_udp(address: SocketAddr) -> io::Result<String> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    let request = options(Transport::Udp, socket.local_addr()?, address);
    let mut buffer = [0; 4096];
    for wait in ATTEMPTS {
        socket.send(request.as_bytes())?;
        socket.set_read_timeout(Some(wait))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some(status) = status(buffer.get(..length).unwrap_or(&[])) {
                    return Ok(status);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::TimedOut.into())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn over_tls(node: &Node, address: SocketAddr, tls: &Arc<ClientConfig>) -> io::Result<String> {
    let name = ServerName::try_from(node.host.to_string()).map_err(io::Error::other)?;
    let stream = connect(address)?;
    let local = stream.local_addr()?;
    let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    exchange(&mut stream, Transport::Tls, local, address)
}

fn exchange(
    stream: &mut (impl Read + Write),
    transport: Transport,
    local: SocketAddr,
    address: SocketAddr,
) -> io::Result<String> {
    stream.write_all(options(transport, local, address).as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::other(
                "it connects, and closes without an answer",
            ));
        }
        answer.extend_from_slice(buffer.get(..length).unwrap_or(&[]));
        if let Some(status) = status(&answer) {
            return Ok(status);
        }
        if answer.len() > 65_536 {
            return Err(io::Error::other("it answers, but not SIP"));
        }
    }
}

/// The status line's code and reason, once it is there.
fn status(answer: &[u8]) -> Option<String> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    if line.len() == answer.len() {
        return None;
    }
    let line = String::from_utf8_lossy(line);
    line.strip_prefix("SIP/2.0 ").map(str::to_owned)
}

fn options(transport: Transport, local: SocketAddr, to: SocketAddr) -> String {
    let number = rand::random::<u64>();
    let via = transport.via_token();
    [
        format!("OPTIONS sip:{to} SIP/2.0"),
        format!("Via: SIP/2.0/{via} {local};rport;branch=z9hG4bK{number:016x}"),
        "Max-Forwards: 70".to_owned(),
        format!("From: <sip:rouse@{local}>;tag={:08x}", number >> 32),
        format!("To: <sip:{to}>"),
        format!("Call-ID: {number:016x}"),
        "CSeq: 1 OPTIONS".to_owned(),
        "User-Agent: rouse check".to_owned(),
        "Content-Length: 0".to_owned(),
        String::new(),
        String::new(),
    ]
    .join("\r\n")
}

/// The roots for nodes that are reached over TLS: the system's and `[tls] ca_file`.
fn roots(config: &Config) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &config.upstream_ca {
        let own: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).and_then(|list| list.collect());
        let own = own.map_err(|error| format!("{}: {error}", path.display()))?;
        roots.add_parsable_certificates(own);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
