//! Which shard a message belongs to, found from the message alone.
//!
//! Responses name it in our branch; requests in a dialog by our flow token; requests from the
//! upstream by the agent's number in the Contact that we gave it, or by a PURR; the rest by the
//! agent's user.
//! A wrong answer costs a refused request, never a wrong delivery: the shard checks everything.

use crate::proto::AorId;
use crate::proto::aor::{CONTACT_PARAM, parse_contact_param, shard_of_hash, user_hash};
use crate::proto::registration::flow;
use crate::proto::registration::purr::Purrs;
use crate::proto::sip::{Message, Method, NameAddr, Uri, unescape};
use crate::proto::transaction::ClientId;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// To one shard.
    One(u16),
    /// To all: an ACK or a CANCEL that names nothing (chan_sip sends both without a Route, and the
    /// ACK of a refused call to the phone's own Contact).
    All,
}

/// Finds the shard of a message. `bound` has a bit for each shard with an agent on the message's
/// flow (shard 63 and above share the last bit); `purrs` reads those that this gateway made.
#[must_use]
pub fn route(message: &Message, bound: u64, shards: u16, purrs: &Purrs) -> Shards {
    if shards <= 1 {
        return Shards::One(0);
    }
    let Some(method) = message.method() else {
        let branch = message.top_via().ok().and_then(|via| via.branch());
        let shard = branch
            .and_then(ClientId::from_branch)
            .map_or(0, |(shard, _)| shard);
        return Shards::One(if shard < shards { shard } else { 0 });
    };
    if let Some(aor) = named_agent(message) {
        return Shards::One(aor.shard(shards));
    }
    if method == Method::Register {
        return Shards::One(user_shard(message.to().ok().as_ref(), shards));
    }
    if bound != 0 {
        let sender = user_shard(message.from().ok().as_ref(), shards);
        let is_bound = bound & 1_u64.checked_shl(u32::from(sender)).unwrap_or(1 << 63) != 0;
        let first = u16::try_from(bound.trailing_zeros()).unwrap_or(0);
        return Shards::One(if is_bound { sender } else { first });
    }
    if let Some(key) = purrs.device_of(message) {
        return Shards::One(key.aor.shard(shards));
    }
    if belongs_to_invite(method) {
        return Shards::All;
    }
    let user = message.parsed_uri().and_then(|uri| uri.user);
    Shards::One(shard_of_hash(
        user_hash(&unescape(user.unwrap_or_default())),
        shards,
    ))
}

/// Whether each shard gets a request from the upstream, because nothing in it says whose it is:
/// those whose it is not stay silent.
#[must_use]
pub fn is_for_all(request: &Message) -> bool {
    request.method().is_some_and(belongs_to_invite) && named_agent(request).is_none()
}

/// The bit of a shard in a flow's mask.
#[must_use]
pub const fn bit(shard: u16) -> u64 {
    if shard >= 63 { 1 << 63 } else { 1 << shard }
}

fn belongs_to_invite(method: Method<'_>) -> bool {
    matches!(method, Method::Ack | Method::Cancel)
}

/// The agent that a request names: by our token in its first Route or, from a strict router, in
/// the Request-URI; or by our parameter in the Request-URI or in To.
fn named_agent(message: &Message) -> Option<AorId> {
    let by_route = || {
        let route = message.routes().next()?.ok()?;
        flow::peek(route.parse_uri().ok()?.user?)
    };
    let by_uri = |uri: Uri<'_>| match uri.params.value(CONTACT_PARAM) {
        Some(value) => parse_contact_param(value).map(|(aor, _)| aor),
        None => flow::peek(uri.user?),
    };
    by_route()
        .or_else(|| by_uri(message.parsed_uri()?))
        .or_else(|| by_uri(message.to().ok()?.parse_uri().ok()?))
}

fn user_shard(address: Option<&NameAddr<'_>>, shards: u16) -> u16 {
    let user = address
        .and_then(|address| address.parse_uri().ok()?.user)
        .unwrap_or_default();
    shard_of_hash(user_hash(&unescape(user)), shards)
}
