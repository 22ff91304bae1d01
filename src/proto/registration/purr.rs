//! PURRs (RFC 8599 §6.2.1): what a device puts into the Contact of a dialog so that requests inside
//! it wake the device.
//!
//! A PURR is a sealed name of the binding: 128 random bits, the binding's number under a keystream
//! made of them, and a tag over both. Nobody but us can make one, read whose it is, or tell that two
//! are of one device. Nothing is stored: each stays good for its dialog however many follow it, and
//! after a restart, since the key is durable.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::proto::sip::{Message, NameAddr, Uri};
use crate::proto::{AorId, BindingId, BindingKey};

/// Bytes of the random part, of the sealed name, and of the tag.
const PART: usize = 16;
/// Characters of a PURR.
const CHARS: usize = 64;

/// Makes and reads PURRs.
#[derive(Debug)]
pub struct Purrs {
    cipher: hmac::Key,
    tag: hmac::Key,
}

impl Purrs {
    /// Derives its keys from the gateway's.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let master = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derive = |label: &[u8]| {
            let derived = hmac::sign(&master, label);
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        Self {
            cipher: derive(b"purr cipher"),
            tag: derive(b"purr tag"),
        }
    }

    /// Makes a new one for a binding.
    #[must_use]
    pub fn make(&self, key: BindingKey, random: [u64; 2]) -> String {
        let mut bytes = Vec::with_capacity(3 * PART);
        bytes.extend(random.iter().flat_map(|part| part.to_be_bytes()));
        let name = u128::from(key.aor.0) << 64 | u128::from(key.binding.0);
        let sealed = name ^ self.keystream(&bytes);
        bytes.extend_from_slice(&sealed.to_be_bytes());
        let tag = hmac::sign(&self.tag, &bytes);
        bytes.extend(tag.as_ref().iter().take(PART));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whose it is, if we made it.
    #[must_use]
    pub fn read(&self, text: &[u8]) -> Option<BindingKey> {
        if text.len() != CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, tag) = bytes.split_at_checked(2 * PART)?;
        let expected = hmac::sign(&self.tag, body);
        verify_slices_are_equal(expected.as_ref().get(..PART)?, tag).ok()?;
        let (random, sealed) = body.split_at_checked(PART)?;
        let sealed = u128::from_be_bytes(sealed.try_into().ok()?);
        let name = sealed ^ self.keystream(random);
        Some(BindingKey {
            aor: AorId((name >> 64) as u64),
            binding: BindingId(name as u64),
        })
    }

    /// The device whose PURR a request carries, in its Request-URI or a Route (RFC 8599 §6.2.3).
    #[must_use]
    pub fn device_of(&self, request: &Message) -> Option<BindingKey> {
        let of_uri = |uri: &Uri<'_>| self.read(uri.params.value("pn-purr")?);
        let of_route = |route: NameAddr<'_>| of_uri(&route.parse_uri().ok()?);
        let in_routes = || request.routes().find_map(|route| of_route(route.ok()?));
        let in_uri = request.parsed_uri().and_then(|uri| of_uri(&uri));
        in_uri.or_else(in_routes)
    }

    fn keystream(&self, random: &[u8]) -> u128 {
        let stream = hmac::sign(&self.cipher, random);
        let start = stream.as_ref().iter().take(PART);
        start.fold(0, |sum, byte| sum << 8 | u128::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BindingKey {
        BindingKey {
            aor: AorId(7),
            binding: BindingId(u64::MAX - 1),
        }
    }

    #[test]
    fn a_purr_names_its_binding_and_two_of_one_binding_have_nothing_in_common() {
        let purrs = Purrs::new(&[1; 32]);
        let one = purrs.make(key(), [1, 2]);
        let two = purrs.make(key(), [1, 3]);
        for purr in [&one, &two] {
            assert_eq!(purr.len(), CHARS);
            let is_safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            assert!(purr.bytes().all(is_safe));
            assert_eq!(purrs.read(purr.as_bytes()), Some(key()));
        }
        let same = one.bytes().zip(two.bytes()).skip(22);
        let same = same.filter(|(one, two)| one == two).count();
        assert!(same < 8, "{one} {two}");
    }

    #[test]
    fn a_purr_that_was_changed_or_made_by_others_is_none() {
        let purrs = Purrs::new(&[1; 32]);
        let purr = purrs.make(key(), [1, 2]).into_bytes();
        assert_eq!(Purrs::new(&[2; 32]).read(&purr), None);
        for at in 0..purr.len() {
            let mut changed = purr.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(purrs.read(&changed), None, "byte {at}");
        }
        assert_eq!(purrs.read(b""), None);
        assert_eq!(purrs.read(&purr[1..]), None);
    }
}
