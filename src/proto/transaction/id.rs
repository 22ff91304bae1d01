//! The names of transactions, and the Via branch that carries a client transaction's name
//! (RFC 3261 §8.1.1.7, §17.1.3).
//!
//! 63 random bits per branch: a response cannot be forged by somebody who has not seen the request.

use crate::proto::sip::hexadecimal;

/// What every branch of an RFC 3261 client begins with (RFC 3261 §8.1.1.7).
pub(super) const MAGIC_COOKIE: &str = "z9hG4bK";

const SHARD_DIGITS: usize = 4;
const SLOT_DIGITS: usize = 8;
const NONCE_DIGITS: usize = 16;
const BRANCH: usize = 7 + SHARD_DIGITS + SLOT_DIGITS + NONCE_DIGITS;

/// A server transaction of this shard: a slot and the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    /// The slot in the table.
    pub slot: u32,
    /// Tells this transaction from the slot's earlier ones.
    pub generation: u32,
}

/// A client transaction of this shard: a slot, and the random bits of its branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    /// The slot in the table.
    pub slot: u32,
    /// Random: tells this transaction from the slot's earlier ones and from guesses.
    pub nonce: u64,
}

/// The number of a Via branch, whoever wrote it: the same in every process.
#[must_use]
pub fn branch_number(branch: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(branch)
}

impl ClientId {
    /// Whether it is of a process whose branches are odd: a process that takes over from another
    /// makes the other ones.
    #[must_use]
    pub const fn is_odd(self) -> bool {
        self.nonce & 1 == 1
    }

    /// Returns the Via branch that names it: `z9hG4bK`, then shard, slot and nonce in lower-case
    /// hexadecimal digits of fixed number, which no peer rewrites.
    #[must_use]
    pub fn branch(self, shard: u16) -> String {
        String::from_utf8_lossy(&self.branch_bytes(shard)).into_owned()
    }

    /// The same, where no text is needed.
    #[must_use]
    pub fn branch_bytes(self, shard: u16) -> [u8; BRANCH] {
        let mut branch = [0; BRANCH];
        let shard = hexadecimal::<SHARD_DIGITS>(shard.into());
        let slot = hexadecimal::<SLOT_DIGITS>(self.slot.into());
        let nonce = hexadecimal::<NONCE_DIGITS>(self.nonce);
        let parts = MAGIC_COOKIE.bytes().chain(shard).chain(slot).chain(nonce);
        for (place, byte) in branch.iter_mut().zip(parts) {
            *place = byte;
        }
        branch
    }

    /// Reads a branch of ours: the shard and the id. `None` for anything that [`Self::branch`]
    /// does not write.
    #[must_use]
    pub fn from_branch(branch: &[u8]) -> Option<(u16, Self)> {
        let digits = branch.strip_prefix(MAGIC_COOKIE.as_bytes())?;
        let (shard, digits) = digits.split_at_checked(SHARD_DIGITS)?;
        let (slot, nonce) = digits.split_at_checked(SLOT_DIGITS)?;
        if nonce.len() != NONCE_DIGITS {
            return None;
        }
        let id = Self {
            slot: u32::try_from(read_digits(slot)?).ok()?,
            nonce: read_digits(nonce)?,
        };
        Some((u16::try_from(read_digits(shard)?).ok()?, id))
    }
}

/// Reads lower-case hexadecimal digits, at most sixteen.
fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_branch_is_the_cookie_and_28_lower_case_digits() {
        let id = ClientId {
            slot: 0x12,
            nonce: 0xdead_beef,
        };
        assert_eq!(id.branch(3), "z9hG4bK00030000001200000000deadbeef");
    }

    #[test]
    fn only_our_own_shape_is_read() {
        let branch = ClientId { slot: 1, nonce: 2 }.branch(0);
        assert!(ClientId::from_branch(branch.as_bytes()).is_some());
        for foreign in [
            "",
            "z9hG4bK",
            "z9hG4bK00030000001200000000deadbee",
            "z9hG4bK00030000001200000000deadbeef0",
            "z9hG4bK00030000001200000000DEADBEEF",
            "z9hG4bK+0030000001200000000deadbeef",
            "Z9hG4bK00030000001200000000deadbeef",
            "z9hG4bK0003000000120000\u{e9}\u{e9}dead12ab",
        ] {
            assert_eq!(ClientId::from_branch(foreign.as_bytes()), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn every_branch_reads_back(shard: u16, slot: u32, nonce: u64) {
            let id = ClientId { slot, nonce };
            prop_assert_eq!(ClientId::from_branch(id.branch(shard).as_bytes()), Some((shard, id)));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            if let Some((shard, id)) = ClientId::from_branch(&bytes) {
                prop_assert_eq!(id.branch(shard).into_bytes(), bytes);
            }
        }
    }
}
