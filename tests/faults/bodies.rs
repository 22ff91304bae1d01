//! A request that hides in what may be another's body (past advisories of OpenSIPS and Kamailio:
//! CVE-2026-45103, CVE-2026-39863): over TCP, TLS and WebSocket, from a registered phone, whose
//! INVITE would be passed on. Behind Rouse nobody may see any of it.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::rig::certificates::certificates;
use crate::rig::rouse::{Rouse, Setup};
use crate::rig::{SOON, eventually, loopback};

/// Lengths that nobody may act on; with one that is given twice the lines of both.
const LENGTHS: [&str; 18] = [
    "-1",
    "+0",
    "0x0",
    "1e3",
    "",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "4294967328",
    "18446744073709551616",
    "1234567890123456789012345678901234567890",
    "0\r\nContent-Length: 0",
    "0\r\nContent-Length: 1",
    "0\r\nl: 0",
    "0\r\nContent-Length:\r\n 0",
    "0, 0",
    "\x0b0",
];

/// An upstream that accepts every registration, and remembers what came.
async fn sink() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind((loopback::address(), 5060)).await;
    let socket = socket.expect("an address");
    let address = socket.local_addr().expect("it is bound");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let kept = text.lines().filter(|line| {
                ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            let lines: Vec<&str> = kept.collect();
            let answer = format!(
                "SIP/2.0 200 OK\r\n{}\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n",
                lines.join("\r\n")
            );
            all.lock().push(text);
            // dropped: whoever asked asks again.
            socket.send_to(answer.as_bytes(), from).await.ok();
        }
    });
    (address, seen)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    Tls,
    Ws,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A phone's connection, byte for byte.
struct Line {
    way: Way,
    user: usize,
    stream: Box<dyn Wire>,
    heard: String,
}

impl Line {
    async fn open(way: Way, user: usize, rouse: SocketAddr, ws: SocketAddr) -> Self {
        let to = match way {
            Way::Tcp => rouse,
            Way::Tls => SocketAddr::from((rouse.ip(), 5061)),
            Way::Ws => ws,
        };
        let stream = TcpStream::connect(to).await.expect("it listens");
        let stream: Box<dyn Wire> = match way {
            Way::Tcp | Way::Ws => Box::new(stream),
            Way::Tls => {
                let name = ServerName::try_from("localhost").expect("a name");
                let shaken = connector().connect(name, stream).await;
                Box::new(shaken.expect("a handshake"))
            }
        };
        let heard = String::new();
        let mut line = Self {
            way,
            user,
            stream,
            heard,
        };
        if way == Way::Ws {
            let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";
            let written = line.stream.write_all(upgrade.as_bytes()).await;
            written.expect("a socket");
            assert!(line.hears("101 ").await, "it is a WebSocket");
        }
        line
    }

    /// Says something, in one frame where there are frames.
    async fn says(&mut self, text: &str) {
        let mut bytes = Vec::new();
        if self.way == Way::Ws {
            // Text, whole, masked with zeros, of 126 to 65535 bytes.
            bytes.extend([0x81, 0x80 | 126]);
            let length = u16::try_from(text.len()).expect("a short message");
            bytes.extend(length.to_be_bytes());
            bytes.extend([0; 4]);
        }
        bytes.extend(text.as_bytes());
        // dropped: it may be closed on us, which is what some of it should lead to.
        self.stream.write_all(&bytes).await.ok();
        self.stream.flush().await.ok();
    }

    /// Whether this comes before the end.
    async fn hears(&mut self, words: &str) -> bool {
        let mut buffer = [0; 4096];
        while !self.heard.contains(words) {
            let read = timeout(SOON, self.stream.read(&mut buffer)).await;
            match read.expect("an answer, or the end") {
                Ok(0) | Err(_) => return false,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    self.heard.push_str(&text);
                }
            }
        }
        self.heard.clear();
        true
    }

    async fn registers(&mut self, call: &str) -> bool {
        self.says(&self.request("REGISTER", call, "0")).await;
        self.hears("SIP/2.0 200").await
    }

    fn request(&self, method: &str, call: &str, length: &str) -> String {
        let user = self.user;
        format!(
            "{method} sip:600@pbx.test SIP/2.0\r\n\
             Via: SIP/2.0/TCP 192.0.2.7:5060;branch=z9hG4bK{call}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@pbx.test>;tag=a\r\n\
             To: <sip:{user}@pbx.test>\r\n\
             Call-ID: {call}\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:{user}@192.0.2.7:5060>\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    }
}

fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let pem = certificates().ca_pem.as_bytes();
    let root = CertificateDer::from_pem_slice(pem).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A phone that says something with this length, and a request behind it.
async fn tries(way: Way, length: &'static str, user: usize, rouse: SocketAddr, ws: SocketAddr) {
    let mut line = Line::open(way, user, rouse, ws).await;
    let call = format!("c{user}");
    assert!(line.registers(&call).await, "{way:?}: a phone");
    let hidden = line.request("INVITE", &format!("{call}hidden"), "0");
    let around = line.request("MESSAGE", &format!("{call}around"), length);
    line.says(&format!("{around}{hidden}")).await;
    // What it says next is read behind that, or not at all.
    let is_open = line.registers(&format!("{call}again")).await;
    // A stream is closed, as nobody knows where to go on.
    assert!(way == Way::Ws || !is_open, "{way:?} {length:?}");
}

#[tokio::test]
async fn no_request_hides_in_a_body_of_doubtful_length() {
    let (node, seen) = sink().await;
    let ws = SocketAddr::from((loopback::address(), 5062));
    let mut setup = Setup::before(node);
    setup.trust = format!("\"{}/32\"", node.ip());
    setup.tables = format!("[[listen]]\ntransport = \"ws\"\naddress = \"{ws}\"\n");
    let rouse = Rouse::start(setup);
    rouse.says("gateway started", 1).await;
    let to = SocketAddr::from((rouse.ip, 5060));
    let mut tried = JoinSet::new();
    for way in [Way::Tcp, Way::Tls, Way::Ws] {
        for length in LENGTHS {
            let user = 1000 + tried.len();
            tried.spawn(tries(way, length, user, to, ws));
        }
    }
    tried.join_all().await;
    let is_any = |method: &str| seen.lock().iter().any(|text| text.starts_with(method));
    let mut found = vec!["INVITE", "MESSAGE"];
    found.retain(|method| is_any(method));
    assert!(found.is_empty(), "{found:?} behind Rouse");

    // The rig sees what there is to see.
    let mut line = Line::open(Way::Tcp, 1900, to, ws).await;
    assert!(line.registers("control").await, "a phone");
    let around = line.request("MESSAGE", "control1", "0");
    let behind = line.request("INVITE", "control2", "0");
    line.says(&format!("{around}{behind}")).await;
    eventually("both arrive", async || {
        (is_any("INVITE") && is_any("MESSAGE")).then_some(())
    })
    .await;
}
