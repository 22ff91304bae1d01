//! WebSocket: the request that begins it, frames, and those who misuse them (RFC 6455, RFC 7118).

use std::time::{Duration, Instant};

use rouse::io::transport::TransportLimits;
use rouse::proto::{CloseReason, Flow, Input, Transport};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{OPTIONS, Rig, Wanted, read, read_to_end, soon};
use crate::tls;

const REQUEST: &str = "GET / HTTP/1.1\r\n\
    Host: gateway.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: sip\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
const MASK: [u8; 4] = [1, 2, 3, 4];
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn rig(limits: TransportLimits) -> Rig {
    Rig::start(Wanted {
        listeners: &[(Transport::Ws, "127.0.0.1:0")],
        limits,
        ..Wanted::default()
    })
}

/// Sends the request and reads the 101.
async fn begin<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let head = head(stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
}

/// Reads the head of an HTTP response.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn phone(rig: &Rig) -> TcpStream {
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    begin(&mut phone).await;
    phone
}

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    if payload.len() < 126 {
        bytes.push(0x80 | u8::try_from(payload.len()).unwrap());
    } else if let Ok(length) = u16::try_from(payload.len()) {
        bytes.push(0x80 | 126);
        bytes.extend(length.to_be_bytes());
    } else {
        bytes.push(0x80 | 127);
        bytes.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, key)| byte ^ key));
    bytes
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, first: u8, payload: &[u8]) {
    stream.write_all(&frame(first, payload)).await.unwrap();
    stream.flush().await.unwrap();
}

/// Reads a frame of ours, which is not masked.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let head = read(stream, 2).await;
    let length = match head[1] {
        126 => usize::from(soon(stream.read_u16()).await.unwrap()),
        length @ 0..126 => usize::from(length),
        other => panic!("masked or long: {other}"),
    };
    (head[0], read(stream, length).await)
}

/// The connection ends with this code.
async fn ends_with(mut phone: TcpStream, code: u16) {
    let close = receive(&mut phone).await;
    assert_eq!(close, (CLOSE, code.to_be_bytes().to_vec()));
    assert_eq!(read_to_end(&mut phone).await, b"");
}

async fn bound(rig: &mut Rig, phone: &mut TcpStream) -> Flow {
    send(phone, TEXT, OPTIONS.as_bytes()).await;
    let (flow, _) = rig.message().await;
    assert!(rig.network.bind_flow(flow.id, 0));
    flow
}

#[tokio::test]
async fn messages_go_both_ways_text_and_binary_whole_and_in_fragments() {
    let mut rig = rig(TransportLimits::default());
    let mut phone = phone(&rig).await;
    assert_eq!(rig.counts.open_ws.get(), 1);
    for first in [TEXT, 0x82] {
        send(&mut phone, first, OPTIONS.as_bytes()).await;
        let (flow, message) = rig.message().await;
        assert_eq!(flow.transport, Transport::Ws);
        assert_eq!(message, OPTIONS.as_bytes());
    }
    let (start, rest) = OPTIONS.as_bytes().split_at(100);
    send(&mut phone, 0x01, start).await;
    send(&mut phone, PING, b"between").await;
    send(&mut phone, 0x00, b"").await;
    send(&mut phone, 0x80, rest).await;
    assert_eq!(receive(&mut phone).await, (PONG, b"between".to_vec()));
    let (flow, message) = rig.message().await;
    assert_eq!(message, OPTIONS.as_bytes());
    rig.send(flow, "SIP/2.0 200 OK\r\n\r\n");
    let answer = (TEXT, b"SIP/2.0 200 OK\r\n\r\n".to_vec());
    assert_eq!(receive(&mut phone).await, answer);
}

#[tokio::test]
async fn messages_go_both_ways_over_tls() {
    let folder = TempDir::new().unwrap();
    let (files, trusted) = tls::certificate(folder.path());
    let mut rig = Rig::start(Wanted {
        listeners: &[(Transport::Wss, "127.0.0.1:0")],
        tls: Some(files),
        ..Wanted::default()
    });
    let mut phone = tls::connect(&rig, &trusted).await.unwrap();
    begin(&mut phone).await;
    send(&mut phone, TEXT, OPTIONS.as_bytes()).await;
    let (flow, message) = rig.message().await;
    assert_eq!(flow.transport, Transport::Wss);
    assert_eq!(message, OPTIONS.as_bytes());
    assert_eq!(rig.counts.open_wss.get(), 1);
    rig.send(flow, "SIP/2.0 200 OK\r\n\r\n");
    assert_eq!(receive(&mut phone).await.0, TEXT);
}

#[tokio::test]
async fn a_message_needs_no_content_length_and_a_bad_one_spares_the_connection() {
    let mut rig = rig(TransportLimits::default());
    let mut phone = phone(&rig).await;
    let bare = OPTIONS.replace("Content-Length: 5\r\n", "");
    send(&mut phone, TEXT, bare.as_bytes()).await;
    assert_eq!(rig.message().await.1, bare.as_bytes());
    send(&mut phone, TEXT, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(matches!(rig.input().await, Input::Malformed { .. }));
    send(&mut phone, TEXT, OPTIONS.as_bytes()).await;
    rig.message().await;
}

#[tokio::test]
async fn other_requests_are_refused_with_a_status() {
    let rig = rig(TransportLimits::default());
    for (status, from, to) in [
        (400, "Protocol: sip", "Protocol: chat"),
        (400, "GET / HTTP/1.1", "REGISTER sip:pbx SIP/2.0"),
        (426, "Version: 13", "Version: 12"),
        (426, "Upgrade: websocket\r\n", ""),
    ] {
        let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
        let request = REQUEST.replace(from, to);
        phone.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(read_to_end(&mut phone).await).unwrap();
        let start = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&start), "{answer}");
    }
    assert_eq!(rig.counts.refused.upgrade.get(), 4);
    assert_eq!(rig.network.connections(), 0);
}

#[tokio::test]
async fn a_request_that_trickles_is_cut_off() {
    let rig = rig(TransportLimits {
        handshake: Duration::from_millis(200),
        ..TransportLimits::default()
    });
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    let start = Instant::now();
    phone.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(read_to_end(&mut phone).await, b"");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(rig.counts.refused.upgrade.get(), 1);
}

#[tokio::test]
async fn a_flood_of_pings_gets_one_pong_a_second() {
    let mut rig = rig(TransportLimits::default());
    let mut phone = phone(&rig).await;
    let flow = bound(&mut rig, &mut phone).await;
    let flood = frame(PING, b"now").repeat(1_000);
    phone.write_all(&flood).await.unwrap();
    assert_eq!(receive(&mut phone).await, (PONG, b"now".to_vec()));
    assert!(matches!(rig.input().await, Input::Heard { flow: id } if id == flow.id));
    send(&mut phone, TEXT, OPTIONS.as_bytes()).await;
    rig.message().await;
    assert_eq!(rig.counts.keepalives.get(), 1_000);
    assert_eq!(rig.counts.dropped.pong_withheld.get(), 999);
}

#[tokio::test]
async fn a_keepalive_of_sips_is_answered_in_a_message() {
    let mut rig = rig(TransportLimits::default());
    let mut phone = phone(&rig).await;
    bound(&mut rig, &mut phone).await;
    send(&mut phone, TEXT, b"\r\n\r\n").await;
    assert_eq!(receive(&mut phone).await, (TEXT, b"\r\n".to_vec()));
    assert!(matches!(rig.input().await, Input::Heard { .. }));
}

#[tokio::test]
async fn our_ping_is_a_frame_and_its_pong_is_heard() {
    let mut rig = rig(TransportLimits::default());
    let mut phone = phone(&rig).await;
    let flow = bound(&mut rig, &mut phone).await;
    for _ in 0..2 {
        rig.network.ping(flow.id);
        assert_eq!(receive(&mut phone).await, (PING, Vec::new()));
        send(&mut phone, PONG, b"").await;
        assert!(matches!(rig.input().await, Input::Heard { flow: id } if id == flow.id));
    }
}

#[tokio::test]
async fn a_close_is_answered_and_told() {
    let mut rig = rig(TransportLimits::default());
    let mut phone = phone(&rig).await;
    let flow = bound(&mut rig, &mut phone).await;
    send(&mut phone, CLOSE, &[0x03, 0xe8]).await;
    ends_with(phone, 1000).await;
    match rig.input().await {
        Input::FlowClosed { flow: id, reason } => {
            assert_eq!((id, reason), (flow.id, CloseReason::Peer));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn our_close_follows_the_last_message() {
    let mut rig = rig(TransportLimits::default());
    let mut phone = phone(&rig).await;
    let flow = bound(&mut rig, &mut phone).await;
    rig.send(flow, "SIP/2.0 200 OK\r\n\r\n");
    rig.network.close(flow.id);
    assert_eq!(receive(&mut phone).await.0, TEXT);
    ends_with(phone, 1001).await;
    assert_eq!(rig.counts.closed.local.get(), 1);
}

#[tokio::test]
async fn what_a_client_must_not_send_ends_its_connection() {
    let rig = rig(TransportLimits::default());
    let unmasked = [TEXT, 2, b'h', b'i'];
    let compressed = frame(0xc1, b"compressed");
    let no_text = frame(TEXT, b"\xff");
    let large = frame(TEXT, &[b'x'; 65_537]);
    for (code, bytes) in [
        (1002, &unmasked[..]),
        (1002, &compressed),
        (1007, &no_text),
        (1009, &large[..14]),
    ] {
        let mut phone = phone(&rig).await;
        phone.write_all(bytes).await.unwrap();
        ends_with(phone, code).await;
    }
    assert_eq!(rig.counts.closed.framing.get(), 4);
}

#[tokio::test]
async fn a_message_that_trickles_behind_pings_is_cut_off() {
    const SHORT: Duration = Duration::from_millis(300);
    let rig = rig(TransportLimits {
        message: SHORT,
        ..TransportLimits::default()
    });
    let phone = phone(&rig).await;
    let (mut reading, mut writing) = phone.into_split();
    let start = Instant::now();
    let trickle = tokio::spawn(async move {
        let mut first = 0x01;
        while writing.write_all(&frame(first, b"O")).await.is_ok() {
            first = 0x00;
            if writing.write_all(&frame(PING, b"")).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    read_to_end(&mut reading).await;
    let lasted = start.elapsed();
    assert!(lasted >= SHORT && lasted < SHORT * 4, "{lasted:?}");
    assert_eq!(rig.counts.closed.idle.get(), 1);
    trickle.abort();
}
