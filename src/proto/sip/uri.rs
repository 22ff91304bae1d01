//! URIs (RFC 3261 §19.1, RFC 3966) and hosts.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memrchr};

use super::error::ParseError;
use super::params::{Params, split_param, unescape};
use super::parse::Span;
use super::scan;

/// A SIP, SIPS, tel or other URI.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'m> {
    /// The whole URI.
    pub raw: &'m [u8],
    /// Its scheme.
    pub scheme: Scheme<'m>,
    /// The user part with its password, as written; a tel URI's number.
    pub user: Option<&'m [u8]>,
    /// The host; only SIP and SIPS URIs have one here.
    pub host: Option<Host<'m>>,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'m>,
    /// What follows the `?`.
    pub headers: Option<&'m [u8]>,
}

/// A URI's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'m> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966).
    Tel,
    /// Any other, as written.
    Other(&'m [u8]),
}

/// A host: an address or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'m> {
    /// An IPv4 address, or an IPv6 address (written in brackets).
    Address(IpAddr),
    /// A name, as written.
    Name(&'m [u8]),
}

/// Where the parts of a URI are in its message.
#[derive(Clone, Copy, Debug)]
pub(super) struct UriSpots {
    whole: Span,
    /// `None`: any other than these; it has no other parts.
    scheme: Option<Known>,
    user: Option<Span>,
    host: Option<HostSpot>,
    port: Option<u16>,
    params: Span,
    headers: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    Sip,
    Sips,
    Tel,
}

/// A host, or where its name is in its message.
#[derive(Clone, Copy, Debug)]
pub(super) enum HostSpot {
    Address(IpAddr),
    Name(Span),
}

impl UriSpots {
    pub(super) fn of(message: &[u8], uri: &Uri<'_>) -> Self {
        let spot = |part| Span::within(message, part);
        Self {
            whole: spot(uri.raw),
            scheme: match uri.scheme {
                Scheme::Sip => Some(Known::Sip),
                Scheme::Sips => Some(Known::Sips),
                Scheme::Tel => Some(Known::Tel),
                Scheme::Other(_) => None,
            },
            user: uri.user.map(spot),
            host: uri.host.map(|host| HostSpot::of(message, host)),
            port: uri.port,
            params: spot(uri.params.raw()),
            headers: uri.headers.map(spot),
        }
    }

    pub(super) fn read(self, message: &[u8]) -> Uri<'_> {
        let raw = self.whole.of(message);
        Uri {
            raw,
            scheme: match self.scheme {
                Some(Known::Sip) => Scheme::Sip,
                Some(Known::Sips) => Scheme::Sips,
                Some(Known::Tel) => Scheme::Tel,
                None => Scheme::Other(scan::cut(raw, 0, memchr(b':', raw).unwrap_or(0))),
            },
            user: self.user.map(|user| user.of(message)),
            host: self.host.map(|host| host.read(message)),
            port: self.port,
            params: Params::of_raw(self.params.of(message)),
            headers: self.headers.map(|headers| headers.of(message)),
        }
    }
}

impl HostSpot {
    pub(super) fn of(message: &[u8], host: Host<'_>) -> Self {
        match host {
            Host::Address(address) => Self::Address(address),
            Host::Name(name) => Self::Name(Span::within(message, name)),
        }
    }

    pub(super) fn read(self, message: &[u8]) -> Host<'_> {
        match self {
            Self::Address(address) => Host::Address(address),
            Self::Name(name) => Host::Name(name.of(message)),
        }
    }
}

impl<'m> Uri<'m> {
    /// Parses a URI. One whose scheme we do not know has only that scheme and its bytes.
    pub fn parse(raw: &'m [u8]) -> Result<Self, ParseError> {
        let raw = scan::trim(raw);
        if scan::has(raw, is_excluded) {
            let bad = raw.iter().position(|&byte| is_excluded(byte));
            return Err(ParseError::value(bad.unwrap_or_default()));
        }
        let colon = memchr(b':', raw).ok_or(ParseError::value(0))?;
        let (scheme, rest) = scan::split(raw, colon);
        let rest = rest.strip_prefix(b":").unwrap_or(rest);
        let uri = Self {
            raw,
            scheme: Scheme::parse(scheme)?,
            user: None,
            host: None,
            port: None,
            params: Params::default(),
            headers: None,
        };
        match uri.scheme {
            Scheme::Sip | Scheme::Sips => uri.with_sip_parts(rest),
            Scheme::Tel => uri.with_number(rest),
            Scheme::Other(_) if rest.is_empty() => Err(ParseError::value(raw.len())),
            Scheme::Other(_) => Ok(uri),
        }
    }

    /// User part with %-escapes resolved, without password.
    #[must_use]
    pub fn user_unescaped(&self) -> Option<Cow<'m, [u8]>> {
        let user = self.user?;
        let user = match memchr(b':', user) {
            Some(at) => scan::cut(user, 0, at),
            None => user,
        };
        Some(unescape(user))
    }

    /// The URI without the parameters for which `strip` is true, else byte for byte.
    #[must_use]
    pub fn without_params(&self, strip: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let tail = self.headers.map_or(0, |headers| headers.len() + 1);
        let (uri, headers) = scan::split(self.raw, self.raw.len().saturating_sub(tail));
        if self.params.is_empty() {
            return self.raw.to_vec();
        }
        let (before, _) = scan::split(uri, uri.len().saturating_sub(self.params.raw().len()));
        let mut out = Vec::with_capacity(self.raw.len());
        out.extend_from_slice(before.strip_suffix(b";").unwrap_or(before));
        for segment in self.params.segments() {
            if !strip(split_param(segment).0) {
                out.push(b';');
                out.extend_from_slice(segment);
            }
        }
        out.extend_from_slice(headers);
        out
    }

    /// RFC 3261 §25.1: `[ userinfo ] hostport uri-parameters [ headers ]`.
    fn with_sip_parts(mut self, rest: &'m [u8]) -> Result<Self, ParseError> {
        let bad = |part: &[u8]| ParseError::value(scan::offset_in(self.raw, part));
        // The user part may hold `;`, `?` and `/`, but an `@` only as %40; so may all the rest.
        let rest = match memchr(b'@', rest) {
            Some(0) => return Err(bad(rest)),
            Some(at) => {
                self.user = rest.get(..at);
                rest.get(at + 1..).unwrap_or_default()
            }
            None => rest,
        };
        if let Some(at) = memchr(b'@', rest) {
            return Err(bad(rest.get(at..).unwrap_or_default()));
        }
        let (rest, headers) = match memchr(b'?', rest) {
            Some(at) => (scan::cut(rest, 0, at), rest.get(at + 1..)),
            None => (rest, None),
        };
        self.headers = headers;
        let (hostport, params) = match memchr(b';', rest) {
            Some(at) => (
                scan::cut(rest, 0, at),
                rest.get(at + 1..).unwrap_or_default(),
            ),
            None => (rest, &[][..]),
        };
        self.params = Params::new(params);
        let (host, port) = host_port(hostport).ok_or_else(|| bad(hostport))?;
        self.host = Some(host);
        self.port = port;
        Ok(self)
    }

    /// RFC 3966 §3: a number, then parameters.
    fn with_number(mut self, rest: &'m [u8]) -> Result<Self, ParseError> {
        let (number, params) = match memchr(b';', rest) {
            Some(at) => (
                scan::cut(rest, 0, at),
                rest.get(at + 1..).unwrap_or_default(),
            ),
            None => (rest, &[][..]),
        };
        if number.is_empty() {
            return Err(ParseError::value(scan::offset_in(self.raw, rest)));
        }
        self.user = Some(number);
        self.params = Params::new(params);
        Ok(self)
    }
}

impl<'m> Scheme<'m> {
    /// Parses a scheme, without its colon.
    fn parse(scheme: &'m [u8]) -> Result<Self, ParseError> {
        let known = [
            (&b"sip"[..], Self::Sip),
            (b"sips", Self::Sips),
            (b"tel", Self::Tel),
        ];
        if let Some((_, known)) = known
            .into_iter()
            .find(|(name, _)| scheme.eq_ignore_ascii_case(name))
        {
            return Ok(known);
        }
        let starts = scheme.first().is_some_and(u8::is_ascii_alphabetic);
        let bad = scheme
            .iter()
            .position(|byte| !matches!(byte, b'+' | b'-' | b'.') && !byte.is_ascii_alphanumeric());
        match bad {
            None if starts => Ok(Self::Other(scheme)),
            at => Err(ParseError::value(at.unwrap_or_default())),
        }
    }
}

impl<'m> Host<'m> {
    /// Parses a host: an IPv4 address, an IPv6 reference in brackets, or a name.
    #[must_use]
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        match value {
            [b'[', inner @ .., b']'] => ipv6(inner).map(|address| Self::Address(address.into())),
            [.., b'0'..=b'9'] => ipv4(value).map_or_else(
                || Self::name(value),
                |address| Some(Self::Address(address.into())),
            ),
            _ => Self::name(value),
        }
    }

    fn name(value: &'m [u8]) -> Option<Self> {
        // Underscores are outside the grammar, but names in the field have them.
        let is_other = |byte: u8| !is_name_byte(byte);
        let is_name = !value.is_empty() && !scan::has(value, is_other);
        is_name.then_some(Self::Name(value))
    }
}

/// Without branches, for [`scan::has`].
#[inline]
const fn is_name_byte(byte: u8) -> bool {
    let letter = byte | 0x20;
    ((letter >= b'a') & (letter <= b'z'))
        | ((byte >= b'0') & (byte <= b'9'))
        | (byte == b'-')
        | (byte == b'.')
        | (byte == b'_')
}

/// Four numbers with dots between them, without leading zeros.
#[inline]
fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut rest = value;
    for (at, octet) in octets.iter_mut().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let is_zero = rest.first() == Some(&b'0');
        let mut digits = 0;
        while let [digit @ b'0'..=b'9', more @ ..] = rest {
            *octet = octet.checked_mul(10)?.checked_add(digit - b'0')?;
            digits += 1;
            rest = more;
        }
        if digits == 0 || (is_zero && digits > 1) {
            return None;
        }
    }
    rest.is_empty().then(|| octets.into())
}

/// An IPv6 address as text, without brackets. RFC 5118 §4.10: what the grammar of RFC 3261 yields
/// for addresses that end in IPv4 may have one colon too many.
pub(super) fn ipv6(value: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse()
        .ok()
        .or_else(|| text.replacen(":::", "::", 1).parse().ok())
}

/// `host [ ":" port ]`, white space around the colon allowed (as Via's sent-by has it).
#[inline]
pub(super) fn host_port(value: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    let after_address = memrchr(b']', value).map_or(0, |at| at + 1);
    let (host, rest) = match memchr(b':', value.get(after_address..)?) {
        Some(at) => scan::split(value, after_address + at),
        None => (value, &[][..]),
    };
    let host = Host::parse(scan::trim(host))?;
    match rest {
        [b':', digits @ ..] => Some((host, Some(scan::port(scan::trim(digits))?))),
        _ => Some((host, None)),
    }
}

/// What no URI may hold, escaped only: controls, space, quotes and angle brackets. Bytes above
/// ASCII are not allowed either, but are kept: the proxy passes on what it need not understand.
///
/// Without branches, for [`scan::has`].
#[inline]
const fn is_excluded(byte: u8) -> bool {
    (byte <= b' ') | (byte == b'<') | (byte == b'>') | (byte == b'"') | (byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Uri<'_> {
        Uri::parse(raw.as_bytes()).unwrap()
    }

    #[test]
    fn a_sip_uri_has_all_its_parts() {
        let uri = parse("sips:al%69ce:pw@atlanta.com:5061;transport=tls;lr?subject=x&a=b");
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!(uri.user, Some(&b"al%69ce:pw"[..]));
        assert_eq!(uri.user_unescaped().unwrap(), &b"alice"[..]);
        assert_eq!(uri.host, Some(Host::Name(b"atlanta.com")));
        assert_eq!(uri.port, Some(5061));
        assert_eq!(uri.params.value("transport"), Some(&b"tls"[..]));
        assert_eq!(uri.headers, Some(&b"subject=x&a=b"[..]));
    }

    #[test]
    fn a_user_part_may_hold_semicolons_and_question_marks() {
        let uri = parse("sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com");
        assert_eq!(uri.host, Some(Host::Name(b"example.com")));
        assert!(uri.params.is_empty());
        let uri = parse("sip:user;par=u%40example.net@example.com");
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
    }

    #[test]
    fn ipv6_references_keep_colons_and_ports_apart() {
        let uri = parse("sip:[2001:db8::10:5070]");
        assert_eq!(
            uri.host,
            Some(Host::Address("2001:db8::10:5070".parse().unwrap()))
        );
        assert_eq!(uri.port, None);
        assert_eq!(parse("sip:u@[2001:db8::10]:5070").port, Some(5070));
        assert!(Uri::parse(b"sip:2001:db8::10").is_err());
    }

    #[test]
    fn ipv4_addresses_are_those_of_the_standard_library() {
        for text in [
            "1.2.3.4",
            "0.0.0.0",
            "255.255.255.255",
            "256.1.1.1",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.",
            ".1.2.3",
            "1..2.3",
            "1.2.3.04",
            "1.2.3.1000",
            "1.2.3.4 ",
            "",
        ] {
            assert_eq!(ipv4(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn other_schemes_are_known_by_name_only() {
        let uri = parse("tel:+358-555-1234567;postd=pp22");
        assert_eq!(uri.scheme, Scheme::Tel);
        assert_eq!(uri.user, Some(&b"+358-555-1234567"[..]));
        assert_eq!(uri.params.value("postd"), Some(&b"pp22"[..]));
        assert_eq!(
            parse("soap.beep://192.0.2.103:3002").scheme,
            Scheme::Other(b"soap.beep")
        );
        assert_eq!(parse("SIP:a").scheme, Scheme::Sip);
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for bad in [
            "",
            "sip",
            "sip:",
            "sip:@h",
            "sip:a@b@c",
            "sip:h:65536",
            "sip:h:",
            "sip:h:-1",
            "<sip:a>",
            "sip:a b",
            "1x:y",
            "tel:",
            "urn:",
            "sip:[::1",
            "sip:[x]",
            "sip:a\0b",
            "sip:h:5060x",
        ] {
            assert!(Uri::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_go_and_all_else_stays() {
        let strip = |name: &[u8]| name.to_ascii_lowercase().starts_with(b"pn-");
        let uri = parse("sip:a@h:5;a=%41;PN-prid=x:y;b;pn-param=z?h=i");
        assert_eq!(uri.without_params(strip), b"sip:a@h:5;a=%41;b?h=i");
        let uri = parse("sip:a@h;pn-prid=x");
        assert_eq!(uri.without_params(strip), b"sip:a@h");
        let uri = parse("sip:a@h?x=y");
        assert_eq!(uri.without_params(strip), b"sip:a@h?x=y");
    }
}
