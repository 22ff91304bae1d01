//! The torture messages of RFC 4475 and RFC 5118, with what our parser says of each and what a
//! proxy owes its sender.
//!
//! Where the RFCs leave a choice, this is ours: what a proxy need not read it does not judge
//! (display names, Date, bodies), and it refuses what would be read in two ways further on (white
//! space in the start line, headers in a Request-URI).

use bytes::Bytes;
use rouse::proto::sip::{Message, ParseErrorKind};

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The RFC's name for it.
    pub(crate) name: &'static str,
    /// The RFC's section.
    pub(crate) section: &'static str,
    /// The message.
    pub(crate) bytes: Bytes,
    /// What the parser says.
    pub(crate) parsed: Parsed,
    /// What the gateway does.
    pub(crate) verdict: Verdict,
}

/// What the parser says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// `Message::validate` has nothing to say.
    Valid,
    /// `Message::validate` refuses it.
    Invalid(ParseErrorKind),
    /// `Message::parse` refuses it.
    Unparsable(ParseErrorKind),
}

/// What the gateway does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A request to be worked on: forwarded, relayed, or refused for no fault of its form.
    Forward,
    /// A request to be refused with this status.
    Answer(u16),
    /// A response to be forwarded if it belongs to a transaction.
    Response,
    /// A response to be dropped.
    Drop,
}

/// All messages of both RFCs.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = crate::rfc4475::cases();
    cases.extend(crate::rfc5118::cases());
    cases
}

/// The messages of a file in the RFCs' notation, with their verdicts.
pub(crate) fn read(file: &'static str, verdicts: &[(&'static str, Parsed, Verdict)]) -> Vec<Case> {
    let cases: Vec<_> = file
        .split("\n=== ")
        .skip(1)
        .map(|part| {
            let (title, text) = part.split_once('\n').unwrap();
            let (name, section) = title.split_once(' ').unwrap();
            let (_, parsed, verdict) = *verdicts
                .iter()
                .find(|(other, ..)| *other == name)
                .unwrap_or_else(|| panic!("no verdict for {name}"));
            // The last message ends with the file's last line end, others before the `===`.
            let text = match file.ends_with(text) {
                true => text.strip_suffix('\n').unwrap(),
                false => text,
            };
            Case {
                name,
                section,
                bytes: expand(text).into(),
                parsed,
                verdict,
            }
        })
        .collect();
    assert_eq!(cases.len(), verdicts.len());
    cases
}

/// What [`Message::parse`] and [`Message::validate`] say.
pub(crate) fn parse(bytes: &Bytes) -> Parsed {
    match Message::parse(bytes.clone()) {
        Err(error) => Parsed::Unparsable(error.kind),
        Ok(message) => match message.validate() {
            Err(error) => Parsed::Invalid(error.kind),
            Ok(()) => Parsed::Valid,
        },
    }
}

/// RFC 4475 §2: resolves the notation.
fn expand(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut is_joined = false;
    for line in text.split('\n') {
        match line {
            "<allOneLine>" => is_joined = true,
            "</allOneLine>" => is_joined = false,
            _ => expand_line(line, &mut out),
        }
        if !is_joined {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

fn expand_line(line: &str, out: &mut Vec<u8>) {
    let mut rest = line;
    while let Some((before, tag)) = rest.split_once('<') {
        out.extend_from_slice(before.as_bytes());
        rest =
            if let Some(hex) = tag.strip_prefix("hex>") {
                let (digits, rest) = hex.split_once("</hex>").unwrap();
                out.extend(digits.as_bytes().chunks(2).map(|pair| {
                    u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()
                }));
                rest
            } else if let Some(repeat) = tag.strip_prefix("repeat count=") {
                let (count, repeat) = repeat.split_once('>').unwrap();
                let (text, rest) = repeat.split_once("</repeat>").unwrap();
                out.extend_from_slice(text.repeat(count.parse().unwrap()).as_bytes());
                rest
            } else {
                out.push(b'<');
                tag
            };
    }
    out.extend_from_slice(rest.as_bytes());
}

#[test]
fn every_message_gets_what_the_rfc_owes_it() {
    for case in cases() {
        assert_eq!(
            parse(&case.bytes),
            case.parsed,
            "{} §{}",
            case.name,
            case.section
        );
    }
}

#[test]
fn the_parser_and_the_proxy_agree_about_refusals() {
    for case in cases() {
        let is_response = case.bytes.starts_with(b"SIP/");
        let agrees = match (case.parsed, case.verdict) {
            (Parsed::Valid, Verdict::Forward) => !is_response,
            (Parsed::Valid, Verdict::Response | Verdict::Drop) => is_response,
            // Refused for what it asks, not for its form.
            (Parsed::Valid, Verdict::Answer(status)) => matches!(status, 400 | 416 | 420 | 483),
            (Parsed::Invalid(ParseErrorKind::Version), verdict) => verdict == Verdict::Answer(505),
            (Parsed::Invalid(_) | Parsed::Unparsable(_), Verdict::Answer(400)) => !is_response,
            (Parsed::Invalid(_) | Parsed::Unparsable(_), Verdict::Drop) => is_response,
            (Parsed::Invalid(_) | Parsed::Unparsable(_), _) => false,
        };
        assert!(agrees, "{}", case.name);
    }
}

#[test]
fn what_does_not_parse_can_be_answered_and_a_response_never_is() {
    for case in cases() {
        if let Parsed::Unparsable(_) = case.parsed {
            let salvaged = Message::salvage(case.bytes.clone());
            assert_eq!(
                salvaged.is_some(),
                case.verdict == Verdict::Answer(400),
                "{}",
                case.name
            );
        }
    }
}
