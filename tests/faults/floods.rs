//! Floods of every kind at once, over real sockets, and good phones beside them.
//!
//! What each flood gets is in tests/sim/guard.rs; here it is whether anybody else suffers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rouse::proto::Transport;
use rouse::standin::phone::{Phone, PhoneConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::rig::loopback;
use crate::rig::scene::{Scene, asterisk, registered, talk};

/// Datagrams that one flood sends in each of its turns, and how often it has one.
const VOLLEY: u64 = 3;
const TURN: Duration = Duration::from_millis(10);
/// Addresses of which a flood of many comes.
const CROWD: u8 = 200;
/// Datagrams and connections that the good phones must have stood.
const FLOOD: u64 = 1500;
/// Calls to each good phone, at least.
const CALLS: usize = 10;

fn request(method: &str, user: &str, number: u64, local: SocketAddr, ip: Ipv4Addr) -> String {
    format!(
        "{method} sip:{user}@{ip} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};rport;branch=z9hG4bK{number}x{}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{user}@{ip}>;tag={number}\r\n\
         To: <sip:{user}@{ip}>\r\n\
         Call-ID: {number}@{local}\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:{user}@{local}>\r\n\
         Content-Length: 0\r\n\r\n",
        local.port()
    )
}

/// Sends what `next` makes, volley after volley, from these sockets in turn.
async fn datagrams(
    sockets: Vec<UdpSocket>,
    to: SocketAddr,
    sent: Arc<AtomicU64>,
    next: impl Fn(u64, SocketAddr) -> Vec<u8>,
) {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        turns.tick().await;
        for _ in 0..VOLLEY {
            let index = usize::try_from(number).expect("64 bits") % sockets.len();
            let socket = &sockets[index];
            let bytes = next(number, socket.local_addr().expect("it is bound"));
            // dropped: the kernel has no room, which is what a flood leads to.
            if socket.try_send_to(&bytes, to).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
            number += 1;
        }
    }
}

async fn bound(ip: Ipv4Addr) -> UdpSocket {
    UdpSocket::bind((ip, 0)).await.expect("an address")
}

/// Opens connections from an address and says half a request on each.
async fn connections(ip: Ipv4Addr, to: SocketAddr, sent: Arc<AtomicU64>) {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open: Vec<TcpStream> = Vec::new();
    loop {
        turns.tick().await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((ip, 0))).expect("an address");
        let Ok(mut stream) = socket.connect(to).await else {
            continue;
        };
        // dropped: it is closed on us as often as not.
        stream
            .write_all(b"REGISTER sip:a SIP/2.0\r\nVia: ")
            .await
            .ok();
        sent.fetch_add(1, Ordering::Relaxed);
        open.push(stream);
        if open.len() > 300 {
            open.clear();
        }
    }
}

/// Begins all floods; returns how much they have sent so far.
async fn flood(rouse: Ipv4Addr, floods: &mut JoinSet<()>) -> Arc<AtomicU64> {
    let sent = Arc::new(AtomicU64::new(0));
    let to = SocketAddr::from((rouse, 5060));
    let one = bound(loopback::address()).await;
    floods.spawn(datagrams(
        vec![one],
        to,
        Arc::clone(&sent),
        move |number, at| {
            request(
                "REGISTER",
                &format!("{}", 1000 + number % 1000),
                number,
                at,
                rouse,
            )
            .into_bytes()
        },
    ));
    let one = bound(loopback::address()).await;
    floods.spawn(datagrams(
        vec![one],
        to,
        Arc::clone(&sent),
        move |number, at| request("INVITE", "1001", number, at, rouse).into_bytes(),
    ));
    let one = bound(loopback::address()).await;
    floods.spawn(datagrams(
        vec![one],
        to,
        Arc::clone(&sent),
        move |number, _| match number % 3 {
            0 => vec![0; 1200],
            1 => b"INVITE sip:1001 SIP/2.0\r\nnothing: of it\r\n\r\n".to_vec(),
            _ => b"\r\n\r\n".to_vec(),
        },
    ));
    // 127.0 is left to everything else on the machine; these are the floods' alone.
    let [_, block, ..] = loopback::address().octets();
    let mut crowd = Vec::new();
    for number in 1..=CROWD {
        crowd.push(bound(Ipv4Addr::new(127, block ^ 0x80, 7, number)).await);
    }
    floods.spawn(datagrams(
        crowd,
        to,
        Arc::clone(&sent),
        move |number, at| {
            let method = if number % 2 == 0 {
                "REGISTER"
            } else {
                "OPTIONS"
            };
            request(method, &format!("stranger{number}"), number, at, rouse).into_bytes()
        },
    ));
    floods.spawn(connections(loopback::address(), to, Arc::clone(&sent)));
    let tls = SocketAddr::from((rouse, 5061));
    floods.spawn(connections(loopback::address(), tls, Arc::clone(&sent)));
    sent
}

/// All that a good phone wants while the floods go on.
async fn is_served(scene: &Scene, phone: &mut Phone, user: &str) {
    for _ in 0..CALLS {
        phone.register().await.expect("it is known");
        let mut call = scene.asterisk.call(user, "2000").await.expect("a 100");
        let mut ringing = phone.next_call().await.expect("it rings");
        talk(&mut ringing, &mut call).await;
        assert_eq!(ringing.hangup().await.expect("an answer"), 200);
    }
    let mut call = phone.call("2001", "v=0\r\n").await.expect("a 100");
    let mut called = scene.asterisk.next_call().await.expect("it goes through");
    talk(&mut called, &mut call).await;
    assert_eq!(call.hangup().await.expect("an answer"), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_phones_beside_floods_of_every_kind_lose_no_call_and_no_registration() {
    let scene = Scene::before(asterisk(loopback::address()).await, |setup, pbx| {
        // Floods and phones share the cores of a test's machine: a pong takes its time there.
        setup.probe = "5s";
        // The floods' addresses are nobody's.
        setup.trust = format!("\"{}/32\"", pbx.ip());
    })
    .await;
    let datagram = PhoneConfig {
        local_ip: loopback::address().into(),
        ..scene.handset(1001, Transport::Udp)
    };
    let secure = PhoneConfig {
        local_ip: loopback::address().into(),
        ..scene.handset(1002, Transport::Tls)
    };
    let mut datagram = registered(&datagram).await;
    let mut secure = registered(&secure).await;
    let mut floods = JoinSet::new();
    let sent = flood(scene.rouse.ip, &mut floods).await;
    // A fast machine serves them before much of a flood has come.
    while sent.load(Ordering::Relaxed) < FLOOD {
        is_served(&scene, &mut datagram, "1001").await;
        is_served(&scene, &mut secure, "1002").await;
    }
    let sent = sent.load(Ordering::Relaxed);
    floods.shutdown().await;
    assert!(
        scene.apns.accepted().is_empty(),
        "nobody was taken for asleep"
    );
    // A stranger's words are no reason to fill a disk.
    let log = scene.rouse.log().lines().count();
    assert!(log < 500, "{log} lines after {sent} of the floods");
}
