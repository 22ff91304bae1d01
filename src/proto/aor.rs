//! Addresses-of-record: their numbers, and how a number picks a shard (RFC 3261 §6, §10).
//!
//! The number is a hash with a fixed key, so that it is the same in every process and node: it
//! stands in the Contact that the upstream stores and in flow tokens, and needs no table. Who is
//! registered under it is checked against the name wherever a binding is made.

use std::fmt;
use std::hash::Hasher;
use std::ops::RangeInclusive;

use siphasher::sip::SipHasher13;

use crate::proto::{AorId, BindingId};

/// The URI parameter of our Contact that carries an agent's (and a device's) number.
pub const CONTACT_PARAM: &str = "rouse";

/// An address-of-record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aor {
    /// User part, unescaped.
    pub user: Box<str>,
    /// Domain in lower case; empty for the gateway's own addresses.
    pub domain: Box<str>,
}

impl Aor {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> AorId {
        AorId::of(self.user.as_bytes(), self.domain.as_bytes())
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_aor(f, (&self.user, &self.domain))
    }
}

/// An address-of-record in one piece, where there are millions of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedAor {
    /// User, then domain.
    text: Box<str>,
    at: u16,
}

impl PackedAor {
    /// User part, unescaped.
    #[must_use]
    pub fn user(&self) -> &str {
        self.parts().0
    }

    /// Domain in lower case; empty for the gateway's own addresses.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.parts().1
    }

    /// The same in two pieces.
    #[must_use]
    pub fn unpack(&self) -> Aor {
        let (user, domain) = self.parts();
        Aor {
            user: user.into(),
            domain: domain.into(),
        }
    }

    fn parts(&self) -> (&str, &str) {
        let parts = self.text.split_at_checked(usize::from(self.at));
        parts.unwrap_or((&self.text, ""))
    }
}

impl From<&Aor> for PackedAor {
    fn from(aor: &Aor) -> Self {
        Self {
            text: [&*aor.user, &*aor.domain].concat().into(),
            // A user has at most 256 bytes.
            at: u16::try_from(aor.user.len()).unwrap_or(u16::MAX),
        }
    }
}

impl fmt::Display for PackedAor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_aor(f, self.parts())
    }
}

fn write_aor(f: &mut fmt::Formatter<'_>, (user, domain): (&str, &str)) -> fmt::Result {
    f.write_str(user)?;
    if domain.is_empty() {
        Ok(())
    } else {
        write!(f, "@{domain}")
    }
}

impl AorId {
    /// Numbers an unescaped user in a lower-case domain.
    #[must_use]
    pub fn of(user: &[u8], domain: &[u8]) -> Self {
        let mut whole = SipHasher13::new_with_keys(0x726f_7573_6561_6f72, 1);
        whole.write(user);
        whole.write(b"@");
        whole.write(domain);
        Self(u64::from(user_hash(user)) << 32 | (whole.finish() & 0xffff_ffff))
    }

    /// The shard that owns it.
    #[must_use]
    pub fn shard(self, shards: u16) -> u16 {
        shard_of_hash((self.0 >> 32) as u32, shards)
    }

    /// Reads 16 hexadecimal digits.
    #[must_use]
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        hex_u64(digits).map(Self)
    }
}

impl BindingId {
    /// Numbers a device of an agent: the same device has the same number after it was away.
    #[must_use]
    pub fn of(aor: AorId, device: &[u8]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(0x726f_7573_6562_696e, aor.0);
        hasher.write(device);
        Self(hasher.finish())
    }
}

/// The hash of a user alone, for requests that name no number.
#[must_use]
pub fn user_hash(user: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(0x726f_7573_6575_7365, 0);
    hasher.write(user);
    (hasher.finish() >> 32) as u32
}

/// The shard of a user's hash.
#[must_use]
pub fn shard_of_hash(hash: u32, shards: u16) -> u16 {
    ((u64::from(hash) * u64::from(shards.max(1))) >> 32) as u16
}

/// The hashes of users that are a shard's.
#[must_use]
pub fn users_of_shard(shard: u16, shards: u16) -> RangeInclusive<u32> {
    let first = |shard: u64| (shard << 32).div_ceil(u64::from(shards.max(1)));
    let (start, end) = (first(shard.into()), first(u64::from(shard) + 1));
    let within = |hash: u64| u32::try_from(hash).unwrap_or(u32::MAX);
    within(start)..=within(end.saturating_sub(1))
}

/// Reads exactly 16 hexadecimal digits.
#[must_use]
pub fn hex_u64(digits: &[u8]) -> Option<u64> {
    if digits.len() != 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

/// Reads the value of [`CONTACT_PARAM`]: the agent's number, and the device's if it names one.
#[must_use]
pub fn parse_contact_param(value: &[u8]) -> Option<(AorId, Option<BindingId>)> {
    match value.iter().position(|byte| *byte == b'.') {
        None => Some((AorId::from_hex(value)?, None)),
        Some(dot) => {
            let (aor, binding) = value.split_at_checked(dot)?;
            let binding = hex_u64(binding.get(1..)?)?;
            Some((AorId::from_hex(aor)?, Some(BindingId(binding))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_on_user_and_domain_and_its_shard_on_the_user_alone() {
        let one = AorId::of(b"1001", b"a.example");
        let two = AorId::of(b"1001", b"b.example");
        assert_ne!(one, two);
        assert_eq!(one.shard(7), two.shard(7));
        assert_eq!(one.shard(7), shard_of_hash(user_hash(b"1001"), 7));
        assert!(one.shard(7) < 7);
    }

    #[test]
    fn the_shards_share_all_users_and_each_knows_its_own() {
        for shards in 1..=64 {
            let mut next = 0_u64;
            for shard in 0..shards {
                let users = users_of_shard(shard, shards);
                assert_eq!(u64::from(*users.start()), next);
                assert_eq!(shard_of_hash(*users.start(), shards), shard);
                assert_eq!(shard_of_hash(*users.end(), shards), shard);
                next = u64::from(*users.end()) + 1;
            }
            assert_eq!(next, 1 << 32);
        }
    }

    #[test]
    fn the_contact_parameter_reads_back() {
        let aor = AorId::of(b"1001", b"");
        let device = BindingId::of(aor, b"x");
        let text = format!("{:016x}.{:016x}", aor.0, device.0);
        assert_eq!(
            parse_contact_param(text.as_bytes()),
            Some((aor, Some(device)))
        );
        assert_eq!(
            parse_contact_param(&text.as_bytes()[..16]),
            Some((aor, None))
        );
        assert_eq!(parse_contact_param(b"zz"), None);
    }
}
