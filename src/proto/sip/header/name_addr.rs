//! `name-addr` and `addr-spec` with parameters: From, To, Contact, Route, Record-Route, Path,
//! Refer-To (RFC 3261 §20.10, §25.1).

use memchr::{memchr, memchr2};

use crate::proto::sip::error::ParseError;
use crate::proto::sip::params::Params;
use crate::proto::sip::scan;
use crate::proto::sip::uri::Uri;

/// `"Display" <uri>;params`, or `uri;params` (then the parameters are the header's, RFC 3261 §20).
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'m> {
    /// The whole value.
    pub raw: &'m [u8],
    /// The display name, quoted or not.
    pub display: Option<&'m [u8]>,
    /// The URI, without brackets.
    pub uri: &'m [u8],
    /// The header's parameters.
    pub params: Params<'m>,
}

impl<'m> NameAddr<'m> {
    /// Parses one value. The URI is only cut out; [`Self::parse_uri`] looks at it.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        let value = scan::trim(value);
        let bad = |part: &[u8]| ParseError::value(scan::offset_in(value, part));
        if value.first() == Some(&b'"') {
            let quoted = scan::quoted_len(value).ok_or(ParseError::value(0))?;
            let (display, rest) = scan::split(value, quoted);
            return match scan::trim_start(rest) {
                address @ [b'<', ..] => Self::bracketed(value, Some(display), address),
                other => Err(bad(other)),
            };
        }
        match memchr2(b'<', b'"', value) {
            Some(at) if value.get(at) == Some(&b'<') => {
                let (display, address) = scan::split(value, at);
                let display = Some(scan::trim(display)).filter(|display| !display.is_empty());
                Self::bracketed(value, display, address)
            }
            _ => Self::bare(value),
        }
    }

    /// Returns the `tag` parameter.
    #[must_use]
    pub fn tag(&self) -> Option<&'m [u8]> {
        self.params.value("tag")
    }

    /// Parses the URI.
    pub fn parse_uri(&self) -> Result<Uri<'m>, ParseError> {
        Uri::parse(self.uri)
    }

    /// `address` begins with `<`.
    fn bracketed(
        raw: &'m [u8],
        display: Option<&'m [u8]>,
        address: &'m [u8],
    ) -> Result<Self, ParseError> {
        let bad = |part: &[u8]| ParseError::value(scan::offset_in(raw, part));
        let end = memchr(b'>', address).ok_or_else(|| bad(address))?;
        let uri = scan::trim(scan::cut(address, 1, end));
        let rest = scan::trim_start(address.get(end + 1..).unwrap_or_default());
        if uri.is_empty() || !matches!(rest, [] | [b';', ..]) {
            return Err(bad(rest));
        }
        Ok(Self {
            raw,
            display,
            uri,
            params: Params::new(rest),
        })
    }

    /// RFC 3261 §20.10: without brackets, the URI holds no comma, question mark or semicolon.
    fn bare(raw: &'m [u8]) -> Result<Self, ParseError> {
        let (uri, rest) = match memchr(b';', raw) {
            Some(at) => scan::split(raw, at),
            None => (raw, &[][..]),
        };
        let uri = scan::trim(uri);
        let wrong = |&byte: &u8| matches!(byte, b',' | b'?' | b'"') || scan::is_space(byte);
        if let Some(at) = uri.iter().position(wrong) {
            return Err(ParseError::value(at));
        }
        if memchr(b':', uri).is_none() {
            return Err(ParseError::value(0));
        }
        Ok(Self {
            raw,
            display: None,
            uri,
            params: Params::new(rest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_may_be_quoted_or_tokens_or_touch_the_bracket() {
        let cases: [(&[u8], Option<&[u8]>); 4] = [
            (
                br#""J Rosenberg \\\"" <sip:a@b>;tag=1"#,
                Some(br#""J Rosenberg \\\"""#),
            ),
            (b"caller<sip:a@b>;tag=1", Some(b"caller")),
            (
                b"token1~` token2'+_ <sip:a@b> ;tag=1",
                Some(b"token1~` token2'+_"),
            ),
            (b"< sip:a@b >\r\n ; tag = 1", None),
        ];
        for (value, display) in cases {
            let parsed = NameAddr::parse(value).unwrap();
            assert_eq!(parsed.display, display);
            assert_eq!(parsed.uri, b"sip:a@b");
            assert_eq!(parsed.tag(), Some(&b"1"[..]));
        }
    }

    #[test]
    fn parameters_belong_to_the_uri_only_inside_brackets() {
        let inside = NameAddr::parse(b"<sip:a@b;x=1>;y=2").unwrap();
        assert_eq!(inside.params.get("x"), None);
        assert_eq!(
            inside.parse_uri().unwrap().params.value("x"),
            Some(&b"1"[..])
        );
        let bare = NameAddr::parse(b"sip:a@b;x=1").unwrap();
        assert_eq!(bare.params.value("x"), Some(&b"1"[..]));
        assert_eq!(bare.uri, b"sip:a@b");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            &br#""Mr. J. User <sip:j.user@example.com>"#[..],
            br#""a\"#,
            b"<sip:a@b",
            b"<>",
            b"sip:a@b?Route=x",
            b"<sip:a@b>, <sip:c@d>",
            b"sip:a@b, sip:c@d",
            b"nothing",
            b"",
            br#""a" sip:b@c"#,
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
