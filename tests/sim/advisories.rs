//! What broke peers of ours (published advisories of Kamailio, OpenSIPS, sofia-sip, drachtio,
//! Flexisip, Asterisk and FreeSWITCH), sent by a registered phone, by the upstream and by a stranger.
//! What hides in a body's length or in a header's spelling: tests/faults/bodies.rs, smuggling.rs.

use rouse::proto::Flow;

use crate::world::{APNS, World, contact_uri, pbx, tcp, udp, via};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";

/// What becomes of it. What a proxy need not read it passes on as it came, within the limits on
/// lines and bytes (tests/transport).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes where it should, its body to the byte.
    Forwarded,
    /// This answer, and nothing goes anywhere.
    Refused(u16),
    /// Neither.
    Nothing,
}

use Fate::{Forwarded, Nothing, Refused};

/// A request, and what is changed in it.
struct Case {
    advisory: &'static str,
    method: &'static str,
    /// Header lines beside the usual ones.
    more: String,
    /// A usual line and what stands there instead.
    instead: (&'static str, String),
    body: Vec<u8>,
    fate: Fate,
}

fn case(advisory: &'static str, method: &'static str, fate: Fate) -> Case {
    Case {
        advisory,
        method,
        more: String::new(),
        instead: ("", String::new()),
        body: Vec::new(),
        fate,
    }
}

impl Case {
    fn with(self, more: impl Into<String>) -> Self {
        let more = more.into() + "\r\n";
        Self { more, ..self }
    }

    fn instead(self, usual: &'static str, other: impl Into<String>) -> Self {
        let instead = (usual, other.into());
        Self { instead, ..self }
    }

    fn body(self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { body, ..self }.with(format!("Content-Type: {kind}"))
    }

    fn bytes(&self, uri: &str, flow: Flow) -> Vec<u8> {
        let Self { method, more, .. } = self;
        let head = format!(
            "{method} {uri} SIP/2.0\r\n{}\r\nMax-Forwards: 70\r\n\
             From: <sip:1001@pbx.example.com>;tag=f\r\nTo: <sip:600@pbx.example.com>\r\n\
             Call-ID: advisory\r\nCSeq: 7 {method}\r\nContact: <sip:1001@10.0.0.5:5060>\r\n\
             {more}Content-Length: {}\r\n\r\n",
            via(flow, "z9hG4bKadvisory"),
            self.body.len()
        );
        let (usual, other) = &self.instead;
        assert!(head.contains(usual), "{usual}");
        let head = if usual.is_empty() {
            head
        } else {
            head.replace(usual, other)
        };
        [head.into_bytes(), self.body.clone()].concat()
    }
}

fn bodies() -> Vec<Case> {
    let multipart = "multipart/mixed;boundary=b";
    vec![
        case(
            "OpenSIPS GHSA-hx7p-6j27-gjpv: a multipart's end",
            "MESSAGE",
            Forwarded,
        )
        .body(multipart, "--b\r\nContent-Type: text/plain\r\n\r\n--"),
        case(
            "OpenSIPS CVE-2026-45705: a part without content",
            "MESSAGE",
            Forwarded,
        )
        .body(multipart, "--b\r\nContent-Type: text/plain\r\n--b--"),
        case(
            "Kamailio d7a7f22b: a boundary that is the body",
            "MESSAGE",
            Forwarded,
        )
        .body("multipart/mixed;boundary=\"\"", "----\r\n----\r\n"),
        case(
            "Asterisk ES2017-02: a boundary without a name",
            "INVITE",
            Forwarded,
        )
        .body("multipart/mixed", "--\r\n\r\n--"),
        case(
            "OpenSIPS CVE-2026-46334: b= without a colon",
            "INVITE",
            Forwarded,
        )
        .body("application/sdp", "v=0\r\nb=\r\nb=AS\r\na=\r\n"),
        case(
            "sofia-sip CVE-2022-31002: SDP that ends anywhere",
            "INVITE",
            Forwarded,
        )
        .body("application/sdp", "v=0\r\nm=audio 1 RTP/AVP 0\r\na=rtpmap:"),
        case(
            "OpenSIPS CVE-2026-45084: a type that is none",
            "PUBLISH",
            Forwarded,
        )
        .body(";;/", "x"),
    ]
}

fn headers() -> Vec<Case> {
    let long = "a".repeat(60_000);
    vec![
        case(
            "OpenSIPS CVE-2026-45538: a name of 256",
            "MESSAGE",
            Refused(400),
        )
        .with(format!("{}: v", "n".repeat(256))),
        case(
            "OpenSIPS CVE-2026-45100: 49 to 65 KB of base64",
            "MESSAGE",
            Forwarded,
        )
        .with(format!("X: {long}")),
        case(
            "Kamailio 24030e58: a CSeq that wraps to 0",
            "MESSAGE",
            Refused(400),
        )
        .instead("CSeq: 7 ", "CSeq: 4294967296 "),
        case(
            "Asterisk CVE-2017-9372: a long method in CSeq",
            "MESSAGE",
            Refused(400),
        )
        .instead("CSeq: 7 MESSAGE", format!("CSeq: 7 {}", "M".repeat(4000))),
        case(
            "Kamailio CVE-2018-14767: To twice, an empty tag",
            "MESSAGE",
            Refused(400),
        )
        .with("To: <sip:600@pbx.example.com>;tag="),
        case(
            "Kamailio CVE-2018-16657: no usable Via",
            "MESSAGE",
            Refused(400),
        )
        .with("Via: SIP/2.0/UDP"),
        case(
            "Kamailio CVE-2018-8828: a branch of 60 KB",
            "MESSAGE",
            Forwarded,
        )
        .instead("z9hG4bKadvisory", format!("z9hG4bK{long}")),
    ]
}

fn addresses() -> Vec<Case> {
    vec![
        case(
            "Kamailio CVE-2020-27507: a long From tag",
            "MESSAGE",
            Forwarded,
        )
        .instead(";tag=f", format!(";tag={}", "f".repeat(2000))),
        case(
            "OpenSIPS CVE-2023-27599: To parameters without an end",
            "MESSAGE",
            Forwarded,
        )
        .instead(
            "<sip:600@pbx.example.com>\r\nCall",
            "<sip:600@pbx.example.com>;a=\"\r\nCall",
        ),
        case(
            "OpenSIPS CVE-2023-28099: an empty name of a set",
            "MESSAGE",
            Refused(400),
        )
        .instead("To: <sip:600@pbx.example.com>", "To: <>"),
        case(
            "OpenSIPS CVE-2023-28097: Content-Length beyond 2^31",
            "MESSAGE",
            Refused(400),
        )
        .instead("Content-Length: 0", "Content-Length: 2147483649"),
        case(
            "OpenSIPS CVE-2023-27598: Via without a host",
            "MESSAGE",
            Refused(400),
        )
        .with("Via: SIP/2.0/UDP ;branch="),
        case(
            "OpenSIPS CVE-2023-28096: digest names without values",
            "MESSAGE",
            Forwarded,
        )
        .with("Authorization: Digest =,,\"=username="),
        case(
            "Flexisip 2.3.5: an invalid P-Preferred-Identity",
            "MESSAGE",
            Forwarded,
        )
        .with("P-Preferred-Identity: <<sip:\"@>;,"),
        case(
            "sofia-sip CVE-2022-31003: a version that is none",
            "MESSAGE",
            Refused(400),
        )
        .with("Via: SIP/ / "),
        case(
            "sofia-sip CVE-2022-47516: an address that ends in %",
            "MESSAGE",
            Forwarded,
        )
        .instead("To: <sip:600@pbx.example.com>", "To: <sip:%4@%>"),
        case(
            "Asterisk CVE-2018-7284: a hundred Accepts",
            "SUBSCRIBE",
            Forwarded,
        )
        .with(vec!["Accept: a/b"; 100].join("\r\n")),
        case(
            "Asterisk 2025-05: control bytes in From",
            "MESSAGE",
            Refused(400),
        )
        .instead("From: <", "From: \"a\x01\x1b[2J\" <"),
    ]
}

/// A registered phone sends each; the gateway does what is right with it, and goes on.
#[test]
pub fn what_broke_others_breaks_nothing_here() {
    let cases = [bodies(), headers(), addresses()];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    let mut wrong = Vec::new();
    for flow in [tcp(1), udp(1)] {
        for case in &cases {
            let mut world = World::new();
            world.register_for(flow, "1001", APNS, ONE, 600);
            world.receive(flow, case.bytes("sip:600@pbx.example.com", flow));
            let mut fate = Nothing;
            for sent in &world.sent {
                let text = sent.text();
                if let Some(status) = text.strip_prefix("SIP/2.0 ") {
                    let status: u16 = status[..3].parse().unwrap();
                    if status > 100 {
                        fate = Refused(status);
                    }
                } else {
                    assert!(text.starts_with(case.method));
                    assert_eq!(sent.message.body(), &case.body, "{}", case.advisory);
                    fate = Forwarded;
                }
            }
            if fate != case.fate {
                wrong.push(format!("{}: {fate:?}, not {:?}", case.advisory, case.fate));
            }
            world.sent.clear();
            // It goes on: for this phone, and for who calls it.
            world.receive(pbx(), crate::world::invite("1001", "after"));
            world.expect("SIP/2.0 100");
            world.expect("INVITE");
            // From where nobody is known nothing of it goes anywhere.
            let mut world = World::new();
            world.register_for(flow, "1001", APNS, ONE, 600);
            let stranger = if flow.transport.is_reliable() {
                tcp(66)
            } else {
                udp(66)
            };
            world.receive(stranger, case.bytes(&contact_uri("1001"), stranger));
            for sent in &world.sent {
                assert!(sent.text().starts_with("SIP/2.0 4"), "{}", case.advisory);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
