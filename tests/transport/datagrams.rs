//! UDP: messages, keep-alives, both address families.

use rouse::io::transport::TransportLimits;
use rouse::proto::{FlowId, Input, Transport};
use tokio::net::UdpSocket;

use crate::rig::{OPTIONS, Rig, Wanted, soon};

fn rig(listeners: &[(Transport, &str)]) -> Rig {
    Rig::start(Wanted {
        listeners,
        limits: TransportLimits::default(),
        ..Wanted::default()
    })
}

async fn exchange(rig: &mut Rig, bind: &str, listener: usize) {
    let phone = UdpSocket::bind(bind).await.unwrap();
    let mut to = rig.addresses[listener];
    let loopback = phone.local_addr().unwrap().ip();
    to.set_ip(loopback);
    phone.send_to(OPTIONS.as_bytes(), to).await.unwrap();
    let (flow, message) = rig.message().await;
    assert_eq!(message, OPTIONS.as_bytes());
    assert_eq!(flow.remote, phone.local_addr().unwrap());
    assert_eq!(usize::from(flow.listener.0), listener);
    rig.send(flow, "SIP/2.0 200 OK\r\n\r\n");
    let mut answer = [0; 100];
    let (length, from) = soon(phone.recv_from(&mut answer)).await.unwrap();
    assert_eq!(&answer[..length], b"SIP/2.0 200 OK\r\n\r\n");
    assert_eq!(from, to);
}

#[tokio::test]
async fn a_datagram_is_answered_from_the_address_that_it_was_sent_to() {
    let mut rig = rig(&[(Transport::Udp, "127.0.0.1:0")]);
    exchange(&mut rig, "127.0.0.1:0", 0).await;
}

#[tokio::test]
async fn ipv6_works_alike() {
    let mut rig = rig(&[(Transport::Udp, "[::1]:0")]);
    exchange(&mut rig, "[::1]:0", 0).await;
}

#[tokio::test]
async fn one_dual_stack_socket_serves_both_families() {
    let mut rig = rig(&[(Transport::Udp, "[::]:0")]);
    exchange(&mut rig, "[::1]:0", 0).await;
    exchange(&mut rig, "127.0.0.1:0", 0).await;
}

#[tokio::test]
async fn listeners_of_both_families_share_a_port() {
    let first = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    drop(first);
    let (v4, v6) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
    let mut rig = rig(&[
        (Transport::Udp, &v4),
        (Transport::Udp, &v6),
        (Transport::Tcp, &v4),
        (Transport::Tcp, &v6),
    ]);
    exchange(&mut rig, "127.0.0.1:0", 0).await;
    exchange(&mut rig, "[::1]:0", 1).await;
}

#[tokio::test]
async fn short_datagrams_are_keep_alives_or_dropped() {
    let mut rig = rig(&[(Transport::Udp, "127.0.0.1:0")]);
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let flow = FlowId::Datagram {
        listener: rouse::proto::ListenerId(0),
        remote: phone.local_addr().unwrap(),
    };
    assert!(rig.network.bind_flow(flow, 0));
    for datagram in [&b"\r\n\r\n"[..], b"\r\n", b"\0", b"\0\0\0\0"] {
        phone.send_to(datagram, rig.addresses[0]).await.unwrap();
        assert!(matches!(rig.input().await, Input::Heard { .. }));
    }
    phone.send_to(b"abc", rig.addresses[0]).await.unwrap();
    phone
        .send_to(b"not sip at all", rig.addresses[0])
        .await
        .unwrap();
    assert!(matches!(rig.input().await, Input::Malformed { .. }));
    assert_eq!(rig.counts.dropped.garbage.get(), 1);
    assert_eq!(rig.counts.keepalives.get(), 4);
}

#[tokio::test]
async fn a_shard_that_cannot_keep_up_loses_datagrams_and_they_are_counted() {
    let rig = rig(&[(Transport::Udp, "127.0.0.1:0")]);
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let counts = &rig.counts.dropped;
    soon(async {
        while counts.input_queue.get() == 0 {
            phone
                .send_to(OPTIONS.as_bytes(), rig.addresses[0])
                .await
                .unwrap();
        }
    })
    .await;
    assert_eq!(rig.inputs.len(), 1024);
}

#[tokio::test]
async fn a_stun_request_is_answered_with_its_address_and_other_stun_is_not() {
    let mut rig = rig(&[(Transport::Udp, "127.0.0.1:0")]);
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let own = phone.local_addr().unwrap();
    phone.connect(rig.addresses[0]).await.unwrap();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend(*b"transaction!");
    let mut indication = request.clone();
    indication[1] = 0x11;
    phone.send(&indication).await.unwrap();
    phone.send(&request).await.unwrap();
    let mut answer = [0; 100];
    let length = soon(phone.recv(&mut answer)).await.unwrap();
    assert_eq!(length, 32);
    assert_eq!(answer[..4], [1, 1, 0, 12]);
    assert_eq!(answer[4..20], request[4..]);
    let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
    assert_eq!(port, own.port());
    assert_eq!(rig.counts.keepalives.get(), 1);
    assert_eq!(rig.counts.dropped.garbage.get(), 1);
    // Where an agent is registered, its keep-alive is heard.
    phone.send(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    assert!(rig.network.bind_flow(flow.id, 0));
    phone.send(&request).await.unwrap();
    soon(phone.recv(&mut answer)).await.unwrap();
    assert!(matches!(rig.input().await, Input::Heard { flow: id } if id == flow.id));
}
