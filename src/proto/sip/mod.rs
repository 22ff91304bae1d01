//! SIP's syntax (RFC 3261 §7, §25): a lossless, zero-copy message core. Imports nothing of the
//! crate.
//!
//! A [`Message`] is the bytes that arrived and an index of where its lines are; views of headers
//! ([`Via`], [`NameAddr`], [`CSeq`] …) borrow from it and are parsed when they are asked for.
//! [`Edit`] writes a changed copy, [`Reply`] an answer, [`Framer`] cuts streams.
//!
//! [`Message::parse`] refuses what cannot be framed; [`Message::validate`] says what a proxy must
//! refuse; [`Message::salvage`] finds enough in refused bytes to answer them.

mod error;
mod framing;
mod header;
mod message;
mod method;
mod params;
mod parse;
mod scan;
mod status;
mod text;
mod uri;
mod validate;
mod write;

pub use error::{ParseError, ParseErrorKind};
pub use framing::{Frame, FrameLimits, Framer};
pub use header::{CSeq, Contact, Header, HeaderName, NameAddr, Stamped, Via};
pub use message::Message;
pub use method::Method;
pub use params::{Params, unescape, unquote};
pub use text::{Decimal, Text, Value, With, hexadecimal};
pub use uri::{Host, Scheme, Uri};
pub use write::{Edit, Reply};
