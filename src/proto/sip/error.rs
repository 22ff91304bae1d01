//! What can be wrong with a message.

/// What is wrong with bytes that are no message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} at byte {offset}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where: counted from the start of the bytes that were given to the parser.
    pub offset: usize,
}

/// The kinds of [`ParseError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The first line is neither a request line nor a status line.
    StartLine,
    /// The version is not SIP/2.0 (answer 505).
    Version,
    /// A header line has no colon, a bad name or a bare CR or LF.
    Header,
    /// A header's name has more than 255 bytes.
    HeaderName,
    /// Content-Length is no number, is given twice, is missing on a stream, or is more than a
    /// datagram holds.
    ContentLength,
    /// More bytes than allowed (answer 513).
    TooLarge,
    /// More header lines than allowed.
    TooManyHeaders,
    /// The message ends within its headers.
    Truncated,
    /// A header that must be there is not.
    Missing,
    /// A header that may be there once is there twice.
    Duplicate,
    /// A header's value (or the Request-URI) does not follow its grammar or is out of range.
    Value,
    /// CSeq names another method than the request line.
    MethodMismatch,
}

impl ParseError {
    /// An error of that kind at that byte.
    #[must_use]
    pub const fn new(kind: ParseErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// A value that does not follow its grammar.
    pub(super) const fn value(offset: usize) -> Self {
        Self::new(ParseErrorKind::Value, offset)
    }

    /// The same error, for bytes that stand `base` bytes further on in the message.
    pub(super) const fn within(self, base: usize) -> Self {
        Self::new(self.kind, self.offset + base)
    }
}
