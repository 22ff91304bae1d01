//! What makes two requests one transaction (RFC 3261 §17.2.3), as a keyed hash of 128 bits.
//!
//! Beyond the RFC the CSeq number is part of it: chan_sip sends each NOTIFY of a subscription with
//! the same branch and a higher number, and the second is not a retransmission of the first. For
//! every peer that obeys the RFC the number is the same wherever the branch is.

use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::proto::sip::{Host, Message, Method, ParseError, Via};
use crate::proto::transaction::id::MAGIC_COOKIE;

/// The key of a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// A request's key and, for a peer of RFC 2543, the way to the key of its ACK.
#[derive(Debug)]
pub(super) struct Matching {
    pub(super) key: Key,
    pub(super) legacy: Option<LegacyPrefix>,
}

/// All that an RFC 2543 request is matched by, except the tag of To: the ACK has that of our
/// response.
#[derive(Clone, Copy, Debug)]
pub(super) struct LegacyPrefix(SipHasher13);

/// Hashes a [`Key`], which is uniform already.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

/// Makes [`KeyHasher`]s.
pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

impl Matching {
    /// Computes the key of a request as if its method were `method`.
    pub(super) fn new(
        secret: [u64; 2],
        request: &Message,
        via: &Via<'_>,
        method: Method<'_>,
    ) -> Result<Self, ParseError> {
        let [first, second] = secret;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        // An ACK of a non-2xx belongs to the INVITE's transaction.
        let method = if method == Method::Ack {
            Method::Invite
        } else {
            method
        };
        field(&mut hasher, method.as_bytes());
        hasher.write_u32(request.cseq()?.number);
        let branch = via
            .branch()
            .filter(|branch| branch.starts_with(MAGIC_COOKIE.as_bytes()));
        if let Some(branch) = branch {
            field(&mut hasher, branch);
            sent_by(&mut hasher, via);
            return Ok(Self {
                key: Key(hasher.finish128().as_u128()),
                legacy: None,
            });
        }
        field(&mut hasher, request.request_uri().unwrap_or_default());
        field(&mut hasher, request.from()?.tag().unwrap_or_default());
        field(&mut hasher, request.call_id()?);
        field(&mut hasher, via.raw);
        let prefix = LegacyPrefix(hasher);
        Ok(Self {
            key: prefix.with_to_tag(request.to()?.tag()),
            legacy: Some(prefix),
        })
    }
}

impl LegacyPrefix {
    /// Returns the key of the request with this tag in its To.
    pub(super) fn with_to_tag(&self, tag: Option<&[u8]>) -> Key {
        let mut hasher = self.0;
        field(&mut hasher, tag.unwrap_or_default());
        Key(hasher.finish128().as_u128())
    }
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        let [low, high] = [key as u64, (key >> 64) as u64];
        self.0 = low ^ high;
    }
}

/// With its length, so that no two fields can be cut differently.
fn field(hasher: &mut SipHasher13, bytes: &[u8]) {
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}

fn sent_by(hasher: &mut SipHasher13, via: &Via<'_>) {
    match via.host {
        Host::Address(IpAddr::V4(address)) => field(hasher, &address.octets()),
        Host::Address(IpAddr::V6(address)) => field(hasher, &address.octets()),
        Host::Name(name) => field(hasher, &name.to_ascii_lowercase()),
    }
    hasher.write_u16(via.port.unwrap_or(0));
}
