//! What holds for all messages: writing gives back what was read, framing does not depend on how
//! the stream is cut, an edit does what its words say, and nothing panics.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rouse::proto::sip::{Edit, Frame, FrameLimits, Framer, HeaderName, Message};

use crate::torture;

const LISTS: [HeaderName; 4] = [
    HeaderName::Via,
    HeaderName::Route,
    HeaderName::RecordRoute,
    HeaderName::Supported,
];

/// A line of a message: its name and its values.
type Line = (&'static str, Vec<Vec<u8>>);

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::string::bytes_regex("[a-zA-Z0-9;=/. ]{0,10}[a-z0-9]").unwrap(),
        Just(b"<sip:a,b@h;lr>;x=\"1,2\\\"\"".to_vec()),
        Just(b"\"d, \\\\\" <sip:[2001:db8::1]:5;transport=tls>".to_vec()),
        Just("token \u{e9}\u{4e0a}".as_bytes().to_vec()),
        Just(b"\xff\xfe;q=0.1".to_vec()),
        Just(b"folded\r\n  on".to_vec()),
        Just(b"x\t\r\n\t y".to_vec()),
    ]
    // Leading and trailing white space is no part of a value.
    .prop_map(|value| value.trim_ascii().to_vec())
    .prop_filter("not empty", |value| !value.is_empty())
}

fn line() -> impl Strategy<Value = Line> {
    let list = select(vec![
        "Via",
        "v",
        "VIA",
        "Route",
        "Record-Route",
        "Supported",
        "k",
    ]);
    let single = select(vec![
        "From",
        "t",
        "Call-ID",
        "i",
        "CSeq",
        "X-Unknown",
        "subject",
        "!odd",
        "Max-Forwards",
        "P-Asserted-Identity",
    ]);
    prop_oneof![(list, vec(value(), 1..4)), (single, vec(value(), 1..2)),]
}

fn message_of(lines: &[Line], joint: &str, body: &[u8]) -> Bytes {
    let mut out = b"INVITE sip:a@h SIP/2.0\r\n".to_vec();
    for (name, values) in lines {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(&values.join(joint.as_bytes()));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("l: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.into()
}

/// The same with one line for each header.
fn unfolded(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let mut head = head.to_vec();
    for at in 2..head.len() {
        if matches!(head[at - 2..=at], [b'\r', b'\n', b' ' | b'\t']) {
            head[at - 2..at].fill(b' ');
        }
    }
    [&head, body].concat()
}

fn message() -> impl Strategy<Value = Bytes> {
    (
        vec(line(), 0..30),
        select(vec![",", ", ", " ,\r\n\t"]),
        vec(any::<u8>(), 0..40),
    )
        .prop_map(|(lines, joint, body)| message_of(&lines, joint, &body))
}

/// A torture message with some bytes changed.
fn mutant() -> impl Strategy<Value = Bytes> {
    let cases: Vec<_> = torture::cases()
        .into_iter()
        .map(|case| case.bytes)
        .collect();
    let byte = prop_oneof![
        any::<u8>(),
        select(b"\r\n\0 \t:;,<>\"\\%@[]=/()0129+-".to_vec()),
    ];
    (select(cases), vec((any::<Index>(), byte, 0..3_u8), 0..6)).prop_map(|(bytes, changes)| {
        let mut bytes = bytes.to_vec();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes.into()
    })
}

/// All frames that come out of these pieces, as text.
fn frames(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let mut framer = Framer::new(FrameLimits {
        message_bytes: 16_384,
        headers: 64,
    });
    let mut found: Vec<String> = Vec::new();
    for piece in pieces {
        framer.buffer().extend_from_slice(piece);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(Frame::Message(message))) => found.push(format!("{:?}", message.raw())),
                Ok(Some(Frame::Malformed(bytes, error))) => {
                    found.push(format!("{bytes:?} {error}"))
                }
                // A ping that came in halves has been a pong before.
                Ok(Some(Frame::Ping)) => {
                    found.pop_if(|last| last == "pong");
                    found.push("ping".into());
                }
                Ok(Some(Frame::Pong)) => found.push("pong".into()),
                Err(_) => return (found, false),
            }
        }
    }
    (found, true)
}

fn cut<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|pair| &stream[pair[0]..pair[1]])
        .collect()
}

/// A change, and its index where it has one.
#[derive(Clone, Debug)]
enum Operation {
    Prepend(HeaderName, Vec<u8>),
    Append(HeaderName, Vec<u8>),
    Replace(HeaderName, Vec<u8>),
    Remove(HeaderName),
    ReplaceValue(HeaderName, usize, Vec<u8>),
    RemoveValue(HeaderName, usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let name = select(LISTS.to_vec());
    let value = proptest::string::bytes_regex("new[0-9]{1,3}").unwrap();
    (0..6_u8, name, 0..5_usize, value).prop_map(|(kind, name, at, value)| match kind {
        0 => Operation::Prepend(name, value),
        1 => Operation::Append(name, value),
        2 => Operation::Replace(name, value),
        3 => Operation::Remove(name),
        4 => Operation::ReplaceValue(name, at, value),
        _ => Operation::RemoveValue(name, at),
    })
}

/// The same on lists: what each original line has above it and has become.
struct Model {
    lines: Vec<ModelLine>,
    last: Vec<(HeaderName, Vec<Vec<u8>>)>,
}

struct ModelLine {
    name: HeaderName,
    above: Vec<(HeaderName, Vec<Vec<u8>>)>,
    values: Vec<Option<Vec<u8>>>,
    is_replaced: bool,
}

impl Model {
    fn new(message: &Message) -> Self {
        let lines = message
            .headers()
            .map(|line| {
                let text = [b"a sip:h SIP/2.0\r\nVia: ", line.value, b"\r\n\r\n"].concat();
                let single = Message::parse(text.into()).unwrap();
                let is_list = LISTS.contains(&line.name);
                let values = if is_list {
                    let values = single.values(HeaderName::Via);
                    values.map(|value| Some(value.to_vec())).collect()
                } else {
                    vec![Some(line.value.to_vec())]
                };
                ModelLine {
                    name: line.name,
                    above: Vec::new(),
                    values,
                    is_replaced: false,
                }
            })
            .collect();
        Self {
            lines,
            last: Vec::new(),
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Prepend(name, value) => {
                let at = self.lines.iter().position(|line| line.name == *name);
                let above = &mut self.lines[at.unwrap_or(0)].above;
                above.insert(0, (*name, vec![value.clone()]));
            }
            Operation::Append(name, value) => self.last.push((*name, vec![value.clone()])),
            Operation::Replace(name, value) => {
                let Some(at) = self.lines.iter().position(|line| line.name == *name) else {
                    return self.apply(&Operation::Append(*name, value.clone()));
                };
                self.apply(&Operation::Remove(*name));
                self.lines[at].values = vec![Some(value.clone())];
            }
            Operation::Remove(name) => {
                for line in self.lines.iter_mut().filter(|line| line.name == *name) {
                    line.values.iter_mut().for_each(|value| *value = None);
                    line.is_replaced = true;
                }
            }
            Operation::ReplaceValue(name, at, value) => self.part(*name, *at, Some(value.clone())),
            Operation::RemoveValue(name, at) => self.part(*name, *at, None),
        }
    }

    fn part(&mut self, name: HeaderName, at: usize, value: Option<Vec<u8>>) {
        let places = self.lines.iter_mut().filter(|line| line.name == name);
        let mut places = places.flat_map(|line| {
            let is_replaced = line.is_replaced;
            line.values
                .iter_mut()
                .map(move |value| (value, is_replaced))
        });
        if let Some((place, false)) = places.nth(at) {
            *place = value;
        }
    }

    fn finish(self) -> Vec<(HeaderName, Vec<Vec<u8>>)> {
        let lines = self.lines.into_iter().flat_map(|line| {
            let values: Vec<_> = line.values.into_iter().flatten().collect();
            let own = (!values.is_empty()).then_some((line.name, values));
            line.above.into_iter().chain(own)
        });
        lines.chain(self.last).collect()
    }
}

fn edit(message: &Message, operations: &[Operation]) -> Bytes {
    let mut edit = Edit::new(message);
    for operation in operations {
        match operation.clone() {
            Operation::Prepend(name, value) => edit.prepend(name, value),
            Operation::Append(name, value) => edit.append(name, value),
            Operation::Replace(name, value) => edit.replace(name, value),
            Operation::Remove(name) => edit.remove(name),
            Operation::ReplaceValue(name, at, value) => edit.replace_value(name, at, value),
            Operation::RemoveValue(name, at) => edit.remove_value(name, at),
        };
    }
    edit.finish()
}

proptest! {
    #[test]
    fn writing_gives_back_what_was_read(bytes in message()) {
        let message = Message::parse(bytes.clone()).unwrap();
        let bytes = unfolded(&bytes);
        prop_assert_eq!(Edit::new(&message).finish(), &bytes);
        // With a change that is taken back by a second edit, all lines are written one by one.
        let mut changed = Edit::new(&message);
        changed.append_named("X-Mark", "1");
        let changed = Message::parse(changed.finish()).unwrap();
        let mut back = Edit::new(&changed);
        back.remove_named("x-mark");
        prop_assert_eq!(back.finish(), bytes);
    }

    #[test]
    fn framing_does_not_depend_on_how_the_stream_is_cut(
        parts in vec(prop_oneof![
            4 => message(),
            1 => select(vec![Bytes::from_static(b"\r\n"), Bytes::from_static(b"\r\n\r\n")]),
            1 => mutant(),
        ], 1..6),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream = parts.concat();
        prop_assert_eq!(frames(&cut(&stream, &cuts)), frames(&[&stream]));
    }

    #[test]
    fn an_edit_does_what_the_same_changes_do_to_lists(
        lines in vec(line(), 1..12),
        operations in vec(operation(), 0..8),
    ) {
        let message = unfolded(&message_of(&lines, ", ", b"body"));
        let message = Message::parse(message.into()).unwrap();
        let mut model = Model::new(&message);
        operations.iter().for_each(|operation| model.apply(operation));
        let written = Message::parse(edit(&message, &operations)).unwrap();
        prop_assert_eq!(Model::new(&written).finish(), model.finish());
        prop_assert_eq!(written.body(), message.body());
    }

    #[test]
    fn what_parses_says_the_same_after_it_was_written(bytes in mutant()) {
        let Ok(message) = Message::parse(bytes.clone()) else {
            // Whatever it finds in such bytes, it does not panic.
            if let Some(request) = Message::salvage(bytes) {
                let reply = rouse::proto::sip::Reply::new(&request, 400, "Bad Request").finish();
                prop_assert!(Message::parse(reply).is_ok());
            }
            return Ok(());
        };
        let written = Message::parse(Edit::new(&message).finish()).unwrap();
        let lines = |message: &Message| -> Vec<_> {
            let lines = message.headers();
            lines.map(|line| (line.raw_name.to_vec(), unfolded(line.value))).collect()
        };
        prop_assert_eq!(lines(&message), lines(&written));
        prop_assert_eq!(message.body(), written.body());
        prop_assert_eq!(
            message.validate().map_err(|error| error.kind),
            written.validate().map_err(|error| error.kind)
        );
    }
}
