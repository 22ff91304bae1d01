//! RFC 4475: the torture messages.
//!
//! The octets of mpart01's second part are our own: as many as the RFC's signature has, with NUL,
//! CR LF, what looks like a delimiter, and every value. What the message is there for, framing and
//! a body that is no text, does not depend on which they are.

use rouse::proto::sip::{
    Contact, Edit, HeaderName, Host, Message, Method, ParseErrorKind, Scheme, unescape, unquote,
};

use crate::torture::Parsed::{self, Invalid, Unparsable, Valid};
use crate::torture::Verdict::{self, Answer, Drop, Forward, Response};
use crate::torture::{self, Case};

const VERDICTS: [(&str, Parsed, Verdict); 49] = [
    ("wsinv", Valid, Forward),
    ("intmeth", Valid, Forward),
    ("esc01", Valid, Forward),
    ("escnull", Valid, Forward),
    ("esc02", Valid, Forward),
    ("lwsdisp", Valid, Forward),
    ("longreq", Valid, Forward),
    // Only the first request; what follows it in the datagram is discarded.
    ("dblreq", Valid, Forward),
    ("semiuri", Valid, Forward),
    ("transports", Valid, Forward),
    ("mpart01", Valid, Forward),
    ("unreason", Valid, Response),
    ("noreason", Valid, Response),
    ("badinv01", Invalid(ParseErrorKind::Value), Answer(400)),
    ("clerr", Invalid(ParseErrorKind::ContentLength), Answer(400)),
    (
        "ncl",
        Unparsable(ParseErrorKind::ContentLength),
        Answer(400),
    ),
    ("scalar02", Invalid(ParseErrorKind::Value), Answer(400)),
    ("scalarlg", Invalid(ParseErrorKind::Value), Drop),
    ("quotbal", Invalid(ParseErrorKind::Value), Answer(400)),
    ("ltgtruri", Invalid(ParseErrorKind::Value), Answer(400)),
    ("lwsruri", Invalid(ParseErrorKind::Value), Answer(400)),
    ("lwsstart", Invalid(ParseErrorKind::StartLine), Answer(400)),
    ("trws", Invalid(ParseErrorKind::StartLine), Answer(400)),
    ("escruri", Invalid(ParseErrorKind::Value), Answer(400)),
    ("baddate", Valid, Forward),
    // The Contact does not parse, which is for whoever keeps bindings to say.
    ("regbadct", Valid, Answer(400)),
    ("badaspec", Valid, Forward),
    ("baddn", Valid, Forward),
    ("badvers", Invalid(ParseErrorKind::Version), Answer(505)),
    (
        "mismatch01",
        Invalid(ParseErrorKind::MethodMismatch),
        Answer(400),
    ),
    (
        "mismatch02",
        Invalid(ParseErrorKind::MethodMismatch),
        Answer(400),
    ),
    ("bigcode", Unparsable(ParseErrorKind::StartLine), Drop),
    ("badbranch", Valid, Forward),
    ("insuf", Invalid(ParseErrorKind::Missing), Answer(400)),
    ("unkscm", Valid, Answer(416)),
    ("novelsc", Valid, Answer(416)),
    // To and Contact have schemes that no address-of-record can have.
    ("unksm2", Valid, Answer(400)),
    ("bext01", Valid, Answer(420)),
    ("invut", Valid, Forward),
    ("regaut01", Valid, Forward),
    ("multi01", Invalid(ParseErrorKind::Duplicate), Answer(400)),
    (
        "mcl01",
        Unparsable(ParseErrorKind::ContentLength),
        Answer(400),
    ),
    // Its top Via is not ours.
    ("bcast", Valid, Drop),
    ("zeromf", Valid, Answer(483)),
    ("cparam01", Valid, Forward),
    ("cparam02", Valid, Forward),
    ("regescrt", Valid, Forward),
    ("sdp01", Valid, Forward),
    ("inv2543", Valid, Forward),
];

/// All messages of RFC 4475.
pub(crate) fn cases() -> Vec<Case> {
    torture::read(include_str!("messages.txt"), &VERDICTS)
}

fn message(name: &str) -> Message {
    let case = cases().into_iter().find(|case| case.name == name).unwrap();
    Message::parse(case.bytes).unwrap()
}

#[test]
fn wsinv_yields_its_values_through_all_its_white_space() {
    let message = message("wsinv");
    assert_eq!(message.to().unwrap().tag(), Some(&b"1918181833n"[..]));
    let from = message.from().unwrap();
    assert_eq!(&*unquote(from.display.unwrap()), br#"J Rosenberg \""#);
    assert_eq!(from.tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.max_forwards().unwrap(), Some(68));
    assert_eq!(message.cseq().unwrap().number, 9);
    assert_eq!(message.top_via().unwrap().branch(), Some(&b"390skdjuw"[..]));
    assert_eq!(message.values(HeaderName::Via).count(), 3);
    assert_eq!(message.header(HeaderName::Subject), Some(&b""[..]));
    assert_eq!(message.content_length(), Some(150));
    let Some(Ok(Contact::Address(contact))) = message.contacts().next() else {
        panic!("no contact");
    };
    assert_eq!(contact.params.value("newparam"), Some(&b"newvalue"[..]));
    assert_eq!(contact.params.value("q"), Some(&b"0.33"[..]));
}

#[test]
fn intmeth_keeps_its_method_its_user_part_and_its_quoted_nul() {
    let message = message("intmeth");
    let method = b"!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(message.method(), Some(Method::Other(method)));
    let to = message.to().unwrap();
    assert_eq!(
        &*unquote(to.display.unwrap()),
        b"BEL:\x07 NUL:\x00 DEL:\x7f"
    );
    let uri = to.parse_uri().unwrap();
    assert_eq!(uri.host, Some(Host::Name(b"example.com")));
    assert!(uri.params.is_empty());
    let name = "extensionHeader-!.%*+_`'~";
    assert_eq!(
        message.header_named(name),
        Some("\u{feff}大停電".as_bytes())
    );
}

#[test]
fn escapes_are_neither_resolved_nor_compared_away() {
    let message = message("esc02");
    assert_eq!(message.method(), Some(Method::Other(b"RE%47IST%45R")));
    assert_eq!(message.contacts().count(), 2);
    let message = self::message("escnull");
    let to = message.to().unwrap().parse_uri().unwrap();
    assert_eq!(to.user_unescaped().unwrap(), &b"null-\0-null"[..]);
    let message = self::message("esc01");
    let Some(Ok(Contact::Address(contact))) = message.contacts().next() else {
        panic!("no contact");
    };
    let uri = contact.parse_uri().unwrap();
    assert_eq!(&*unescape(uri.params.value("n%61me").unwrap()), b"value%41");
}

#[test]
fn longreq_has_all_its_vias() {
    let message = message("longreq");
    assert_eq!(message.values(HeaderName::Via).count(), 34);
    let out = Edit::new(&message).finish();
    assert!(!out.windows(2).any(|pair| pair == b" :"));
    let again = Message::parse(out).unwrap();
    let values: Vec<_> = message.headers().map(|line| line.value).collect();
    let written: Vec<_> = again.headers().map(|line| line.value).collect();
    assert_eq!(values, written);
}

#[test]
fn the_second_request_of_dblreq_is_discarded() {
    let message = message("dblreq");
    assert_eq!(message.method(), Some(Method::Register));
    assert!(message.body().is_empty());
    assert!(message.raw().ends_with(b"Content-Length: 0\r\n\r\n"));
}

#[test]
fn the_binary_body_of_mpart01_is_whole() {
    let message = message("mpart01");
    assert_eq!(message.body().len(), 553);
    assert!((0..=255).all(|octet| message.body().contains(&octet)));
    assert!(message.validate().is_ok());
}

#[test]
fn reason_phrases_may_be_utf_8_or_empty() {
    let message = message("unreason");
    assert_eq!(message.status(), Some(200));
    let reason = "= 2**3 * 5**2 но сто девяносто девять - простое";
    assert_eq!(message.reason(), Some(reason.as_bytes()));
    let message = self::message("noreason");
    assert_eq!(
        (message.status(), message.reason()),
        (Some(100), Some(&b""[..]))
    );
}

#[test]
fn other_schemes_are_named_for_the_416() {
    let message = message("novelsc");
    let uri = rouse::proto::sip::Uri::parse(message.request_uri().unwrap()).unwrap();
    assert_eq!(uri.scheme, Scheme::Other(b"soap.beep"));
}

#[test]
fn a_contact_with_headers_needs_brackets() {
    assert!(
        message("regbadct")
            .contacts()
            .all(|contact| contact.is_err())
    );
    assert!(
        message("regescrt")
            .contacts()
            .all(|contact| contact.is_ok())
    );
}

#[test]
fn parameters_of_cparam01_are_the_headers_and_of_cparam02_the_uris() {
    for (name, is_in_uri) in [("cparam01", false), ("cparam02", true)] {
        let message = message(name);
        let Some(Ok(Contact::Address(contact))) = message.contacts().next() else {
            panic!("no contact");
        };
        let uri = contact.parse_uri().unwrap();
        assert_eq!(uri.params.get("unknownparam").is_some(), is_in_uri);
        assert_eq!(contact.params.get("unknownparam").is_some(), !is_in_uri);
    }
}
