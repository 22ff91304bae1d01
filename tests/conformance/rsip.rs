//! What rsip 0.4 loses, next to what our message core keeps: the evidence for decision 001.
//!
//! If one of these tests fails after an update of rsip, rsip has become better there.

use std::convert::TryFrom;

use bytes::Bytes;
use rouse::proto::sip::{Contact, Edit, Host, Message, Method, NameAddr, Uri, Via, unquote};
use rsip::headers::UntypedHeader;
use rsip::prelude::*;

const HEADERS: &str = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n";

fn message(start: &str, headers: &str, body: &[u8]) -> Bytes {
    let head = format!("{start}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat().into()
}

/// What rsip writes after it has read this; `None` if it cannot read it.
fn through_rsip(bytes: &Bytes) -> Option<Vec<u8>> {
    rsip::SipMessage::try_from(&bytes[..]).ok().map(Vec::from)
}

/// What we write, one line taken away and put back.
fn through_us(bytes: &Bytes) -> Bytes {
    let message = Message::parse(bytes.clone()).unwrap();
    assert_eq!(message.validate(), Ok(()));
    let mut edit = Edit::new(&message);
    edit.append_named("X-Mark", "1");
    let marked = Message::parse(edit.finish()).unwrap();
    let mut edit = Edit::new(&marked);
    edit.remove_named("X-Mark");
    edit.finish()
}

/// rsip cannot read it; we read it and write it back.
fn only_we_read(bytes: &Bytes) {
    assert_eq!(through_rsip(bytes), None);
    assert_eq!(&through_us(bytes), bytes);
}

/// Both read it; rsip writes something else.
fn rsip_rewrites(bytes: &Bytes, to: &str) {
    let written = through_rsip(bytes).unwrap();
    assert_ne!(&written, bytes);
    assert!(String::from_utf8_lossy(&written).contains(to));
    assert_eq!(&through_us(bytes), bytes);
}

fn contact(value: &str) -> NameAddr<'_> {
    match Contact::parse(value.as_bytes()).unwrap() {
        Contact::Address(address) => address,
        Contact::Star => panic!("no address"),
    }
}

#[test]
fn both_agree_on_a_plain_invite() {
    let bytes = message("INVITE sip:b@h SIP/2.0", HEADERS, b"");
    assert_eq!(through_rsip(&bytes).unwrap(), bytes);
    assert_eq!(through_us(&bytes), bytes);
}

#[test]
fn an_fcm_token_is_cut_at_its_colon() {
    let value = "<sip:a@h;pn-provider=fcm;pn-prid=dX:APA91b-_;pn-param=p>;expires=60";
    let theirs = rsip::headers::Contact::new(value).typed().unwrap();
    assert_eq!(
        theirs.to_string(),
        "<sip:a@h;pn-provider=fcm;pn-prid=dX>;expires=60"
    );
    let ours = contact(value).parse_uri().unwrap().params;
    assert_eq!(ours.value("pn-prid"), Some(&b"dX:APA91b-_"[..]));
    assert_eq!(ours.value("pn-param"), Some(&b"p"[..]));
    only_we_read(&message(
        "INVITE sip:b@h;pn-prid=dX:APA91b-_ SIP/2.0",
        HEADERS,
        b"",
    ));
}

#[test]
fn an_instance_id_makes_a_contact_unreadable() {
    let value =
        "<sip:a@h>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\";reg-id=1";
    assert!(rsip::headers::Contact::new(value).typed().is_err());
    let ours = contact(value).params;
    assert_eq!(
        &*unquote(ours.value("+sip.instance").unwrap()),
        b"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"
    );
    assert_eq!(ours.value("reg-id"), Some(&b"1"[..]));
}

#[test]
fn ipv6_is_not_read() {
    only_we_read(&message(
        "INVITE sip:b@[2001:db8::1]:5060 SIP/2.0",
        HEADERS,
        b"",
    ));
    let value = "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1";
    assert!(rsip::headers::Via::new(value).typed().is_err());
    let ours = Via::parse(value.as_bytes()).unwrap();
    assert_eq!(ours.host, Host::Address("2001:db8::1".parse().unwrap()));
    assert_eq!(ours.port, Some(5060));
}

#[test]
fn unknown_methods_and_transports_are_not_read() {
    let bytes = message(
        "FOO sip:b@h SIP/2.0",
        &HEADERS.replace("INVITE", "FOO"),
        b"",
    );
    only_we_read(&bytes);
    let ours = Message::parse(bytes).unwrap();
    assert_eq!(ours.method(), Some(Method::Other(b"FOO")));
    let value = "SIP/2.0/UNKNOWN h;branch=z9hG4bK1";
    assert!(rsip::headers::Via::new(value).typed().is_err());
    assert_eq!(Via::parse(value.as_bytes()).unwrap().transport, b"UNKNOWN");
}

#[test]
fn folded_lines_and_white_space_before_a_colon_are_not_read() {
    let folded = HEADERS.replace("tag=1\r\n", "tag\r\n =1\r\n");
    let bytes = message("INVITE sip:b@h SIP/2.0", &folded, b"");
    assert_eq!(through_rsip(&bytes), None);
    // Written on one line, it is read by both.
    let ours = through_us(&bytes);
    assert!(ours.windows(8).any(|part| part == b"tag   =1"));
    assert!(through_rsip(&ours).is_some());
    let spaced = HEADERS.replace("Max-Forwards:", "Max-Forwards :");
    let bytes = message("INVITE sip:b@h SIP/2.0", &spaced, b"");
    assert_eq!(through_rsip(&bytes), None);
    let ours = Message::parse(bytes).unwrap();
    assert_eq!(ours.max_forwards().unwrap(), Some(70));
}

#[test]
fn compact_forms_are_not_the_headers_that_they_stand_for() {
    let compact = HEADERS
        .replace("Via:", "v:")
        .replace("From:", "f:")
        .replace("To:", "t:")
        .replace("Call-ID:", "i:");
    let bytes = message("INVITE sip:b@h SIP/2.0", &compact, b"");
    let theirs = rsip::SipMessage::try_from(&bytes[..]).unwrap();
    assert!(theirs.via_header().is_err() && theirs.from_header().is_err());
    assert!(theirs.to_header().is_err() && theirs.call_id_header().is_err());
    assert_eq!(through_us(&bytes), bytes);
    let ours = Message::parse(bytes).unwrap();
    assert_eq!(ours.top_via().unwrap().branch(), Some(&b"z9hG4bK1"[..]));
}

#[test]
fn a_second_via_on_the_same_line_is_lost() {
    let value = "SIP/2.0/UDP a;branch=1, SIP/2.0/TCP b;branch=2";
    let theirs = rsip::headers::Via::new(value).typed().unwrap();
    assert_eq!(theirs.to_string(), "SIP/2.0/UDP a;branch=1");
    let list = format!("Via: {value}\r\n{HEADERS}");
    let ours = Message::parse(message("INVITE sip:b@h SIP/2.0", &list, b"")).unwrap();
    assert_eq!(ours.values(rouse::proto::sip::HeaderName::Via).count(), 3);
}

#[test]
fn the_transport_parameter_is_rewritten() {
    let bytes = message("INVITE sip:b@h;transport=tls SIP/2.0", HEADERS, b"");
    rsip_rewrites(&bytes, ";transport=TLS");
}

#[test]
fn telephone_numbers_are_not_read() {
    only_we_read(&message("INVITE tel:+4930123456 SIP/2.0", HEADERS, b""));
    let ours = Uri::parse(b"tel:+4930123456;phone-context=x").unwrap();
    assert_eq!(ours.user, Some(&b"+4930123456"[..]));
}

#[test]
fn reason_phrases_are_rewritten() {
    rsip_rewrites(&message("SIP/2.0 200 Fine", HEADERS, b""), "200 OK");
    let bytes = message("SIP/2.0 480 Nobody home", HEADERS, b"");
    rsip_rewrites(&bytes, "480 TemporarilyUnavailable");
}

#[test]
fn binary_bodies_are_corrupted_and_header_bytes_outside_utf_8_refused() {
    let bytes = message(
        "MESSAGE sip:b@h SIP/2.0",
        &HEADERS.replace("INVITE", "MESSAGE"),
        b"0\x82\xff\xfe\0",
    );
    rsip_rewrites(&bytes, "Content-Length: 5\r\n\r\n0\u{fffd}");
    let headers = format!("{HEADERS}Subject: @\r\n");
    let mut latin1 = message("INVITE sip:b@h SIP/2.0", &headers, b"").to_vec();
    *latin1.iter_mut().rfind(|byte| **byte == b'@').unwrap() = 0xe9;
    only_we_read(&latin1.into());
}
