//! Via (RFC 3261 §20.42, §18.2.1; RFC 3581).

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::proto::sip::error::ParseError;
use crate::proto::sip::params::{Params, split_param};
use crate::proto::sip::scan;
use crate::proto::sip::uri::{Host, host_port, ipv6};

/// One Via value (RFC 3261 §20.42, RFC 3581).
#[derive(Clone, Copy, Debug)]
pub struct Via<'m> {
    /// The transport, as written.
    pub transport: &'m [u8],
    /// The host that it was sent by.
    pub host: Host<'m>,
    /// The port that it was sent by, if one is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'m>,
    /// The whole value.
    pub raw: &'m [u8],
}

impl<'m> Via<'m> {
    /// Parses one value (no list).
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        let value = scan::trim(value);
        let bad = |part: &[u8]| ParseError::value(scan::offset_in(value, part));
        let (transport, sent_by) = match strip_protocol(value) {
            Some(rest) => split_word(rest),
            None => Self::loose_protocol(value)?,
        };
        let (sent_by, params) = match memchr::memchr(b';', sent_by) {
            Some(at) => scan::split(sent_by, at),
            None => (sent_by, &[][..]),
        };
        if !scan::is_token(transport) {
            return Err(bad(transport));
        }
        let (host, port) = host_port(scan::trim(sent_by)).ok_or_else(|| bad(sent_by))?;
        let params = Params::new(params);
        if !params.are_well_formed() || value.ends_with(b";") {
            return Err(bad(params.raw()));
        }
        Ok(Self {
            transport,
            host,
            port,
            params,
            raw: value,
        })
    }

    /// Returns the `branch` parameter.
    #[must_use]
    pub fn branch(&self) -> Option<&'m [u8]> {
        self.params.value("branch")
    }

    /// Returns the `received` parameter; RFC 5118 §4.5: IPv6 with or without brackets.
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        let value = self.params.value("received")?;
        match Host::parse(value) {
            Some(Host::Address(address)) => Some(address),
            Some(Host::Name(_)) | None => ipv6(value).map(IpAddr::V6),
        }
    }

    /// `None`: no parameter; `Some(None)`: asked for; `Some(Some(port))`: filled in.
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params
            .get("rport")
            .map(|value| value.and_then(scan::port))
    }

    /// The value with `received` and `rport` filled in for this source (RFC 3581 §4); `None` if it
    /// may stay as it is. What the sender claimed in `received` does not stay.
    #[must_use]
    pub fn stamped(&self, source: SocketAddr) -> Option<Vec<u8>> {
        let address = source.ip().to_canonical();
        let rport = self.rport();
        let same_host = self.host == Host::Address(address);
        // RFC 3261 §18.2.1, RFC 3581 §4: with rport, received is added even if it says the same.
        let wants_received = !same_host || rport.is_some();
        let claimed = self.params.get("received");
        if rport.is_none() && !wants_received && claimed.is_none() {
            return None;
        }
        if rport.is_none_or(|port| port == Some(source.port()))
            && claimed.is_some()
            && self.received() == Some(address)
        {
            return None;
        }
        let before = if self.params.is_empty() {
            self.raw
        } else {
            let params = scan::offset_in(self.raw, self.params.raw());
            let before = scan::trim(scan::cut(self.raw, 0, params));
            before.strip_suffix(b";").unwrap_or(before)
        };
        let mut out = Vec::with_capacity(self.raw.len() + 64);
        out.extend_from_slice(before);
        for segment in self.params.segments() {
            let (name, _) = split_param(segment);
            if name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            out.push(b';');
            if name.eq_ignore_ascii_case(b"rport") {
                out.extend_from_slice(b"rport=");
                push(&mut out, source.port());
            } else {
                out.extend_from_slice(segment);
            }
        }
        if wants_received {
            out.extend_from_slice(b";received=");
            push(&mut out, address);
        }
        Some(out)
    }

    /// `sent-protocol` with white space or another version, and the rest.
    fn loose_protocol(value: &'m [u8]) -> Result<(&'m [u8], &'m [u8]), ParseError> {
        let (name, rest) = token(value);
        let rest = scan::expect(rest, b'/', value)?;
        let (version, rest) = token(rest);
        let rest = scan::expect(rest, b'/', value)?;
        if !name.eq_ignore_ascii_case(b"SIP") || version != b"2.0" {
            return Err(ParseError::value(0));
        }
        Ok(split_word(rest))
    }
}

/// What follows `SIP/2.0/`.
fn strip_protocol(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"SIP/2.0/")
}

/// The bytes up to white space, and those after it.
fn split_word(value: &[u8]) -> (&[u8], &[u8]) {
    let end = value
        .iter()
        .position(|&byte| scan::is_space(byte))
        .unwrap_or(value.len());
    let (word, rest) = scan::split(value, end);
    (word, scan::trim_start(rest))
}

/// The token at the start, and what follows.
fn token(value: &[u8]) -> (&[u8], &[u8]) {
    let end = value
        .iter()
        .position(|&byte| !scan::is_token_byte(byte))
        .unwrap_or(value.len());
    scan::split(value, end)
}

/// Writes something short as text.
fn push(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // dropped: writing to a vector does not fail.
    write!(out, "{value}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(value: &str, source: &str) -> Option<String> {
        Via::parse(value.as_bytes())
            .unwrap()
            .stamped(source.parse().unwrap())
            .map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn white_space_and_folds_stand_anywhere_between_tokens() {
        let via = Via::parse(b"SIP  / 2.0\r\n /UDP\r\n    192.0.2.2 : 5070;branch =\r\n 390skdjuw")
            .unwrap();
        assert_eq!(via.transport, b"UDP");
        assert_eq!(via.host, Host::Address("192.0.2.2".parse().unwrap()));
        assert_eq!(via.port, Some(5070));
        assert_eq!(via.branch(), Some(&b"390skdjuw"[..]));
    }

    #[test]
    fn ipv6_is_read_with_and_without_brackets() {
        let via =
            Via::parse(b"SIP/2.0/TCP [2001:db8::9:1]:5060;received=[2001:db8::9:255];rport=7")
                .unwrap();
        assert_eq!(via.host, Host::Address("2001:db8::9:1".parse().unwrap()));
        assert_eq!(via.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(via.rport(), Some(Some(7)));
        let via = Via::parse(b"SIP/2.0/UDP h;received=2001:db8::9:255;rport").unwrap();
        assert_eq!(via.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(via.rport(), Some(None));
    }

    #[test]
    fn malformed_values_are_refused() {
        for bad in [
            "SIP/2.0/UDP 192.0.2.15;;",
            "SIP/2.0/UDP 192.0.2.15;",
            "SIP/7.0/UDP h",
            "SIP/2.0/UDP",
            "SIP/2.0 h",
            "SIP/2.0/UDP h:65536",
            "SIP/2.0/U@P h",
            "SIP/2.0/UDP a b",
            "",
        ] {
            assert!(Via::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_source_is_stamped_where_the_rfc_wants_it() {
        assert_eq!(
            stamped("SIP/2.0/UDP 192.0.2.1;branch=z", "192.0.2.1:9"),
            None
        );
        assert_eq!(
            stamped("SIP/2.0/UDP 10.0.0.1;branch=z", "192.0.2.1:9").unwrap(),
            "SIP/2.0/UDP 10.0.0.1;branch=z;received=192.0.2.1"
        );
        assert_eq!(
            stamped("SIP/2.0/UDP 192.0.2.1:9;rport;branch=z", "192.0.2.1:9").unwrap(),
            "SIP/2.0/UDP 192.0.2.1:9;rport=9;branch=z;received=192.0.2.1"
        );
        assert_eq!(
            stamped("SIP/2.0/TLS x.invalid", "[::ffff:192.0.2.1]:9").unwrap(),
            "SIP/2.0/TLS x.invalid;received=192.0.2.1"
        );
        assert_eq!(
            stamped("SIP/2.0/TCP h;RPORT", "[2001:db8::1]:9").unwrap(),
            "SIP/2.0/TCP h;rport=9;received=2001:db8::1"
        );
    }

    #[test]
    fn a_forged_received_does_not_stay() {
        assert_eq!(
            stamped("SIP/2.0/UDP h;received=1.2.3.4;rport=1", "192.0.2.1:9").unwrap(),
            "SIP/2.0/UDP h;rport=9;received=192.0.2.1"
        );
        assert_eq!(
            stamped("SIP/2.0/UDP 192.0.2.1;received=1.2.3.4", "192.0.2.1:9").unwrap(),
            "SIP/2.0/UDP 192.0.2.1"
        );
        assert_eq!(
            stamped("SIP/2.0/UDP h;received=1.2.3.4;rport=9", "1.2.3.4:9"),
            None
        );
    }
}
