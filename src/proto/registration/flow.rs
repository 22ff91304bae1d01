//! Flow tokens (RFC 5626 §5.2): what our Record-Route and Path URIs carry in their user part.
//!
//! A token names the agent, the device and the upstream node of a dialog, and is signed: a request
//! with a token that we did not make is refused. It names the device, not its socket, so that a
//! dialog follows a phone that comes back from another address (RFC 5626 §5.3 would end it).
//! It depends on nothing that a restart loses; the key is durable.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::proto::{AorId, BindingId, BindingKey};

/// Bytes of a token before its signature: version, agent, device, node.
const BODY: usize = 1 + 8 + 8 + 2;
/// Bytes of the signature: HMAC-SHA-256, cut to 80 bits.
const TAG: usize = 10;
/// Characters of a token.
pub const TOKEN_CHARS: usize = 39;
const VERSION: u8 = 1;
/// The node of a dialog whose upstream side is not a configured node.
pub const NO_NODE: u16 = u16::MAX;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowToken {
    /// The device.
    pub key: BindingKey,
    /// The upstream node, or [`NO_NODE`].
    pub node: u16,
}

/// Makes and checks tokens.
#[derive(Debug)]
pub struct TokenSigner {
    key: hmac::Key,
}

impl TokenSigner {
    /// A signer with this key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// Writes a token: [`TOKEN_CHARS`] characters that no peer rewrites.
    #[must_use]
    pub fn sign(&self, token: FlowToken) -> [u8; TOKEN_CHARS] {
        let body = body_of(token);
        let tag = hmac::sign(&self.key, &body);
        let mut bytes = [0; BODY + TAG];
        let parts = body.iter().chain(tag.as_ref());
        for (place, byte) in bytes.iter_mut().zip(parts) {
            *place = *byte;
        }
        let mut text = [0; TOKEN_CHARS];
        // dropped: the place is as large as the text.
        URL_SAFE_NO_PAD
            .encode_slice(bytes, &mut text)
            .unwrap_or_default();
        text
    }

    /// Reads a token and checks its signature in constant time.
    #[must_use]
    pub fn verify(&self, text: &[u8]) -> Option<FlowToken> {
        let (token, body, tag) = decode(text)?;
        let expected = hmac::sign(&self.key, &body);
        let expected = expected.as_ref().get(..TAG)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(expected, &tag).ok()?;
        Some(token)
    }
}

/// Reads whose token this is, unchecked: enough to pick the shard that checks it.
#[must_use]
pub fn peek(text: &[u8]) -> Option<AorId> {
    decode(text).map(|(token, _, _)| token.key.aor)
}

fn body_of(token: FlowToken) -> [u8; BODY] {
    let mut body = [VERSION; BODY];
    let aor = token.key.aor.0.to_be_bytes();
    let binding = token.key.binding.0.to_be_bytes();
    let parts = aor
        .into_iter()
        .chain(binding)
        .chain(token.node.to_be_bytes());
    for (place, byte) in body.iter_mut().skip(1).zip(parts) {
        *place = byte;
    }
    body
}

fn decode(text: &[u8]) -> Option<(FlowToken, [u8; BODY], [u8; TAG])> {
    if text.len() != TOKEN_CHARS {
        return None;
    }
    let mut bytes = [0_u8; BODY + TAG];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    if length != BODY + TAG {
        return None;
    }
    let (body, tag) = bytes.split_first_chunk::<BODY>()?;
    let (version, rest) = body.split_first()?;
    let (aor, rest) = rest.split_first_chunk::<8>()?;
    let (binding, rest) = rest.split_first_chunk::<8>()?;
    let (node, _) = rest.split_first_chunk::<2>()?;
    if *version != VERSION {
        return None;
    }
    let key = BindingKey {
        aor: AorId(u64::from_be_bytes(*aor)),
        binding: BindingId(u64::from_be_bytes(*binding)),
    };
    let token = FlowToken {
        key,
        node: u16::from_be_bytes(*node),
    };
    Some((token, *body, tag.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> FlowToken {
        let key = BindingKey {
            aor: AorId(7),
            binding: BindingId(u64::MAX),
        };
        FlowToken { key, node: 3 }
    }

    #[test]
    fn a_token_reads_back_and_has_only_safe_characters() {
        let signer = TokenSigner::new(&[1; 32]);
        let text = signer.sign(token());
        assert_eq!(text.len(), TOKEN_CHARS);
        assert!(
            text.iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        );
        assert_eq!(signer.verify(&text), Some(token()));
        assert_eq!(peek(&text), Some(AorId(7)));
    }

    #[test]
    fn a_token_that_was_changed_or_signed_by_another_key_is_refused() {
        let signer = TokenSigner::new(&[1; 32]);
        let text = signer.sign(token());
        assert_eq!(TokenSigner::new(&[2; 32]).verify(&text), None);
        for at in 0..text.len() {
            let mut changed = text;
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(signer.verify(&changed), None, "byte {at}");
        }
        assert_eq!(signer.verify(b""), None);
        assert_eq!(signer.verify(&text[1..]), None);
    }
}
