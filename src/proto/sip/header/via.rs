//! Via (RFC 3261 §20.42, §18.2.1; RFC 3581).

use std::net::{IpAddr, SocketAddr};

use crate::proto::sip::error::ParseError;
use crate::proto::sip::params::{Params, split_param};
use crate::proto::sip::parse::Span;
use crate::proto::sip::scan;
use crate::proto::sip::text::{Text, Value};
use crate::proto::sip::uri::{Host, HostSpot, host_port, ipv6};

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

/// Where the parts of a Via value are in its message.
#[derive(Clone, Copy, Debug)]
pub(in crate::proto::sip) struct ViaSpots {
    transport: Span,
    host: HostSpot,
    port: Option<u16>,
    params: Span,
    whole: Span,
}

impl ViaSpots {
    pub(in crate::proto::sip) fn of(message: &[u8], via: &Via<'_>) -> Self {
        Self {
            transport: Span::within(message, via.transport),
            host: HostSpot::of(message, via.host),
            port: via.port,
            params: Span::within(message, via.params.raw()),
            whole: Span::within(message, via.raw),
        }
    }

    pub(in crate::proto::sip) fn read(self, message: &[u8]) -> Via<'_> {
        Via {
            transport: self.transport.of(message),
            host: self.host.read(message),
            port: self.port,
            params: Params::of_raw(self.params.of(message)),
            raw: self.whole.of(message),
        }
    }
}

/// A Via value with `received` and `rport` filled in.
#[derive(Clone, Copy, Debug)]
pub struct Stamped<'m> {
    via: Via<'m>,
    source: SocketAddr,
    wants_received: bool,
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
    pub fn stamped(&self, source: SocketAddr) -> Option<Stamped<'m>> {
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
        Some(Stamped {
            via: *self,
            source,
            wants_received,
        })
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

impl Value for Stamped<'_> {
    fn put(self, out: &mut Text) {
        let Via { params, raw, .. } = self.via;
        let before = if params.is_empty() {
            raw
        } else {
            let params = scan::offset_in(raw, params.raw());
            let before = scan::trim(scan::cut(raw, 0, params));
            before.strip_suffix(b";").unwrap_or(before)
        };
        out.push(before);
        for segment in params.segments() {
            let (name, _) = split_param(segment);
            if name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            out.push(b";");
            if name.eq_ignore_ascii_case(b"rport") {
                out.push(b"rport=").decimal(self.source.port());
            } else {
                out.push(segment);
            }
        }
        if self.wants_received {
            let address = self.source.ip().to_canonical();
            out.push(b";received=").address(address);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(value: &str, source: &str) -> Option<String> {
        Via::parse(value.as_bytes())
            .unwrap()
            .stamped(source.parse().unwrap())
            .map(|via| Text::of(via).to_string())
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
