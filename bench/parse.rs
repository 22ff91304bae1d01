//! What parsing and editing one INVITE costs, next to rsip.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark of a message that is known to be good"
)]

use std::convert::TryFrom;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rouse::proto::sip::{Edit, HeaderName, Message};
use rsip::prelude::*;

/// 953 bytes, 15 headers, as a softphone sends it; rsip can read it.
const INVITE: &str = "INVITE sip:2004@pbx.example.com;transport=udp SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.17:5060;branch=z9hG4bK-524287-1---9b2f7ae3c1d04e5f;rport\r\n\
Max-Forwards: 70\r\n\
Route: <sip:gateway.example.com:5060;lr>\r\n\
Contact: <sip:2001@192.0.2.17:5060;transport=udp>\r\n\
To: <sip:2004@pbx.example.com>\r\n\
From: \"Agent Smith\" <sip:2001@pbx.example.com>;tag=5f3a7c21\r\n\
Call-ID: 82654ZTM5ZGU1MjA4ZDk4ZjY3NDdmZGU0M2Q5YmI4NmQ3Zjk\r\n\
CSeq: 1 INVITE\r\n\
Allow: OPTIONS, SUBSCRIBE, NOTIFY, INVITE, ACK, CANCEL, BYE, REFER, INFO, MESSAGE, UPDATE\r\n\
Content-Type: application/sdp\r\n\
Supported: replaces, 100rel, timer, outbound, gruu\r\n\
User-Agent: Softphone for Work 6.51 stamp 109000\r\n\
Allow-Events: presence, kpml, talk, hold\r\n\
Session-Expires: 1800\r\n\
Content-Length: 224\r\n\
\r\n\
v=0\r\n\
o=- 16243234 1 IN IP4 192.0.2.17\r\n\
s=Softphone call\r\n\
c=IN IP4 192.0.2.17\r\n\
t=0 0\r\n\
m=audio 49170 RTP/AVP 0 8 101\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=sendrecv\r\n";

/// What a proxy asks of every request.
fn ask(message: &Message) {
    black_box(message.method());
    black_box(message.top_via().unwrap().branch());
    black_box(message.from().unwrap().tag());
    black_box(message.to().unwrap().tag());
    black_box(message.call_id().unwrap());
    black_box(message.cseq().unwrap());
    black_box(message.max_forwards().unwrap());
    black_box(message.routes().next());
}

/// What a proxy changes in a forwarded request.
fn forward(message: &Message) -> Bytes {
    let mut edit = Edit::new(message);
    edit.request_uri(&b"sip:2004@10.1.2.3:40000;transport=tls;ob"[..])
        .replace(HeaderName::MaxForwards, &b"69"[..])
        .remove_value(HeaderName::Route, 0)
        .replace_value(
            HeaderName::Via,
            0,
            &b"SIP/2.0/UDP 192.0.2.17:5060;branch=z9hG4bK-524287-1---9b2f7ae3c1d04e5f;rport=5060;received=192.0.2.17"[..],
        )
        .prepend(HeaderName::Via, &b"SIP/2.0/TLS gateway.example.com:5061;branch=z9hG4bK00000000000"[..])
        .prepend(HeaderName::RecordRoute, &b"<sip:0123456789abcdef@gateway.example.com;lr>"[..]);
    edit.finish()
}

fn parse(criterion: &mut Criterion) {
    let bytes = Bytes::from_static(INVITE.as_bytes());
    let message = Message::parse(bytes.clone()).unwrap();
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(u64::try_from(INVITE.len()).unwrap()));
    group.bench_function("index", |run| {
        run.iter(|| Message::parse(black_box(bytes.clone())).unwrap());
    });
    group.bench_function("index, fields of a proxy", |run| {
        run.iter(|| ask(&Message::parse(black_box(bytes.clone())).unwrap()));
    });
    group.bench_function("index, validate", |run| {
        run.iter(|| {
            Message::parse(black_box(bytes.clone()))
                .unwrap()
                .validate()
                .unwrap();
        });
    });
    group.bench_function("edit", |run| run.iter(|| forward(black_box(&message))));
    group.bench_function("index, validate, fields, edit", |run| {
        run.iter(|| {
            let message = Message::parse(black_box(bytes.clone())).unwrap();
            message.validate().unwrap();
            ask(&message);
            forward(&message)
        });
    });
    group.bench_function("rsip", |run| {
        run.iter(|| rsip::SipMessage::try_from(black_box(INVITE.as_bytes())).unwrap());
    });
    group.bench_function("rsip, fields of a proxy", |run| {
        run.iter(|| {
            let message = rsip::SipMessage::try_from(black_box(INVITE.as_bytes())).unwrap();
            black_box(message.via_header().unwrap().typed().unwrap());
            black_box(message.from_header().unwrap().typed().unwrap());
            black_box(message.to_header().unwrap().typed().unwrap());
            black_box(message.cseq_header().unwrap().typed().unwrap());
            black_box(message.call_id_header().unwrap());
            black_box(message.max_forwards_header().unwrap());
        });
    });
    group.bench_function("rsip, write", |run| {
        let message = rsip::SipMessage::try_from(INVITE.as_bytes()).unwrap();
        run.iter(|| Vec::from(black_box(message.clone())));
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
