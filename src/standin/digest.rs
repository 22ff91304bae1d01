//! Digest authentication, both sides (RFC 2617 §3, RFC 7616 §3, RFC 3261 §22, RFC 8760).
//!
//! MD5 and SHA-256, without `qop` and with `qop=auth`. Not the gateway's code: it passes
//! challenges and credentials through untouched.

use std::fmt::Write as _;

use aws_lc_rs::digest::SHA256;
use md5::{Digest as _, Md5};

/// The hash of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 2617's.
    Md5,
    /// RFC 8760's.
    Sha256,
}

impl Algorithm {
    /// Returns the value of the `algorithm` parameter.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn from_token(token: Option<&str>) -> Option<Self> {
        // RFC 2617 §3.2.1: MD5 is meant when the parameter is absent.
        match token.map(str::to_ascii_uppercase).as_deref() {
            None | Some("MD5") => Some(Self::Md5),
            Some("SHA-256") => Some(Self::Sha256),
            Some(_) => None,
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text.as_bytes())),
            Self::Sha256 => hex(aws_lc_rs::digest::digest(&SHA256, text.as_bytes()).as_ref()),
        }
    }
}

/// What a client counts and adds when the challenge asks for `qop=auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qop {
    /// The client's nonce.
    pub cnonce: String,
    /// How often the nonce was used, as written: eight hexadecimal digits.
    pub nc: String,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The user name.
    pub user: &'r str,
    /// The password.
    pub password: &'r str,
    /// The request's method.
    pub method: &'r str,
    /// The digest URI.
    pub uri: &'r str,
}

/// Returns the `response` value of a credential (RFC 2617 §3.2.2.1).
#[must_use]
pub fn response(
    algorithm: Algorithm,
    request: Request<'_>,
    realm: &str,
    nonce: &str,
    qop: Option<&Qop>,
) -> String {
    let Request {
        user,
        password,
        method,
        uri,
    } = request;
    let ha1 = algorithm.hash(&format!("{user}:{realm}:{password}"));
    let ha2 = algorithm.hash(&format!("{method}:{uri}"));
    match qop {
        None => algorithm.hash(&format!("{ha1}:{nonce}:{ha2}")),
        Some(Qop { cnonce, nc }) => {
            algorithm.hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"))
        }
    }
}

/// A `WWW-Authenticate` or `Proxy-Authenticate` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The realm.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// To be returned as it came.
    pub opaque: Option<String>,
    /// The hash.
    pub algorithm: Algorithm,
    /// Whether `qop` lists `auth`.
    pub qop_auth: bool,
    /// Whether only the nonce was too old.
    pub stale: bool,
}

impl Challenge {
    /// Reads a value; `None` if it is no digest challenge or its algorithm is unknown.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let params = AuthParams::parse(value)?;
        Some(Self {
            realm: params.value("realm")?,
            nonce: params.value("nonce")?,
            opaque: params.value("opaque"),
            algorithm: Algorithm::from_token(params.value("algorithm").as_deref())?,
            qop_auth: params
                .value("qop")
                .is_some_and(|qop| qop.split(',').any(|item| item.trim() == "auth")),
            stale: params
                .value("stale")
                .is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// Writes a value.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = format!(
            "Digest algorithm={}, realm=\"{}\", nonce=\"{}\"",
            self.algorithm.token(),
            self.realm,
            self.nonce
        );
        if let Some(opaque) = &self.opaque {
            text = format!("{text}, opaque=\"{opaque}\"");
        }
        if self.qop_auth {
            text.push_str(", qop=\"auth\"");
        }
        if self.stale {
            text.push_str(", stale=true");
        }
        text
    }

    /// Writes the credentials that answer this challenge; `nc` counts the uses of the nonce.
    #[must_use]
    pub fn answer(&self, request: Request<'_>, cnonce: &str, nc: u32) -> String {
        let qop = self.qop_auth.then(|| Qop {
            cnonce: cnonce.to_owned(),
            nc: format!("{nc:08x}"),
        });
        let digest = response(
            self.algorithm,
            request,
            &self.realm,
            &self.nonce,
            qop.as_ref(),
        );
        let mut text = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{digest}\", \
             algorithm={}",
            request.user,
            self.realm,
            self.nonce,
            request.uri,
            self.algorithm.token()
        );
        if let Some(opaque) = &self.opaque {
            text = format!("{text}, opaque=\"{opaque}\"");
        }
        if let Some(Qop { cnonce, nc }) = qop {
            text = format!("{text}, qop=auth, cnonce=\"{cnonce}\", nc={nc}");
        }
        text
    }
}

/// An `Authorization` or `Proxy-Authorization` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The realm.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// The digest URI.
    pub uri: String,
    /// The digest.
    pub response: String,
    /// The hash.
    pub algorithm: Algorithm,
    /// With `qop=auth`: what goes with it.
    pub qop: Option<Qop>,
}

impl Credentials {
    /// Reads a value; `None` if it is no digest or something that it needs is missing.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let params = AuthParams::parse(value)?;
        let qop = match params.value("qop") {
            None => None,
            Some(_) => Some(Qop {
                cnonce: params.value("cnonce")?,
                nc: params.value("nc")?,
            }),
        };
        Some(Self {
            user: params.value("username")?,
            realm: params.value("realm")?,
            nonce: params.value("nonce")?,
            uri: params.value("uri")?,
            response: params.value("response")?,
            algorithm: Algorithm::from_token(params.value("algorithm").as_deref())?,
            qop,
        })
    }

    /// Returns whether the digest is that of this password and method.
    #[must_use]
    pub fn verify(&self, password: &str, method: &str) -> bool {
        let request = Request {
            user: &self.user,
            password,
            method,
            uri: &self.uri,
        };
        let expected = response(
            self.algorithm,
            request,
            &self.realm,
            &self.nonce,
            self.qop.as_ref(),
        );
        expected.eq_ignore_ascii_case(&self.response)
    }
}

struct AuthParams(Vec<(String, String)>);

impl AuthParams {
    fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let (scheme, rest) = value.split_once(|c: char| c.is_ascii_whitespace())?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut params = Vec::new();
        for item in split_unquoted(rest) {
            let (name, value) = item.split_once('=')?;
            params.push((name.trim().to_ascii_lowercase(), unquoted(value.trim())));
        }
        Some(Self(params))
    }

    fn value(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }
}

fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return true,
            _ => {}
        }
        false
    })
    .filter(|item| !item.trim().is_empty())
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            text.push(c);
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // dropped: writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUFASA: Request<'_> = Request {
        user: "Mufasa",
        password: "Circle Of Life",
        method: "GET",
        uri: "/dir/index.html",
    };

    #[test]
    fn the_example_of_rfc_2617_section_3_5_comes_out() {
        let challenge = Challenge::parse(
            "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        )
        .unwrap();
        assert!(challenge.qop_auth);
        let value = challenge.answer(MUFASA, "0a4f113b", 1);
        assert!(
            value.contains("response=\"6629fae49393a05397450978507c4ef1\""),
            "{value}"
        );
        assert!(value.contains("nc=00000001"), "{value}");
        let credentials = Credentials::parse(&value).unwrap();
        assert!(credentials.verify("Circle Of Life", "GET"));
        assert!(!credentials.verify("Circle of Life", "GET"));
        assert!(!credentials.verify("Circle Of Life", "PUT"));
    }

    #[test]
    fn the_sha_256_example_of_rfc_7616_section_3_9_1_comes_out() {
        let challenge = Challenge::parse(
            "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
        )
        .unwrap();
        let request = Request {
            password: "Circle of Life",
            ..MUFASA
        };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let value = challenge.answer(request, cnonce, 1);
        let expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(value.contains(expected), "{value}");
        let md5 = Challenge {
            algorithm: Algorithm::Md5,
            ..challenge
        };
        let value = md5.answer(request, cnonce, 1);
        assert!(
            value.contains("8ca523f5e9506fed4657c9700eebdbec"),
            "{value}"
        );
    }

    #[test]
    fn a_challenge_without_qop_is_answered_without_cnonce() {
        let written = Challenge {
            realm: "asterisk".to_owned(),
            nonce: "1a2b3c".to_owned(),
            opaque: None,
            algorithm: Algorithm::Md5,
            qop_auth: false,
            stale: true,
        };
        let read = Challenge::parse(&written.write()).unwrap();
        assert_eq!(read, written);
        let value = read.answer(
            Request {
                user: "1001",
                password: "secret",
                method: "REGISTER",
                uri: "sip:pbx.example.com",
            },
            "unused",
            1,
        );
        assert!(!value.contains("cnonce"), "{value}");
        let credentials = Credentials::parse(&value).unwrap();
        assert_eq!(credentials.qop, None);
        assert!(credentials.verify("secret", "REGISTER"));
    }

    #[test]
    fn a_comma_inside_quotes_does_not_end_a_parameter() {
        let challenge = Challenge::parse("Digest realm=\"a, \\\"b\\\"\", nonce=\"n\"").unwrap();
        assert_eq!(challenge.realm, "a, \"b\"");
        assert_eq!(Challenge::parse("Basic realm=\"x\""), None);
        assert_eq!(
            Challenge::parse("Digest realm=\"x\", nonce=\"n\", algorithm=AKAv1-MD5"),
            None
        );
    }
}
