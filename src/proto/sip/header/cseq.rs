//! CSeq (RFC 3261 §20.16).

use crate::proto::sip::error::ParseError;
use crate::proto::sip::method::Method;
use crate::proto::sip::scan;

/// A sequence number and its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'m> {
    /// The number, below 2^31 (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method<'m>,
}

impl<'m> CSeq<'m> {
    /// Parses a value.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        let value = scan::trim(value);
        let digits = value
            .iter()
            .position(|&byte| scan::is_space(byte))
            .ok_or_else(|| ParseError::value(value.len()))?;
        let (number, method) = scan::split(value, digits);
        let number = scan::number(number, (1 << 31) - 1)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or(ParseError::value(0))?;
        let method = scan::trim_start(method);
        if !scan::is_token(method) {
            return Err(ParseError::value(scan::offset_in(value, method)));
        }
        Ok(Self {
            number,
            method: Method::parse(method),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_below_two_to_the_31() {
        let cseq = CSeq::parse(b"2147483647 INVITE").unwrap();
        assert_eq!((cseq.number, cseq.method), (2_147_483_647, Method::Invite));
        for bad in [
            &b"2147483648 INVITE"[..],
            b"4294967296 INVITE",
            b"-1 INVITE",
            b"1INVITE",
            b"1",
            b"INVITE",
            b"",
            b"1 INVITE BYE",
        ] {
            assert!(CSeq::parse(bad).is_err());
        }
    }

    #[test]
    fn white_space_may_be_a_fold() {
        let cseq = CSeq::parse(b"0009\r\n  INVITE").unwrap();
        assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
    }
}
