//! Contact (RFC 3261 §20.10).

use super::NameAddr;
use crate::proto::sip::error::ParseError;
use crate::proto::sip::scan;

/// One Contact value.
#[derive(Clone, Copy, Debug)]
pub enum Contact<'m> {
    /// `*`: all contacts, in a REGISTER.
    Star,
    /// An address with its parameters.
    Address(NameAddr<'m>),
}

impl<'m> Contact<'m> {
    /// Parses one value.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        if scan::trim(value) == b"*" {
            Ok(Self::Star)
        } else {
            NameAddr::parse(value).map(Self::Address)
        }
    }
}
