//! Digest authentication as a client does it (RFC 7616 §3, RFC 2617 §3, RFC 8760): the gateway
//! answers a registrar's challenge with what an agent's password makes, never with the password.
//!
//! Invariant: nothing here prints a hash of a password.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ahash::RandomState;
use aws_lc_rs::digest::{SHA256, SHA512_256};
use md5::{Digest as _, Md5};
use smallvec::SmallVec;

use crate::proto::sip::unquote;

/// A hash, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// What RFC 2617 knows.
    Md5,
    /// RFC 7616's first choice.
    Sha256,
    /// Its second.
    Sha512Slash256,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512Slash256];

    /// Its name in headers.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512Slash256 => "SHA-512-256",
        }
    }

    fn of(token: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|algorithm| algorithm.token().eq_ignore_ascii_case(token))
    }

    /// How many hexadecimal digits its result has.
    const fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 | Self::Sha512Slash256 => 64,
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text.as_bytes())),
            Self::Sha256 => hex(aws_lc_rs::digest::digest(&SHA256, text.as_bytes()).as_ref()),
            Self::Sha512Slash256 => {
                hex(aws_lc_rs::digest::digest(&SHA512_256, text.as_bytes()).as_ref())
            }
        }
    }
}

/// What stands for one agent's password in one realm.
#[derive(Clone, PartialEq, Eq)]
struct Ha1 {
    realm: Arc<str>,
    algorithm: Algorithm,
    /// Hash of `user:realm:password`, in hexadecimal.
    hash: Box<str>,
}

/// The agents' passwords, hashed. Its `Debug` says only of how many agents.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    by_user: HashMap<Box<str>, SmallVec<[Ha1; 1]>, RandomState>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} agents, redacted)", self.by_user.len())
    }
}

impl Secrets {
    /// Reads lines of `user:realm:HA1` or `user:realm:ALGORITHM:HA1`; empty ones and those that
    /// begin with `#` say nothing.
    ///
    /// # Errors
    /// The number of the first line that is none of these.
    pub fn read(text: &str) -> Result<Self, usize> {
        let mut secrets = Self::default();
        let mut realms: HashMap<Box<str>, Arc<str>, RandomState> = HashMap::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, realm, algorithm, hash) = entry(line).ok_or(at + 1)?;
            let realm = realms.entry(realm.into()).or_insert_with(|| realm.into());
            let known = secrets.by_user.entry(user.into()).or_default();
            known.retain(|old| old.realm != *realm || old.algorithm != algorithm);
            known.push(Ha1 {
                realm: Arc::clone(realm),
                algorithm,
                hash: hash.to_ascii_lowercase().into(),
            });
        }
        Ok(secrets)
    }

    /// How many agents have some.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Whether nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// Whether an agent has any.
    #[must_use]
    pub fn has(&self, user: &str) -> bool {
        self.by_user.contains_key(user)
    }

    fn of(&self, user: &str, realm: &str, algorithm: Algorithm) -> Option<&str> {
        let mut known = self.by_user.get(user)?.iter();
        let fits = |ha1: &&Ha1| *ha1.realm == *realm && ha1.algorithm == algorithm;
        known.find(fits).map(|ha1| &*ha1.hash)
    }
}

/// One line of a file; a realm may have colons in it.
fn entry(line: &str) -> Option<(&str, &str, Algorithm, &str)> {
    let (user, rest) = line.split_once(':')?;
    let (realm, hash) = rest.rsplit_once(':')?;
    let named = realm
        .rsplit_once(':')
        .and_then(|(realm, token)| Some((realm, Algorithm::of(token)?)));
    let (realm, algorithm) = match named {
        Some(named) => named,
        None if hash.len() == Algorithm::Md5.digits() => (realm, Algorithm::Md5),
        None => (realm, Algorithm::Sha256),
    };
    let is_hash =
        hash.len() == algorithm.digits() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hash && !user.is_empty()).then_some((user, realm, algorithm, hash))
}

/// What a registrar asks (`WWW-Authenticate`, `Proxy-Authenticate`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    has_qop: bool,
    /// Whether the credentials were right and only their nonce was too old.
    pub is_stale: bool,
}

/// The request that is to be let through.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its Request-URI.
    pub uri: &'a str,
    /// Who asks.
    pub user: &'a str,
    /// A number that nobody can guess.
    pub cnonce: &'a str,
}

impl Challenge {
    /// Reads a challenge; `None` if it is none that can be answered: another scheme, another hash,
    /// `auth-int` alone, or a byte that no header may have.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let params = params(value)?;
        let find = |wanted: &str| {
            let mut all = params.iter();
            let found = all.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        let algorithm = match find("algorithm") {
            Some(token) => Algorithm::of(&token)?,
            None => Algorithm::Md5,
        };
        let qop = find("qop");
        let has_auth = |qop: &String| {
            qop.split(',')
                .any(|one| one.trim().eq_ignore_ascii_case("auth"))
        };
        if qop.as_ref().is_some_and(|qop| !has_auth(qop)) {
            return None;
        }
        Some(Self {
            realm: find("realm")?,
            nonce: find("nonce")?,
            opaque: find("opaque"),
            algorithm,
            has_qop: qop.is_some(),
            is_stale: find("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// Of several challenges the strongest that an agent's secrets can answer (RFC 8760 §2.4).
    #[must_use]
    pub fn strongest(all: Vec<Self>, secrets: &Secrets, user: &str) -> Option<Self> {
        let can = |one: &Self| secrets.of(user, &one.realm, one.algorithm).is_some();
        let all = all.into_iter().filter(can);
        all.max_by_key(|one| one.algorithm)
    }

    /// The credentials that answer it, for the nonce's first use.
    #[must_use]
    pub fn answer(&self, secrets: &Secrets, asking: Asking<'_>) -> Option<String> {
        const NC: &str = "00000001";
        let Asking {
            method,
            uri,
            user,
            cnonce,
        } = asking;
        let hash = |text: &str| self.algorithm.hash(text);
        let ha1 = secrets.of(user, &self.realm, self.algorithm)?;
        let ha2 = hash(&format!("{method}:{uri}"));
        let nonce = &self.nonce;
        let response = if self.has_qop {
            hash(&format!("{ha1}:{nonce}:{NC}:{cnonce}:auth:{ha2}"))
        } else {
            hash(&format!("{ha1}:{nonce}:{ha2}"))
        };
        let mut text = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\", algorithm={}",
            quoted(user),
            quoted(&self.realm),
            quoted(nonce),
            quoted(uri),
            self.algorithm.token()
        );
        if let Some(opaque) = &self.opaque {
            text.push_str(", opaque=");
            text.push_str(&quoted(opaque));
        }
        if self.has_qop {
            text.push_str(", qop=auth, nc=");
            text.push_str(NC);
            text.push_str(", cnonce=");
            text.push_str(&quoted(cnonce));
        }
        Some(text)
    }
}

/// The parameters of a `Digest` value, unquoted.
fn params(value: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if text.bytes().any(|byte| byte < b' ') {
        return None;
    }
    let (scheme, mut rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let mut all = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let end = end_of_value(after);
        let (value, more) = after.split_at_checked(end)?;
        let value = unquote(value.trim().as_bytes()).into_owned();
        all.push((name.trim().to_owned(), String::from_utf8(value).ok()?));
        rest = more.trim_start_matches([',', ' ']);
    }
    Some(all)
}

/// Where a value ends: at the first comma outside of quotes.
fn end_of_value(text: &str) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return at,
            _ => {}
        }
    }
    text.len()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let pairs = bytes.iter();
    pairs
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> Secrets {
        let hash = algorithm.hash(&format!("{user}:{realm}:{password}"));
        Secrets::read(&format!("{user}:{realm}:{}:{hash}", algorithm.token())).unwrap()
    }

    fn response(challenge: &str, secrets: &Secrets, asking: Asking<'_>) -> String {
        let challenge = Challenge::parse(challenge.as_bytes()).unwrap();
        let answer = challenge.answer(secrets, asking).unwrap();
        let (_, rest) = answer.split_once("response=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// RFC 2617 §3.5.
    #[test]
    fn the_example_of_rfc_2617_is_answered_as_there() {
        let realm = "testrealm@host.com";
        let secrets = secrets(Algorithm::Md5, "Mufasa", realm, "Circle Of Life");
        let challenge = "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let asking = Asking {
            method: "GET",
            uri: "/dir/index.html",
            user: "Mufasa",
            cnonce: "0a4f113b",
        };
        let expected = "6629fae49393a05397450978507c4ef1";
        assert_eq!(response(challenge, &secrets, asking), expected);
    }

    /// RFC 7616 §3.9.1.
    #[test]
    fn the_examples_of_rfc_7616_are_answered_as_there() {
        let realm = "http-auth@example.org";
        let asking = Asking {
            method: "GET",
            uri: "/dir/index.html",
            user: "Mufasa",
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        };
        for (algorithm, expected) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (
                Algorithm::Sha256,
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let challenge = format!(
                "Digest realm=\"{realm}\", qop=\"auth, auth-int\", algorithm={}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
                algorithm.token()
            );
            let secrets = secrets(algorithm, "Mufasa", realm, "Circle of Life");
            assert_eq!(response(&challenge, &secrets, asking), expected);
        }
    }

    #[test]
    fn without_qop_it_is_answered_as_rfc_2069_had_it() {
        let secrets = secrets(Algorithm::Md5, "1001", "asterisk", "secret");
        let asking = Asking {
            method: "REGISTER",
            uri: "sip:pbx",
            user: "1001",
            cnonce: "x",
        };
        let ha1 = Algorithm::Md5.hash("1001:asterisk:secret");
        let ha2 = Algorithm::Md5.hash("REGISTER:sip:pbx");
        let expected = Algorithm::Md5.hash(&format!("{ha1}:abc:{ha2}"));
        let challenge = "Digest algorithm=MD5, realm=\"asterisk\", nonce=\"abc\"";
        assert_eq!(response(challenge, &secrets, asking), expected);
        let parsed = Challenge::parse(challenge.as_bytes()).unwrap();
        let text = parsed.answer(&secrets, asking).unwrap();
        assert!(!text.contains("qop") && !text.contains("cnonce"), "{text}");
    }

    /// RFC 8760 §2.4.
    #[test]
    fn the_strongest_challenge_that_the_secrets_can_answer_is_taken() {
        let of = |token: &str| {
            let value = format!("Digest realm=\"r\", nonce=\"n\", algorithm={token}");
            Challenge::parse(value.as_bytes())
        };
        let all = || ["MD5", "SHA-256", "SHA-512-256"].into_iter().filter_map(of);
        let both = format!("u:r:{}\nu:r:SHA-256:{}", "a".repeat(32), "b".repeat(64));
        let both = Secrets::read(&both).unwrap();
        let chosen = Challenge::strongest(all().collect(), &both, "u").unwrap();
        assert_eq!(chosen.algorithm, Algorithm::Sha256);
        let weak = Secrets::read(&format!("u:r:{}", "a".repeat(32))).unwrap();
        let chosen = Challenge::strongest(all().collect(), &weak, "u").unwrap();
        assert_eq!(chosen.algorithm, Algorithm::Md5);
        assert_eq!(Challenge::strongest(all().collect(), &weak, "v"), None);
        assert_eq!(of("SHA-256-sess"), None);
        assert_eq!(
            Challenge::parse(b"Digest realm=\"r\",nonce=\"n\",qop=\"auth-int\""),
            None
        );
        assert_eq!(Challenge::parse(b"Basic realm=\"r\""), None);
    }

    #[test]
    fn what_a_registrar_writes_makes_no_header_of_its_own() {
        let value = b"Digest realm=\"r\r\nVia: x\", nonce=\"n\"";
        assert_eq!(Challenge::parse(value), None);
        let value = br#"Digest realm="a \"b\", c", nonce="n,=", stale=TRUE"#;
        let challenge = Challenge::parse(value).unwrap();
        assert_eq!(
            (&*challenge.realm, &*challenge.nonce),
            ("a \"b\", c", "n,=")
        );
        assert!(challenge.is_stale);
    }

    #[test]
    fn a_file_is_read_by_lines_and_a_wrong_one_is_named() {
        let hash = "0123456789abcdef0123456789ABCDEF";
        let text = format!("# agents\n\n1001:a:b:{hash}\n1001:a:b:MD5:{hash}\r\n1002:x:{hash}\n");
        let secrets = Secrets::read(&text).unwrap();
        assert_eq!(secrets.len(), 2);
        assert_eq!(
            secrets.of("1001", "a:b", Algorithm::Md5),
            Some(&*hash.to_ascii_lowercase())
        );
        assert!(secrets.has("1002") && !secrets.has("1003"));
        assert!(!format!("{secrets:?}").contains("0123"));
        for wrong in ["1001:secret", "1001:r:0123", ":r:", "1001"] {
            assert_eq!(Secrets::read(&format!("# one\n{wrong}")), Err(2), "{wrong}");
        }
        let short = format!("u:r:SHA-256:{hash}");
        assert_eq!(Secrets::read(&short), Err(1));
    }
}
