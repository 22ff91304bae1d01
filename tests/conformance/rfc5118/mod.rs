//! RFC 5118: torture messages for IPv6.

use rouse::proto::sip::{Host, Message, ParseErrorKind, Uri};

use crate::torture::Parsed::{self, Invalid, Valid};
use crate::torture::Verdict::{self, Answer, Forward};
use crate::torture::{self, Case};

const VERDICTS: [(&str, Parsed, Verdict); 12] = [
    ("ipv6-good", Valid, Forward),
    ("ipv6-bad", Invalid(ParseErrorKind::Value), Answer(400)),
    ("port-ambiguous", Valid, Forward),
    ("port-unambiguous", Valid, Forward),
    ("via-received-param-with-delim", Valid, Forward),
    ("via-received-param-no-delim", Valid, Forward),
    ("ipv6-in-sdp", Valid, Forward),
    ("mult-ip-in-header", Valid, Forward),
    ("mult-ip-in-sdp", Valid, Forward),
    ("ipv4-mapped-ipv6", Valid, Forward),
    // §4.10: what the grammar of RFC 3261 yields is to be tolerated.
    ("ipv6-bug-abnf-3-colons", Valid, Forward),
    ("ipv6-correct-abnf-2-colons", Valid, Forward),
];

/// All messages of RFC 5118.
pub(crate) fn cases() -> Vec<Case> {
    torture::read(include_str!("messages.txt"), &VERDICTS)
}

fn message(name: &str) -> Message {
    let case = cases().into_iter().find(|case| case.name == name).unwrap();
    Message::parse(case.bytes).unwrap()
}

fn address(text: &str) -> Option<Host<'static>> {
    Some(Host::Address(text.parse().unwrap()))
}

#[test]
fn a_port_is_what_follows_the_bracket() {
    let message = message("port-ambiguous");
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    assert_eq!((uri.host, uri.port), (address("2001:db8::10:5070"), None));
    let message = self::message("port-unambiguous");
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    assert_eq!((uri.host, uri.port), (address("2001:db8::10"), Some(5070)));
}

#[test]
fn received_is_read_with_and_without_brackets() {
    for name in [
        "via-received-param-with-delim",
        "via-received-param-no-delim",
    ] {
        let message = message(name);
        let via = message.top_via().unwrap();
        assert_eq!(
            via.received().map(Host::Address),
            address("2001:db8::9:255")
        );
        assert_eq!(Some(via.host), address("2001:db8::9:1"));
    }
}

#[test]
fn both_spellings_of_an_address_that_ends_in_ipv4_are_the_same() {
    for name in ["ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"] {
        let message = message(name);
        let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
        assert_eq!(uri.host, address("2001:db8::192.0.2.1"));
    }
}

#[test]
fn bodies_are_as_long_as_they_say() {
    for case in cases() {
        let message = Message::parse(case.bytes).unwrap();
        let length = usize::try_from(message.content_length().unwrap()).unwrap();
        assert_eq!(message.body().len(), length, "{}", case.name);
    }
}
