//! Answers to STUN Binding requests on the SIP port: a keep-alive of phones on UDP (RFC 5626
//! §4.4.2), and all of STUN that is here. The answer is as small as one can be: 32 bytes, 44 for
//! IPv6, for a request of at least 20.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

/// A header's length (RFC 5389 §6).
const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_a442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// From here on an attribute may be ignored by who does not know it (RFC 5389 §15).
const OPTIONAL: u16 = 0x8000;

/// Whether a datagram is STUN: two zero bits, which no SIP message begins with, and the cookie.
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xc0 == 0)
        && datagram.get(4..8) == Some(&COOKIE.to_be_bytes()[..])
}

/// The answer to a Binding request: the address that it came from (RFC 5389 §15.2). Anything else
/// has none, nor has a request with an attribute that must be understood.
pub(super) fn answer(datagram: &[u8], remote: SocketAddr) -> Option<Bytes> {
    let (header, attributes) = datagram.split_at_checked(HEADER)?;
    let kind = u16_at(header, 0)?;
    let length = usize::from(u16_at(header, 2)?);
    if !is_stun(header) || kind != REQUEST || length != attributes.len() {
        return None;
    }
    if !are_optional(attributes) {
        return None;
    }
    let id = header.get(4..HEADER)?;
    let address: Vec<u8> = match remote.ip() {
        IpAddr::V4(ip) => xor(&ip.octets(), id),
        IpAddr::V6(ip) => xor(&ip.octets(), id),
    };
    let family = if remote.is_ipv4() { 1 } else { 2 };
    let [high, low, ..] = COOKIE.to_be_bytes();
    let value = u16::try_from(4 + address.len()).ok()?;
    let mut answer = BytesMut::with_capacity(HEADER + 8 + address.len());
    answer.put_u16(SUCCESS);
    answer.put_u16(4 + value);
    answer.put_slice(id);
    answer.put_u16(XOR_MAPPED_ADDRESS);
    answer.put_u16(value);
    answer.put_u16(family);
    answer.put_u16(remote.port() ^ u16::from_be_bytes([high, low]));
    answer.put_slice(&address);
    Some(answer.freeze())
}

/// Whether these are whole attributes that may all be ignored.
fn are_optional(mut attributes: &[u8]) -> bool {
    while !attributes.is_empty() {
        let (Some(kind), Some(length)) = (u16_at(attributes, 0), u16_at(attributes, 2)) else {
            return false;
        };
        let padded = 4 + usize::from(length).next_multiple_of(4);
        match attributes.get(padded..) {
            Some(rest) if kind >= OPTIONAL => attributes = rest,
            Some(_) | None => return false,
        }
    }
    true
}

/// An address, masked with the cookie and the transaction's id.
fn xor(address: &[u8], id: &[u8]) -> Vec<u8> {
    let masked = address.iter().zip(id);
    masked.map(|(byte, key)| byte ^ key).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    bytes.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transaction id of the samples in RFC 5769 §2, behind the cookie.
    const ID: [u8; 16] = [
        0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf,
        0xae,
    ];

    fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap();
        let mut bytes = Vec::new();
        bytes.extend(kind.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(ID);
        bytes.extend(attributes);
        bytes
    }

    fn answered(request: &[u8], remote: &str) -> Option<Vec<u8>> {
        answer(request, remote.parse().unwrap()).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn the_addresses_of_rfc_5769_are_masked_as_its_samples_show() {
        let request = message(REQUEST, &[]);
        let ipv4 = [
            0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
        ];
        let answer = answered(&request, "192.0.2.1:32853");
        assert_eq!(answer, Some(message(SUCCESS, &ipv4)));
        let ipv6 = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3,
            0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        let remote = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        assert_eq!(answered(&request, remote), Some(message(SUCCESS, &ipv6)));
    }

    #[test]
    fn optional_attributes_are_ignored_and_others_refused() {
        let remote = "192.0.2.1:32853";
        let software = [0x80, 0x22, 0, 3, b'a', b'b', b'c', 0];
        assert!(answered(&message(REQUEST, &software), remote).is_some());
        for attributes in [
            &[0x00, 0x03, 0, 4, 0, 0, 0, 6][..], // CHANGE-REQUEST
            &[0x80, 0x22, 0, 9, 0, 0, 0, 0],
            &[0x80, 0x22],
        ] {
            let request = message(REQUEST, attributes);
            assert_eq!(answered(&request, remote), None, "{attributes:?}");
        }
    }

    #[test]
    fn nothing_but_a_whole_binding_request_is_answered() {
        let remote = "192.0.2.1:32853";
        let request = message(REQUEST, &[]);
        for kind in [0x0011, SUCCESS, 0x0111, 0x0003, 0x4001] {
            assert_eq!(answered(&message(kind, &[]), remote), None, "{kind:x}");
        }
        for length in 0..request.len() {
            assert_eq!(answered(&request[..length], remote), None, "{length}");
        }
        let trailing = [&request[..], &[0; 4]].concat();
        assert_eq!(answered(&trailing, remote), None);
        assert!(!is_stun(b"OPTIONS sip:a@b SIP/2.0"));
    }
}
