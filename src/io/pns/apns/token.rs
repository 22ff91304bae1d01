//! APNs' provider token: an ES256 JWT that is the same for all connections of a key.
//!
//! Apple wants it renewed at least every 60 and at most every 20 minutes. Its `iat` is the start of
//! a slot of [`SLOT`], so that a gateway that was restarted, and another one with the same key, say
//! the same; a token serves until it is [`LIFETIME`] old, which leaves each at least 25 minutes.

use std::fmt;

use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde::Serialize;

use crate::io::pns::delivery::Authorization;

/// Tokens are dated back to a multiple of this; more than 20 minutes, in seconds.
const SLOT: u64 = 25 * 60;
/// The age at which a token is replaced, in seconds.
const LIFETIME: u64 = 50 * 60;
/// The least time between two tokens, in seconds.
pub(super) const LEAST_INTERVAL: u64 = 20 * 60;

/// The key is none that APNs takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is not a P-256 private key in PKCS #8 PEM, as Apple's .p8 file is")]
pub struct BadKey;

/// Mints and keeps the token of one key.
pub(in crate::io::pns) struct ProviderToken {
    team_id: String,
    key_id: String,
    key: EncodingKey,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// When a token was last replaced because Apple called it expired.
    forced_at: Option<u64>,
}

struct Token {
    value: HeaderValue,
    issued_at: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: u64,
}

impl ProviderToken {
    /// Reads the key and tries it.
    pub(in crate::io::pns) fn new(
        team_id: &str,
        key_id: &str,
        p8_pem: &str,
    ) -> Result<Self, BadKey> {
        let key = EncodingKey::from_ec_pem(p8_pem.as_bytes()).map_err(|_| BadKey)?;
        let this = Self {
            team_id: team_id.to_owned(),
            key_id: key_id.to_owned(),
            key,
            state: Mutex::new(State::default()),
        };
        // A P-384 key reads well and only signing tells.
        this.mint(0)?;
        Ok(this)
    }

    /// Returns the token of this moment.
    pub(in crate::io::pns) fn bearer(&self, unix_now: u64) -> Result<Authorization, BadKey> {
        let mut state = self.state.lock();
        let fresh = state.token.as_ref().filter(|token| {
            // A clock that was set back makes the token one from the future.
            token.issued_at <= unix_now && unix_now - token.issued_at < LIFETIME
        });
        if let Some(token) = fresh {
            return Ok(token.authorization());
        }
        let token = self.mint(unix_now - unix_now % SLOT)?;
        let authorization = token.authorization();
        state.token = Some(token);
        Ok(authorization)
    }

    /// Replaces the token that Apple called expired; `false` if that cannot help: a second time
    /// within 20 minutes means that our clock, not the token, is wrong.
    pub(in crate::io::pns) fn renew(&self, refused: u64, unix_now: u64) -> Result<bool, BadKey> {
        let mut state = self.state.lock();
        if state.token.as_ref().is_some_and(|t| t.issued_at != refused) {
            // Another push has done it.
            return Ok(true);
        }
        if let Some(at) = state.forced_at
            && (at..at + LEAST_INTERVAL).contains(&unix_now)
        {
            return Ok(false);
        }
        state.token = Some(self.mint(unix_now)?);
        state.forced_at = Some(unix_now);
        Ok(true)
    }

    fn mint(&self, issued_at: u64) -> Result<Token, BadKey> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        let claims = Claims {
            iss: &self.team_id,
            iat: issued_at,
        };
        let jwt = jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| BadKey)?;
        let mut value = HeaderValue::try_from(format!("bearer {jwt}")).map_err(|_| BadKey)?;
        value.set_sensitive(true);
        Ok(Token { value, issued_at })
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

impl fmt::Debug for ProviderToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderToken")
            .field("team_id", &self.team_id)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ProviderToken {
        let key = rcgen::KeyPair::generate().unwrap();
        ProviderToken::new("ABCDE12345", "KEY1234567", &key.serialize_pem()).unwrap()
    }

    #[test]
    fn a_day_of_pushes_mints_tokens_20_to_60_minutes_apart() {
        let token = token();
        let start = 1_700_000_000;
        let mut editions: Vec<(u64, u64)> = Vec::new();
        for now in (start..start + 86_400).step_by(10) {
            let issued_at = token.bearer(now).unwrap().edition;
            assert!(now - issued_at < 3600);
            if editions.last().is_none_or(|(_, last)| *last != issued_at) {
                editions.push((now, issued_at));
            }
        }
        for pair in editions.windows(2) {
            let minted = pair[1].0 - pair[0].0;
            assert!((1200..3600).contains(&minted), "{minted}");
        }
    }

    #[test]
    fn a_restarted_gateway_says_the_same() {
        let (before, after) = (token(), token());
        let now = 1_700_000_000;
        let first = before.bearer(now).unwrap().edition;
        assert_eq!(after.bearer(now + 60).unwrap().edition, first);
    }

    #[test]
    fn an_expired_token_is_replaced_once_in_20_minutes() {
        let token = token();
        let now = 1_700_000_100;
        let first = token.bearer(now).unwrap().edition;
        assert!(token.renew(first, now).unwrap());
        let second = token.bearer(now).unwrap().edition;
        assert_eq!(second, now);
        assert!(token.renew(first, now).unwrap(), "another push has done it");
        assert_eq!(token.bearer(now).unwrap().edition, second);
        assert!(!token.renew(second, now + 60).unwrap());
        assert!(token.renew(second, now + LEAST_INTERVAL).unwrap());
    }

    #[test]
    fn a_clock_that_was_set_back_gets_a_token_of_its_time() {
        let token = token();
        token.bearer(1_700_000_000).unwrap();
        let issued_at = token.bearer(1_600_000_000).unwrap().edition;
        assert!(issued_at <= 1_600_000_000);
    }

    #[test]
    fn only_p256_keys_are_taken_and_none_is_printed() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for pem in ["", "secret", &p384.serialize_pem()] {
            assert_eq!(ProviderToken::new("T", "K", pem).unwrap_err(), BadKey);
        }
        let token = token();
        let bearer = token.bearer(1_700_000_000).unwrap();
        let printed = format!("{token:?} {bearer:?}");
        assert!(
            !printed.contains("PRIVATE") && !printed.contains("eyJ"),
            "{printed}"
        );
    }
}
