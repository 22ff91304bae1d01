//! SIPS (RFC 3261 §16.6, §26.2.2; RFC 5630): a request to a sips URI leaves over TLS or not at all.
//!
//! A REGISTER is not such a request: what its sips URI promises ends at the domain's edge, which we
//! are.

use crate::proto::proxy::upstream::UpstreamHop;
use crate::proto::reject::Reject;
use crate::proto::sip::{Message, Method, Scheme, Uri};

/// Warn-code and text of RFC 5630 for a sips URI that cannot be reached as it asks.
pub(super) const WARNING: (u16, &str) = (380, "SIPS Not Allowed");

/// Whether a request may leave over TLS alone.
pub(super) fn is_promised(request: &Message) -> bool {
    let has_sips = |uri: Uri<'_>| matches!(uri.scheme, Scheme::Sips);
    request.method() != Some(Method::Register) && request.parsed_uri().is_some_and(has_sips)
}

/// Whether a URI is of that scheme.
pub(super) fn is_sips(uri: &[u8]) -> bool {
    uri.get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

/// The hops that a request may take.
///
/// # Errors
/// The refusal if there are some and it may take none of them.
pub(super) fn hops_of(
    request: &Message,
    mut hops: Vec<UpstreamHop>,
) -> Result<Vec<UpstreamHop>, Reject> {
    if hops.is_empty() || !is_promised(request) {
        return Ok(hops);
    }
    hops.retain(|hop| hop.transport.is_secure());
    if hops.is_empty() {
        return Err(Reject::SipsNotAllowed);
    }
    Ok(hops)
}
