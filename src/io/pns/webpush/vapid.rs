//! Who we are to browsers' push services (RFC 8292): an ES256 JWT for each service's origin.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use crate::io::pns::delivery::Authorization;

/// For how long a token says that it is valid, in seconds; at most 24 hours (RFC 8292 §2).
const LIFETIME: u64 = 12 * 3600;
/// A token with less than this left is replaced.
const LEAST_LEFT: u64 = 3600;
/// The age at which a refused token may be replaced: our clock and theirs may differ.
const LEAST_AGE: u64 = 60;

/// The key is none that push services take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is not a P-256 private key in PKCS #8 PEM")]
pub struct BadVapidKey;

/// Returns the public half of a VAPID key as browsers and `+sip.vapid` want it: the point, in
/// base64url.
///
/// # Errors
///
/// When the text is no P-256 key in PKCS #8 PEM.
pub fn public_key(pem: &str) -> Result<String, BadVapidKey> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| BadVapidKey)?;
    let der = der.secret_pkcs8_der();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
    let pair = pair.map_err(|_| BadVapidKey)?;
    Ok(BASE64.encode(pair.public_key()))
}

/// Mints and keeps one token for each origin.
pub(super) struct Vapid {
    key: EncodingKey,
    public: String,
    subject: String,
    /// By origin; as many as there are hosts that are pushed to.
    tokens: Mutex<HashMap<String, Token>>,
}

struct Token {
    value: HeaderValue,
    issued_at: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: u64,
    sub: &'a str,
}

impl Vapid {
    /// Reads the key; `subject` is how the operator is reached: `mailto:` or `https:`.
    pub(super) fn new(pem: &str, subject: &str) -> Result<Self, BadVapidKey> {
        Ok(Self {
            key: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| BadVapidKey)?,
            public: public_key(pem)?,
            subject: subject.to_owned(),
            tokens: Mutex::default(),
        })
    }

    /// Returns the token of this moment for an origin.
    pub(super) fn bearer(&self, origin: &str, now: u64) -> Result<Authorization, BadVapidKey> {
        let mut tokens = self.tokens.lock();
        let fresh = tokens.get(origin).filter(|token| {
            // A clock that was set back makes the token one that ends too late.
            token.issued_at <= now && now - token.issued_at < LIFETIME - LEAST_LEFT
        });
        if let Some(token) = fresh {
            return Ok(token.authorization());
        }
        let token = self.mint(origin, now)?;
        let authorization = token.authorization();
        tokens.insert(origin.to_owned(), token);
        Ok(authorization)
    }

    /// Drops a token that was refused; `false` if a new one would say the same.
    pub(super) fn renew(&self, origin: &str, refused: u64, now: u64) -> bool {
        let mut tokens = self.tokens.lock();
        let known = tokens.get(origin).map(|token| token.issued_at);
        if known == Some(refused) {
            if now.abs_diff(refused) < LEAST_AGE {
                return false;
            }
            tokens.remove(origin);
        }
        true
    }

    /// Forgets an origin's token.
    pub(super) fn forget(&self, origin: &str) {
        self.tokens.lock().remove(origin);
    }

    fn mint(&self, origin: &str, now: u64) -> Result<Token, BadVapidKey> {
        let claims = Claims {
            aud: origin,
            exp: now + LIFETIME,
            sub: &self.subject,
        };
        let header = Header::new(Algorithm::ES256);
        let jwt = jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| BadVapidKey)?;
        let text = format!("vapid t={jwt}, k={}", self.public);
        let mut value = HeaderValue::try_from(text).map_err(|_| BadVapidKey)?;
        value.set_sensitive(true);
        Ok(Token {
            value,
            issued_at: now,
        })
    }
}

impl Token {
    fn authorization(&self) -> Authorization {
        Authorization {
            value: self.value.clone(),
            edition: self.issued_at,
        }
    }
}

impl fmt::Debug for Vapid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vapid")
            .field("public", &self.public)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_serves_its_origin_alone_and_not_to_its_end() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let vapid = Vapid::new(&key, "mailto:ops@example.com").unwrap();
        let now = 1_700_000_000;
        let bearer = |origin: &str, now| vapid.bearer(origin, now).unwrap().value;
        let first = bearer("https://a", now);
        assert_eq!(bearer("https://a", now + 3600), first);
        assert_ne!(bearer("https://b", now), first);
        assert_ne!(bearer("https://a", now + LIFETIME - LEAST_LEFT), first);
        assert_ne!(
            bearer("https://a", now - 1),
            first,
            "the clock was set back"
        );
        assert!(!format!("{vapid:?} {first:?}").contains("eyJ"));
    }

    #[test]
    fn a_refused_token_is_replaced_unless_it_is_new() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let vapid = Vapid::new(&key, "mailto:ops@example.com").unwrap();
        let first = vapid.bearer("https://a", 1000).unwrap().edition;
        assert!(!vapid.renew("https://a", first, 1059));
        assert!(vapid.renew("https://a", first, 1060));
        assert_eq!(vapid.bearer("https://a", 1060).unwrap().edition, 1060);
        assert!(vapid.renew("https://a", first, 1061), "another push did it");
    }

    #[test]
    fn only_p256_keys_are_taken() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for pem in ["", "secret", &p384.serialize_pem()] {
            assert_eq!(public_key(pem), Err(BadVapidKey));
        }
    }
}
