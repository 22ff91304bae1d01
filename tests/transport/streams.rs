//! Framing, keep-alives and writing over TCP.

use std::time::Duration;

use bytes::Bytes;
use rouse::io::transport::{SendError, TransportLimits};
use rouse::proto::{CloseReason, Destination, Input, Transport};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::rig::{OPTIONS, Rig, Wanted, read, read_to_end, soon};

#[tokio::test]
async fn messages_cut_anywhere_arrive_whole() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.set_nodelay(true).unwrap();
    let three = [OPTIONS, OPTIONS, OPTIONS].concat();
    // Prime strides: every boundary is hit somewhere.
    for stride in [1, 7, 61, 499, 5000] {
        for piece in three.as_bytes().chunks(stride) {
            phone.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            let (flow, message) = rig.message().await;
            assert_eq!(flow.transport, Transport::Tcp);
            assert_eq!(flow.remote, phone.local_addr().unwrap());
            assert_eq!(message, OPTIONS.as_bytes());
        }
    }
}

#[tokio::test]
async fn an_answer_returns_on_the_flow() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    rig.send(flow, "SIP/2.0 200 OK\r\n");
    rig.send(flow, "\r\n");
    assert_eq!(read(&mut phone, 18).await, b"SIP/2.0 200 OK\r\n\r\n");
}

#[tokio::test]
async fn a_ping_gets_one_pong_a_second_and_is_heard_where_the_flow_is_bound() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    assert!(rig.network.bind_flow(flow.id, 0));
    phone.write_all(b"\r\n\r\n\r\n\r\n\r\n\r\n").await.unwrap();
    assert_eq!(read(&mut phone, 2).await, b"\r\n");
    let heard = rig.input().await;
    assert!(matches!(heard, Input::Heard { flow: id } if id == flow.id));
    rig.send(flow, "end");
    assert_eq!(read(&mut phone, 3).await, b"end");
    assert_eq!(rig.counts.dropped.pong_withheld.get(), 2);
}

#[tokio::test]
async fn the_end_of_a_bound_flow_is_told_after_its_last_message() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    assert!(rig.network.bind_flow(flow.id, 0));
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    drop(phone);
    rig.message().await;
    match rig.input().await {
        Input::FlowClosed { flow: id, reason } => {
            assert_eq!((id, reason), (flow.id, CloseReason::Peer));
        }
        other => panic!("{other:?}"),
    }
    assert!(!rig.network.bind_flow(flow.id, 0));
    let sent = rig
        .network
        .send(&Destination::Flow(flow.id), Bytes::new(), None);
    assert_eq!(sent, Err(SendError::FlowGone));
}

#[tokio::test]
async fn a_close_lets_the_last_message_out() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    rig.send(flow, "SIP/2.0 400 Bad Request\r\n\r\n");
    rig.network.close(flow.id);
    let last = read_to_end(&mut phone).await;
    assert_eq!(last, b"SIP/2.0 400 Bad Request\r\n\r\n");
}

#[tokio::test]
async fn what_is_not_sip_is_closed_at_once() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    let posted = ["POST / HTTP/1.1\r\nHost: a\r\n\r\n", OPTIONS].concat();
    phone.write_all(posted.as_bytes()).await.unwrap();
    assert_eq!(read_to_end(&mut phone).await, b"");
    assert!(matches!(rig.input().await, Input::Malformed { .. }));
    assert!(rig.inputs.is_empty());
    assert_eq!(rig.counts.closed.framing.get(), 1);
}

#[tokio::test]
async fn a_body_of_impossible_length_is_answered_and_closed() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    let endless = OPTIONS.replace("Length: 5", "Length: -5");
    phone.write_all(endless.as_bytes()).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let Input::Malformed { flow, bytes, .. } = rig.input().await else {
        panic!("not malformed");
    };
    assert!(bytes.starts_with(b"OPTIONS sip:"));
    rig.send(flow, "SIP/2.0 400 Bad Request\r\n\r\n");
    rig.network.close(flow.id);
    let answer = read_to_end(&mut phone).await;
    assert_eq!(answer, b"SIP/2.0 400 Bad Request\r\n\r\n");
    assert!(rig.inputs.is_empty());
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed() {
    let limits = TransportLimits {
        write_queue: 64 * 1024,
        ..TransportLimits::default()
    };
    let mut rig = Rig::start(Wanted {
        limits,
        ..Wanted::default()
    });
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    assert!(rig.network.bind_flow(flow.id, 0));
    let to = Destination::Flow(flow.id);
    let message = Bytes::from(vec![b'x'; 16 * 1024]);
    let overflow = soon(async {
        loop {
            if let Err(error) = rig.network.send(&to, message.clone(), None) {
                break error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(overflow.await, SendError::QueueFull);
    match rig.input().await {
        Input::FlowClosed { reason, .. } => assert_eq!(reason, CloseReason::SlowReader),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.counts.dropped.write_queue.get(), 1);
}

#[tokio::test]
async fn a_close_does_not_wait_long_for_a_peer_that_does_not_read() {
    let mut rig = Rig::start(Wanted {
        limits: TransportLimits {
            write_queue: 64 * 1024 * 1024,
            ..TransportLimits::default()
        },
        ..Wanted::default()
    });
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    let to = Destination::Flow(flow.id);
    // More than the operating system takes.
    let message = Bytes::from(vec![b'x'; 32 * 1024 * 1024]);
    rig.network.send(&to, message, None).unwrap();
    rig.network.close(flow.id);
    soon(async {
        while rig.network.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(rig.counts.dropped.unsent.get(), 1);
}

#[tokio::test]
async fn stopping_closes_every_connection() {
    let mut rig = Rig::start(Wanted::default());
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    rig.message().await;
    rig.network.stop().await;
    assert_eq!(read_to_end(&mut phone).await, b"");
    assert_eq!(rig.network.connections(), 0);
    let refused = tokio::time::timeout(
        Duration::from_millis(200),
        TcpStream::connect(rig.addresses[0]),
    );
    assert!(!matches!(refused.await, Ok(Ok(_))));
}
