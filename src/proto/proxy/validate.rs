//! Request validation (RFC 3261 §16.3, RFC 5393 §4): what is refused before anything is kept.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::proto::proxy::Proxy;
use crate::proto::reject::Reject;
use crate::proto::sip::{
    HeaderName, Host, Message, Method, ParseErrorKind, Scheme, Via, hexadecimal,
};
use crate::proto::transaction::ClientId;

/// The Via parameter that holds the loop check's hash (RFC 3261 §16.6 step 8).
pub(super) const LOOP_PARAM: &str = "rouse-l";
/// Max-Forwards of a request that has none (RFC 3261 §16.6 step 3).
pub(super) const DEFAULT_MAX_FORWARDS: u8 = 70;
/// Max-Breadth of a request that has none (RFC 5393 §5.3.3).
pub(super) const DEFAULT_MAX_BREADTH: u32 = 60;

impl Proxy {
    /// Checks a request.
    pub(super) fn validate(&self, request: &Message) -> Result<(), Reject> {
        request.validate().map_err(|error| match error.kind {
            ParseErrorKind::Version => Reject::Version,
            ParseErrorKind::TooLarge | ParseErrorKind::TooManyHeaders => Reject::TooLarge,
            ParseErrorKind::StartLine
            | ParseErrorKind::Header
            | ParseErrorKind::HeaderName
            | ParseErrorKind::ContentLength
            | ParseErrorKind::Truncated
            | ParseErrorKind::Missing
            | ParseErrorKind::Duplicate
            | ParseErrorKind::Value
            | ParseErrorKind::MethodMismatch => Reject::Malformed,
        })?;
        let uri = request.parsed_uri().ok_or(Reject::Malformed)?;
        match uri.scheme {
            Scheme::Sip | Scheme::Sips | Scheme::Tel => {}
            Scheme::Other(_) => return Err(Reject::UnsupportedScheme),
        }
        let max_forwards = request.max_forwards().map_err(|_| Reject::Malformed)?;
        // An ACK is never answered; OPTIONS at its last hop is answered by us (§16.3 step 3).
        if max_forwards == Some(0) {
            return Err(Reject::TooManyHops);
        }
        if max_breadth(request)? == 0 {
            return Err(Reject::MaxBreadth);
        }
        self.detect_loop(request)?;
        // CANCEL and ACK carry no Proxy-Require that may be refused (RFC 3261 §8.2.2.3).
        let is_answerable = !matches!(request.method(), Some(Method::Ack | Method::Cancel));
        if is_answerable && request.values(HeaderName::ProxyRequire).next().is_some() {
            return Err(Reject::BadExtension);
        }
        Ok(())
    }

    /// Compares the hash in each Via of ours with this request's: equal means that nothing that
    /// decides its way has changed since it left us.
    fn detect_loop(&self, request: &Message) -> Result<(), Reject> {
        let mut hash = None;
        // The top Via is the sender's: only those below it can be ours.
        let top = request.top_via();
        let others = request.values(HeaderName::Via).skip(1).map(Via::parse);
        for via in std::iter::once(top).chain(others) {
            let via = via.map_err(|_| Reject::Malformed)?;
            let Some(mark) = via.params.value(LOOP_PARAM) else {
                continue;
            };
            if !self.upstreams.is_own_host(via.host) {
                continue;
            }
            let own = *hash.get_or_insert_with(|| loop_hash(request));
            if crate::proto::aor::hex_u64(mark) == Some(own) {
                return Err(Reject::LoopDetected);
            }
        }
        Ok(())
    }
}

/// Max-Breadth of a request, and never more than a request without one gets (RFC 5393 §5.3.3).
pub(super) fn max_breadth(request: &Message) -> Result<u32, Reject> {
    let Some(value) = request.header(HeaderName::MaxBreadth) else {
        return Ok(DEFAULT_MAX_BREADTH);
    };
    let text = std::str::from_utf8(value).map_err(|_| Reject::Malformed)?;
    let breadth: u32 = text.trim().parse().map_err(|_| Reject::Malformed)?;
    Ok(breadth.min(DEFAULT_MAX_BREADTH))
}

/// The hash of what decides a request's way (RFC 3261 §16.6 step 8): Request-URI, tags, Call-ID,
/// CSeq, Proxy-Require, Route.
pub(super) fn loop_hash(request: &Message) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x726f_7573_656c_6f6f, 0);
    let mut part = |bytes: &[u8]| {
        hasher.write(bytes);
        hasher.write_u8(0);
    };
    part(request.request_uri().unwrap_or_default());
    part(
        request
            .from()
            .ok()
            .and_then(|from| from.tag())
            .unwrap_or_default(),
    );
    part(
        request
            .to()
            .ok()
            .and_then(|to| to.tag())
            .unwrap_or_default(),
    );
    part(request.call_id().unwrap_or_default());
    part(&request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes());
    for name in [HeaderName::ProxyRequire, HeaderName::Route] {
        request.values(name).for_each(&mut part);
    }
    hasher.finish()
}

/// What makes the To tags of our answers: nobody without the gateway's key can tell them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tags([u64; 2]);

impl Tags {
    /// Those of a gateway: the same after a restart, in every shard.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let part = |label: u64| {
            let mut hasher = SipHasher13::new_with_keys(0x726f_7573_6574_6167, label);
            hasher.write(key);
            hasher.finish()
        };
        Self([part(0), part(1)])
    }

    /// A To tag for an answer of ours: the same for each retransmission of the request.
    pub(super) fn of(self, request: &Message) -> [u8; 16] {
        hexadecimal(local_number(self.0, request))
    }

    /// The tag as a number.
    pub(super) fn number(self, request: &Message) -> u64 {
        local_number(self.0, request)
    }
}

fn local_number([high, low]: [u64; 2], request: &Message) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(high, low);
    let via = request.top_via();
    hasher.write(via.as_ref().ok().and_then(Via::branch).unwrap_or_default());
    hasher.write(request.call_id().unwrap_or_default());
    hasher.write(
        request
            .from()
            .ok()
            .and_then(|from| from.tag())
            .unwrap_or_default(),
    );
    if let Ok(via) = via {
        match via.host {
            Host::Address(IpAddr::V4(address)) => hasher.write(&address.octets()),
            Host::Address(IpAddr::V6(address)) => hasher.write(&address.octets()),
            Host::Name(name) => hasher.write(name),
        }
    }
    hasher.finish()
}

/// A branch for a request that is forwarded without a transaction: the same for each
/// retransmission (RFC 3261 §16.11).
pub(super) fn stateless_branch(request: &Message, shard: u16) -> impl AsRef<[u8]> + use<> {
    let mut hasher = SipHasher13::new_with_keys(0x726f_7573_6573_746c, 0);
    hasher.write(
        request
            .top_via()
            .ok()
            .and_then(|via| via.branch())
            .unwrap_or_default(),
    );
    hasher.write(request.call_id().unwrap_or_default());
    hasher.write_u32(request.cseq().map_or(0, |cseq| cseq.number));
    ClientId {
        slot: u32::MAX,
        nonce: hasher.finish(),
    }
    .branch_bytes(shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_one_request_are_the_same_with_one_key_and_none_is_with_another() {
        let request = |branch: &str| {
            let text = format!(
                "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch={branch}\r\n\
                From: <sip:a@h>;tag=1\r\nTo: <sip:a@h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
            );
            Message::parse(text.into()).unwrap()
        };
        let tags = Tags::new(&[7; 32]);
        let tag = tags.of(&request("z9hG4bK1"));
        assert_eq!(Tags::new(&[7; 32]).of(&request("z9hG4bK1")), tag);
        assert_ne!(Tags::new(&[8; 32]).of(&request("z9hG4bK1")), tag);
        assert_ne!(tags.of(&request("z9hG4bK2")), tag);
    }
}
