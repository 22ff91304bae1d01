//! Messages of Asterisk 16 (chan_sip) and 22 (PJSIP), SIPp, baresip and Kamailio, as captured on
//! loopback: `#number t=seconds transport source -> destination len=bytes`, then the message with
//! LF for CRLF.

use bytes::Bytes;
use rouse::proto::sip::{Edit, Frame, FrameLimits, Framer, HeaderName, Message, Params};

const FILES: [(&str, &str); 12] = [
    ("c16-baresip-tcp", include_str!("c16-baresip-tcp.txt")),
    ("c16-caller-cancel", include_str!("c16-caller-cancel.txt")),
    ("c16-fork-elsewhere", include_str!("c16-fork-elsewhere.txt")),
    ("c16-path-nat", include_str!("c16-path-nat.txt")),
    ("c16-resp-302", include_str!("c16-resp-302.txt")),
    ("c16-session-timer", include_str!("c16-session-timer.txt")),
    ("c22-path", include_str!("c22-path.txt")),
    ("c22-recordroute", include_str!("c22-recordroute.txt")),
    ("c22-silent", include_str!("c22-silent.txt")),
    (
        "c22-udpreg-tcpcontact",
        include_str!("c22-udpreg-tcpcontact.txt"),
    ),
    (
        "via-kamailio-16-1003",
        include_str!("via-kamailio-16-1003.txt"),
    ),
    (
        "via-kamailio-22-cancel",
        include_str!("via-kamailio-22-cancel.txt"),
    ),
];

/// All messages of all captures, with where they are from.
pub(crate) fn messages() -> Vec<(String, Bytes)> {
    FILES
        .iter()
        .flat_map(|(name, text)| {
            format!("\n{text}")
                .split("\n#")
                .skip(1)
                .map(|part| {
                    let (title, text) = part.split_once('\n').unwrap();
                    let (_, len) = title.rsplit_once("len=").unwrap();
                    let mut bytes = format!("{text}\n").replace('\n', "\r\n").into_bytes();
                    bytes.truncate(len.parse().unwrap());
                    (format!("{name} #{title}"), bytes.into())
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_captured_message_is_valid_and_leaves_as_it_came() {
    let messages = messages();
    assert!(messages.len() > 150, "{}", messages.len());
    for (name, bytes) in messages {
        let message =
            Message::parse(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.validate(), Ok(()), "{name}");
        assert_eq!(message.raw(), &bytes, "{name}");
        assert_eq!(Edit::new(&message).finish(), bytes, "{name}");
        assert!(message.contacts().all(|contact| contact.is_ok()), "{name}");
        assert!(message.routes().all(|route| route.is_ok()), "{name}");
        for list in [HeaderName::Via, HeaderName::RecordRoute, HeaderName::Path] {
            assert!(
                message.values(list).all(|value| !value.is_empty()),
                "{name}"
            );
        }
    }
}

#[test]
fn captured_messages_come_whole_out_of_a_stream() {
    let messages: Vec<_> = messages().into_iter().map(|(_, bytes)| bytes).collect();
    let stream = messages.concat();
    for piece in [1, 7, 100, 1460, stream.len()] {
        let mut framer = Framer::new(FrameLimits {
            message_bytes: 65_536,
            headers: 64,
        });
        let mut found = Vec::new();
        for part in stream.chunks(piece) {
            framer.buffer().extend_from_slice(part);
            while let Some(frame) = framer.next().unwrap() {
                let Frame::Message(message) = frame else {
                    panic!("{frame:?}");
                };
                assert_eq!(message.validate(), Ok(()));
                found.push(message.raw().clone());
            }
        }
        assert_eq!(found, messages, "pieces of {piece}");
        assert!(!framer.is_partial());
    }
}

#[test]
fn push_parameters_are_read_from_a_contact_and_from_a_request_uri() {
    let mut seen = 0;
    for (name, bytes) in messages() {
        let message = Message::parse(bytes).unwrap();
        let contact = message.contacts().next().and_then(Result::ok);
        let uris = match contact {
            Some(rouse::proto::sip::Contact::Address(address)) => vec![address.uri],
            Some(rouse::proto::sip::Contact::Star) | None => Vec::new(),
        };
        for uri in uris.into_iter().chain(message.request_uri()) {
            let params: Params<'_> = rouse::proto::sip::Uri::parse(uri).unwrap().params;
            if let Some(prid) = params.value("pn-prid") {
                assert!(!prid.is_empty(), "{name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}
