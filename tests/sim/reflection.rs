//! A datagram of somebody who has not proved where it is causes one datagram to there at most, of at
//! most half as many bytes again, and nothing is repeated: whatever it says.

use std::net::SocketAddr;
use std::time::Duration;

use rouse::proto::{Destination, Flow, FlowId};

use crate::world::{APNS, Sent, World, crlf, pbx, response, tcp, udp};

const METHODS: [&str; 16] = [
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
    "FROBNICATE",
    "register",
];

/// How a request may be changed: what is in it, and what takes its place.
const SHAPES: [(&str, &str); 26] = [
    ("", ""),
    ("Content-Length: 0\n", ""),
    ("Content-Length: 0\n", "Content-Length: 99\n"),
    (
        "Content-Length: 0\n",
        "Content-Length: 0\nContent-Length: 0\n",
    ),
    ("Max-Forwards: 70\n", "Max-Forwards: 0\n"),
    ("Max-Forwards: 70\n", "Max-Forwards: 700\n"),
    ("Max-Forwards: 70\n", "Max-Breadth: 0\n"),
    ("Max-Forwards: 70\n", "Proxy-Require: a,b,c\n"),
    (
        "Max-Forwards: 70\n",
        "Require: outbound, path\nSupported: path, outbound, gruu\n",
    ),
    (
        "Max-Forwards: 70\n",
        "Route: <sip:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@192.0.2.1:5060;lr>\n",
    ),
    ("Max-Forwards: 70\n", "Route: <sip:evil.example;lr>\n"),
    (
        "Max-Forwards: 70\n",
        "Authorization: Digest username=\"1001\", nonce=\"made-up\", response=\"x\"\n",
    ),
    (";rport", ""),
    (";rport", ";rport;maddr=198.51.100.99"),
    (";branch=z9hG4bKx", ""),
    (";branch=z9hG4bKx", ";branch=old"),
    (
        "To: <sip:1001@pbx.example.com>",
        "To: <sip:1001@pbx.example.com>;tag=forged",
    ),
    ("To: <sip:1001@pbx.example.com>", "To: <tel:+49123>"),
    ("SIP/2.0\n", "SIP/3.0\n"),
    ("sip:pbx.example.com SIP", "http://example.com SIP"),
    ("sip:pbx.example.com SIP", "sip:192.0.2.1:5060 SIP"),
    ("sip:pbx.example.com SIP", "sip:1001@192.0.2.1 SIP"),
    ("From: <sip:1001@pbx.example.com>;tag=f\n", ""),
    ("Call-ID: c\n", ""),
    (
        "Contact: <sip:1001@198.18.0.9>\n",
        "Contact: *\nExpires: 0\n",
    ),
    (
        "Contact: <sip:1001@198.18.0.9>\n",
        "Contact: <sip:a@b;pn-provider=apns;pn-param=T.a;pn-prid=00>;+sip.pnsreg=\"130\"\n",
    ),
];

fn victim() -> Flow {
    let remote = SocketAddr::from(([198, 18, 0, 9], 5060));
    let listener = udp(1).listener;
    Flow {
        id: FlowId::Datagram { listener, remote },
        remote,
        ..udp(1)
    }
}

fn request(method: &str) -> String {
    format!(
        "{method} sip:pbx.example.com SIP/2.0
Via: SIP/2.0/UDP 198.18.0.9:5060;branch=z9hG4bKx;rport
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=f
To: <sip:1001@pbx.example.com>
Call-ID: c
CSeq: 1 {method}
Contact: <sip:1001@198.18.0.9>
Content-Length: 0

"
    )
}

/// The shortest that a proxy answers at all.
fn tiny(method: &str) -> String {
    format!(
        "{method} sip:a SIP/2.0\nv:SIP/2.0/UDP a\nf:<sip:a@b>;tag=1\nt:<sip:a@b>\ni:1\nCSeq:1 {method}\n\n"
    )
}

fn is_to_victim(sent: &Sent) -> bool {
    let Destination::Flow(FlowId::Datagram { remote, .. }) = sent.to else {
        return false;
    };
    remote.ip() == victim().remote.ip()
}

/// What reaches the victim of one datagram when Asterisk does its worst.
fn answers(text: &str, status: &str) -> Vec<Sent> {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, "", 3600);
    world.receive(victim(), text);
    let mut all = Vec::new();
    for round in 0..40 {
        while let Some(sent) = world.sent.pop_front() {
            if is_to_victim(&sent) {
                all.push(sent);
                continue;
            }
            // Asterisk's verbose answer, and twice.
            let more = format!(
                "Server: Asterisk PBX 22.0.0~dfsg with a long name\n\
                 Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH\n\
                 Supported: replaces, timer, path, gruu, 100rel\n\
                 X-Padding: {}\n\
                 WWW-Authenticate: Digest algorithm=MD5, realm=\"asterisk\", nonce=\"0123456789\"\n",
                "x".repeat(600)
            );
            if sent.first_line().ends_with("SIP/2.0") && round < 3 {
                world.receive(pbx(), response(&sent, "100 Trying", ""));
                world.receive(pbx(), response(&sent, status, &more));
                world.receive(pbx(), response(&sent, status, &more));
            }
        }
        world.advance(Duration::from_secs(1));
    }
    all
}

fn assert_harmless(text: &str) {
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "503 Service Unavailable",
    ] {
        let answers = answers(text, status);
        assert!(answers.len() <= 1, "{text}\n{} answers", answers.len());
        for answer in answers {
            let (sent, caused) = (text.len(), answer.message.raw().len());
            assert!(
                caused * 2 <= sent * 3,
                "{text}\n{sent}: {caused}\n{}",
                answer.text()
            );
        }
    }
}

#[test]
pub fn one_datagram_causes_one_at_most_and_not_much_more_of_it() {
    for method in METHODS {
        for (old, new) in SHAPES {
            assert_harmless(&crlf(&request(method).replacen(old, new, 1)));
        }
        assert_harmless(&crlf(&tiny(method)));
        let padded = request(method).replace("Max-", &format!("X-Pad: {}\nMax-", "y".repeat(1000)));
        assert_harmless(&crlf(&padded));
    }
    for text in [
        "\r\n\r\n",
        "x",
        "SIP/2.0 200 OK\r\n\r\n",
        "INVITE sip:a SIP/2.0\r\n\r\n",
    ] {
        assert_harmless(text);
    }
}

/// The limits are no reason not to answer an ordinary phone.
#[test]
pub fn an_ordinary_phones_first_register_gets_its_challenge_over_udp() {
    let answers = answers(&crlf(&request("REGISTER")), "401 Unauthorized");
    let [answer] = &answers[..] else {
        panic!("{answers:?}");
    };
    let text = answer.text();
    assert!(text.contains("nonce=\"0123456789\""), "{text}");
    assert!(!text.contains("X-Padding"), "only what it needs: {text}");
}
