//! Contacts kept small: what most phones' Contacts have in common is kept once.
//!
//! A Contact is cut at the places that differ from phone to phone: its user, its address, its push
//! token, the UUID of its instance. What is left, its shape, is shared by all phones of one app; the
//! rest is a few bytes, tokens of hexadecimal digits and UUIDs at half their length. Putting it
//! together again gives the bytes that the phone sent, whatever they were: nothing here knows
//! what they mean.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;
use memchr::memmem;

use crate::proto::sip::{Text, With, hexadecimal};

/// Where a shape has a gap, and what a Contact begins with that has such bytes itself, which no
/// header field may (RFC 3261 §25.1).
const RAW: u8 = 0;
const TEXT: u8 = 1;
const ADDRESS: u8 = 2;
const HEX: u8 = 3;
const UUID: u8 = 4;

/// Shorter runs of digits than this stay in the text, in characters.
const LEAST_HEX: usize = 16;
/// Longer runs stay as text: their length is one byte, in bytes.
const MOST: usize = 255;
/// A UUID, in characters, and where its hyphens are (RFC 9562 §4).
const UUID_CHARS: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// What is common to many Contacts: a thin pointer, since there are many of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape(Arc<Box<[u8]>>);

impl Borrow<[u8]> for Shape {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The shapes of one shard.
#[derive(Debug, Default)]
pub struct Shapes {
    known: HashSet<Shape, RandomState>,
}

/// A Contact, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    shape: Shape,
    fields: Box<[u8]>,
}

impl Shapes {
    /// Cuts a Contact of a phone at this address.
    pub fn pack(&mut self, contact: &[u8], remote: SocketAddr) -> Packed {
        let (shape, fields) = cut(contact, remote);
        let shape = match self.known.get(&*shape) {
            Some(known) => known.clone(),
            None => {
                let shape = Shape(Arc::new(shape.into_boxed_slice()));
                self.known.insert(shape.clone());
                shape
            }
        };
        let fields = fields.into_boxed_slice();
        Packed { shape, fields }
    }

    /// Forgets a Contact, and its shape if it was the last of it.
    pub fn release(&mut self, packed: &Packed) {
        // The one here, and the one that is released.
        if Arc::strong_count(&packed.shape.0) <= 2 {
            self.known.remove(&packed.shape);
        }
    }
}

impl Packed {
    /// The Contact as it was, of a phone at the address that it was packed with.
    #[must_use]
    pub fn unpack(&self, remote: SocketAddr) -> Bytes {
        let mut text = Vec::with_capacity(self.shape.0.len() + 2 * self.fields.len() + 24);
        self.write(remote, &mut |part| {
            text.extend_from_slice(part);
            true
        });
        text.into()
    }

    /// Whether that is what it unpacks to.
    #[must_use]
    pub fn is(&self, contact: &[u8], remote: SocketAddr) -> bool {
        let mut rest = contact;
        self.write(remote, &mut |part| match rest.strip_prefix(part) {
            Some(behind) => {
                rest = behind;
                true
            }
            None => false,
        }) && rest.is_empty()
    }

    /// Hands out the Contact, part by part, while they are taken; whether all were.
    fn write(&self, remote: SocketAddr, part: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut fields = &*self.fields;
        let mut rest = &**self.shape.0;
        if let Some((&RAW, raw)) = rest.split_first() {
            return part(raw);
        }
        while let Some(at) = rest.iter().position(|byte| matches!(*byte, TEXT..=UUID)) {
            let (literal, gap) = rest.split_at(at);
            let Some((gap, behind)) = gap.split_first() else {
                break;
            };
            rest = behind;
            let is_taken = part(literal)
                && match *gap {
                    ADDRESS => part(
                        Text::of(With(|out: &mut Text| {
                            out.socket(remote);
                        }))
                        .as_slice(),
                    ),
                    UUID => write_uuid(part, take(&mut fields, UUID_CHARS / 2 - 2)),
                    HEX => {
                        let count = take(&mut fields, 1).first().copied().unwrap_or_default();
                        write_hex(part, take(&mut fields, usize::from(count)))
                    }
                    _ => {
                        let count = take(&mut fields, 1).first().copied().unwrap_or_default();
                        part(take(&mut fields, usize::from(count)))
                    }
                };
            if !is_taken {
                return false;
            }
        }
        part(rest)
    }
}

/// A Contact's shape, and what it lacks.
fn cut(contact: &[u8], remote: SocketAddr) -> (Vec<u8>, Vec<u8>) {
    let mut cutter = Cutter {
        shape: Vec::with_capacity(contact.len()),
        fields: Vec::with_capacity(contact.len() / 2),
    };
    if contact.iter().any(|byte| matches!(*byte, RAW..=UUID)) {
        return ([&[RAW], contact].concat(), Vec::new());
    }
    let mut rest = contact;
    if let Some(user) = find(rest, b"sip", b":", b"@") {
        cutter.literal(&mut rest, user.start);
        cutter.text(&mut rest, user.len());
        let address = Text::of(With(|out: &mut Text| {
            out.socket(remote);
        }));
        if rest
            .get(1..)
            .is_some_and(|rest| rest.starts_with(address.as_slice()))
        {
            cutter.literal(&mut rest, 1);
            cutter.shape.push(ADDRESS);
            skip(&mut rest, address.len());
        }
    }
    if let Some(token) = find(rest, b"pn-prid", b"=", b";>") {
        cutter.literal(&mut rest, token.start);
        let hex = rest.iter().position(|byte| !is_hex(*byte));
        let hex = hex.unwrap_or(rest.len()) & !1;
        if (LEAST_HEX..=2 * MOST).contains(&hex) {
            cutter.hex(&mut rest, hex);
        } else {
            cutter.text(&mut rest, token.len());
        }
    }
    if let Some(at) = memmem::find(rest, b"urn:uuid:") {
        cutter.literal(&mut rest, at + b"urn:uuid:".len());
        cutter.uuid(&mut rest);
    }
    cutter.shape.extend_from_slice(rest);
    (cutter.shape, cutter.fields)
}

/// What stands behind a name and its sign, up to one of these ends.
fn find(text: &[u8], name: &[u8], sign: &[u8], ends: &[u8]) -> Option<std::ops::Range<usize>> {
    let named = memmem::find(text, name)? + name.len();
    let start = named + memmem::find(text.get(named..)?, sign)? + sign.len();
    let length = text
        .get(start..)?
        .iter()
        .position(|byte| ends.contains(byte))?;
    Some(start..start + length)
}

/// Where a Contact is cut.
struct Cutter {
    shape: Vec<u8>,
    fields: Vec<u8>,
}

impl Cutter {
    /// So much of the rest belongs to the shape.
    fn literal(&mut self, rest: &mut &[u8], count: usize) {
        self.shape.extend_from_slice(take(rest, count));
    }

    /// So much is the phone's own.
    fn text(&mut self, rest: &mut &[u8], count: usize) {
        match u8::try_from(count) {
            Ok(count) => {
                self.shape.push(TEXT);
                self.fields.push(count);
                self.fields.extend_from_slice(take(rest, count.into()));
            }
            Err(_) => self.literal(rest, count),
        }
    }

    /// So many lower-case hexadecimal digits, an even number.
    fn hex(&mut self, rest: &mut &[u8], count: usize) {
        self.shape.push(HEX);
        self.fields.push(u8::try_from(count / 2).unwrap_or(u8::MAX));
        self.digits(take(rest, count));
    }

    /// A lower-case UUID, if there is one.
    fn uuid(&mut self, rest: &mut &[u8]) {
        let is_one = rest.get(..UUID_CHARS).is_some_and(|text| {
            let mut places = text.iter().enumerate();
            places.all(|(at, byte)| match HYPHENS.contains(&at) {
                true => *byte == b'-',
                false => is_hex(*byte),
            })
        });
        if !is_one {
            return;
        }
        self.shape.push(UUID);
        let digits: Vec<u8> = take(rest, UUID_CHARS)
            .iter()
            .copied()
            .filter(|byte| *byte != b'-')
            .collect();
        self.digits(&digits);
    }

    fn digits(&mut self, digits: &[u8]) {
        for pair in digits.chunks_exact(2) {
            let byte = pair.iter().fold(0, |all, digit| all << 4 | nibble(*digit));
            self.fields.push(byte);
        }
    }
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.wrapping_sub(b'a').wrapping_add(10),
    }
}

fn write_hex(part: &mut dyn FnMut(&[u8]) -> bool, bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words
        .iter()
        .all(|word| part(&hexadecimal::<16>(u64::from_be_bytes(*word))))
        && rest
            .iter()
            .all(|byte| part(&hexadecimal::<2>((*byte).into())))
}

fn write_uuid(part: &mut dyn FnMut(&[u8]) -> bool, mut bytes: &[u8]) -> bool {
    [4, 2, 2, 2, 6]
        .into_iter()
        .enumerate()
        .all(|(at, count)| (at == 0 || part(b"-")) && write_hex(part, take(&mut bytes, count)))
}

/// Takes so many bytes off the front, or as many as there are.
fn take<'t>(rest: &mut &'t [u8], count: usize) -> &'t [u8] {
    let (front, behind) = rest.split_at(count.min(rest.len()));
    *rest = behind;
    front
}

fn skip(rest: &mut &[u8], count: usize) {
    take(rest, count);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: &str = "192.0.2.7:5061";

    fn round(contact: &[u8], remote: &str) -> (usize, usize) {
        let remote = remote.parse().unwrap();
        let mut shapes = Shapes::default();
        let packed = shapes.pack(contact, remote);
        assert_eq!(&packed.unpack(remote)[..], contact);
        assert!(packed.is(contact, remote));
        assert!(!packed.is(&[contact, b"x"].concat(), remote));
        if let Some((last, front)) = contact.split_last() {
            assert!(!packed.is(front, remote));
            assert!(!packed.is(&[front, &[last ^ 1]].concat(), remote));
        }
        (packed.shape.0.len(), packed.fields.len())
    }

    fn phone(user: &str, token: &str) -> String {
        format!(
            "<sip:{user}@{HOME};pn-provider=apns;pn-param=T12345.app.voip;pn-prid={token}:voip>\
             ;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\""
        )
    }

    #[test]
    fn a_phones_own_part_is_small_and_the_rest_is_kept_once() {
        let mut shapes = Shapes::default();
        let remote: SocketAddr = HOME.parse().unwrap();
        let packed: Vec<Packed> = ["alice", "bob"]
            .map(|user| phone(user, &"0a".repeat(32)))
            .iter()
            .map(|contact| shapes.pack(contact.as_bytes(), remote))
            .collect();
        assert_eq!(packed[0].fields.len(), 1 + 5 + 1 + 32 + 16);
        assert_eq!(shapes.known.len(), 1);
        for packed in packed {
            shapes.release(&packed);
        }
        assert!(shapes.known.is_empty());
    }

    #[test]
    fn a_contact_comes_back_byte_for_byte_whatever_it_is() {
        for contact in [
            "",
            "*",
            "<sip:a@b>",
            "sip:a@192.0.2.7:5061",
            "<sips:a@192.0.2.7:50611;pn-prid=ABCDEF0123456789ABCDEF>",
            "<sip:@>;pn-prid=",
            "<sip:a@h;pn-prid=0123456789abcdef0>",
            "<sip:a@h;pn-prid=id:APA91b-x_y>;+sip.instance=\"<urn:uuid:0>\"",
            "\"sip\" <sip:a@h>;+sip.instance=\"<urn:uuid:ABCDEF00-0000-1000-8000-000A95A0E128>\"",
            "<sip:a@h>;x=\u{1}\u{2}\u{3}\u{4}",
        ] {
            round(contact.as_bytes(), HOME);
            round(contact.as_bytes(), "[2001:db8::1]:5060");
        }
        let long = phone(&"u".repeat(300), &"0a".repeat(400));
        round(long.as_bytes(), HOME);
        round(phone("a", &"0a".repeat(255)).as_bytes(), HOME);
        round(phone("a", &"0a".repeat(256)).as_bytes(), HOME);
    }

    proptest! {
        #[test]
        fn every_contact_comes_back(parts in proptest::collection::vec(0_usize..14, 0..30)) {
            let words = [
                "<", ">", "sip", ":", "@", HOME, "pn-prid", "=", ";", "0123456789abcdef", "F",
                "urn:uuid:", "00000000-0000-1000-8000-000a95a0e128", "\u{2}",
            ];
            let contact: String = parts.iter().map(|at| words[*at]).collect();
            round(contact.as_bytes(), HOME);
        }
    }
}
