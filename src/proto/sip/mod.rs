//! SIP's syntax (RFC 3261 §25): a lossless, zero-copy message core. Imports nothing of the crate.
//!
//! SKELETON: the signatures that the rest of the crate is written against.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

/// One SIP message over the bytes it arrived in.
#[derive(Clone, Debug)]
pub struct Message {
    raw: Bytes,
}

/// What is wrong with bytes that are no message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} at byte {offset}")]
pub struct ParseError {
    pub kind: ParseErrorKind,
    pub offset: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseErrorKind {
    StartLine,
    Version,
    Header,
    ContentLength,
    TooLarge,
    TooManyHeaders,
    Missing,
    Value,
}

/// A method; those that we do not know keep their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method<'m> {
    Ack,
    Bye,
    Cancel,
    Info,
    Invite,
    Message,
    Notify,
    Options,
    Prack,
    Publish,
    Refer,
    Register,
    Subscribe,
    Update,
    Other(&'m [u8]),
}
impl<'m> Method<'m> {
    pub fn as_bytes(&self) -> &'m [u8] {
        todo!()
    }
}

/// A header's name: the known ones whatever their form (compact, case), others by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderName {
    Accept,
    Allow,
    AllowEvents,
    Authorization,
    CallId,
    Contact,
    ContentLength,
    ContentType,
    CSeq,
    Date,
    Event,
    Expires,
    FeatureCaps,
    FlowTimer,
    From,
    MaxBreadth,
    MaxForwards,
    MinExpires,
    Path,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyRequire,
    Reason,
    RecordRoute,
    ReferTo,
    Replaces,
    Require,
    RetryAfter,
    Route,
    ServiceRoute,
    Server,
    SubscriptionState,
    Supported,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    WwwAuthenticate,
    Other,
}

/// One header line: name as written, value without surrounding white space (may contain folds).
#[derive(Clone, Copy, Debug)]
pub struct Header<'m> {
    pub name: HeaderName,
    pub raw_name: &'m [u8],
    pub value: &'m [u8],
}

impl Message {
    /// Parses one whole message (a datagram, or what the framer cut out). Headers that are
    /// malformed beyond framing are kept: a proxy forwards what it need not understand.
    pub fn parse(_raw: Bytes) -> Result<Self, ParseError> {
        todo!()
    }
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
    pub fn is_request(&self) -> bool {
        todo!()
    }
    /// `None` for a response.
    pub fn method(&self) -> Option<Method<'_>> {
        todo!()
    }
    /// The Request-URI's bytes; `None` for a response.
    pub fn request_uri(&self) -> Option<&[u8]> {
        todo!()
    }
    /// `None` for a request.
    pub fn status(&self) -> Option<u16> {
        todo!()
    }
    pub fn reason(&self) -> Option<&[u8]> {
        todo!()
    }
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> + '_ {
        std::iter::empty()
    }
    /// First line of that name.
    pub fn header(&self, _name: HeaderName) -> Option<&[u8]> {
        todo!()
    }
    /// First line whose name is this, any case: for names that [`HeaderName`] does not list.
    pub fn header_named(&self, _name: &str) -> Option<&[u8]> {
        todo!()
    }
    /// The values of a list header over all its lines, split at commas outside quotes and <>.
    pub fn values(&self, _name: HeaderName) -> impl Iterator<Item = &[u8]> + '_ {
        std::iter::empty()
    }
    pub fn body(&self) -> &[u8] {
        todo!()
    }
    pub fn top_via(&self) -> Result<Via<'_>, ParseError> {
        todo!()
    }
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        todo!()
    }
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        todo!()
    }
    pub fn call_id(&self) -> Result<&[u8], ParseError> {
        todo!()
    }
    pub fn cseq(&self) -> Result<CSeq<'_>, ParseError> {
        todo!()
    }
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        todo!()
    }
    pub fn expires(&self) -> Result<Option<u32>, ParseError> {
        todo!()
    }
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'_>, ParseError>> + '_ {
        std::iter::empty()
    }
    /// Route values (with the URI's and the header's parameters).
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, ParseError>> + '_ {
        std::iter::empty()
    }
    /// Whether a token is listed in Supported / Require / Proxy-Require.
    pub fn lists(&self, _name: HeaderName, _token: &str) -> bool {
        todo!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'m> {
    pub number: u32,
    pub method: Method<'m>,
}

/// One Via value (RFC 3261 §20.42, RFC 3581).
#[derive(Clone, Copy, Debug)]
pub struct Via<'m> {
    pub transport: &'m [u8],
    pub host: Host<'m>,
    pub port: Option<u16>,
    pub params: Params<'m>,
    pub raw: &'m [u8],
}
impl<'m> Via<'m> {
    pub fn parse(_value: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
    pub fn branch(&self) -> Option<&'m [u8]> {
        todo!()
    }
    pub fn received(&self) -> Option<IpAddr> {
        todo!()
    }
    /// `None`: no parameter; `Some(None)`: asked for; `Some(Some(port))`: filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        todo!()
    }
    /// The value with `received` and `rport` filled in for this source (RFC 3581 §4); `None` if it
    /// may stay as it is.
    pub fn stamped(&self, _source: std::net::SocketAddr) -> Option<Vec<u8>> {
        todo!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'m> {
    Address(IpAddr),
    Name(&'m [u8]),
}

/// `;name=value` parameters in order; values still escaped or quoted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'m> {
    raw: &'m [u8],
}
impl<'m> Params<'m> {
    pub fn iter(&self) -> impl Iterator<Item = (&'m [u8], Option<&'m [u8]>)> + 'm {
        let _ = self.raw;
        std::iter::empty()
    }
    /// First parameter of that name, any case: `Some(None)` if it has no value.
    pub fn get(&self, _name: &str) -> Option<Option<&'m [u8]>> {
        todo!()
    }
    /// Its value, if it is there and has one.
    pub fn value(&self, name: &str) -> Option<&'m [u8]> {
        self.get(name).flatten()
    }
}

/// A SIP, SIPS, tel or other URI.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'m> {
    pub raw: &'m [u8],
    pub scheme: Scheme<'m>,
    pub user: Option<&'m [u8]>,
    pub host: Option<Host<'m>>,
    pub port: Option<u16>,
    pub params: Params<'m>,
    pub headers: Option<&'m [u8]>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'m> {
    Sip,
    Sips,
    Tel,
    Other(&'m [u8]),
}
impl<'m> Uri<'m> {
    pub fn parse(_raw: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
    /// User part with %-escapes resolved, without password.
    pub fn user_unescaped(&self) -> Option<std::borrow::Cow<'m, [u8]>> {
        todo!()
    }
    /// The URI without the parameters for which `strip` is true, else byte for byte.
    pub fn without_params(&self, _strip: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        todo!()
    }
}
/// Resolves %-escapes.
pub fn unescape(_value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    todo!()
}
/// Takes the quotes and backslashes off a quoted-string; anything else is returned as it is.
pub fn unquote(_value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    todo!()
}

/// `"Display" <uri>;params`, or `uri;params` (then the parameters are the header's, RFC 3261 §20).
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'m> {
    pub raw: &'m [u8],
    pub display: Option<&'m [u8]>,
    pub uri: &'m [u8],
    pub params: Params<'m>,
}
impl<'m> NameAddr<'m> {
    pub fn parse(_value: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
    pub fn tag(&self) -> Option<&'m [u8]> {
        todo!()
    }
    pub fn parse_uri(&self) -> Result<Uri<'m>, ParseError> {
        Uri::parse(self.uri)
    }
}
/// One Contact value.
#[derive(Clone, Copy, Debug)]
pub enum Contact<'m> {
    Star,
    Address(NameAddr<'m>),
}

/// Changes to a message, written in one pass; bytes that are not changed leave as they came.
#[derive(Debug)]
pub struct Edit<'m> {
    _message: &'m Message,
}
impl<'m> Edit<'m> {
    pub fn new(message: &'m Message) -> Self {
        Self { _message: message }
    }
    pub fn request_uri(&mut self, _uri: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    /// A new line before the first line of that name; at the top of the headers if there is none.
    pub fn prepend(&mut self, _name: HeaderName, _value: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    /// A new line after the last header.
    pub fn append(&mut self, _name: HeaderName, _value: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    /// The same for a name that [`HeaderName`] does not list.
    pub fn append_named(&mut self, _name: &'static str, _value: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    /// The first line's value; further lines of that name go; appended if there is none.
    pub fn replace(&mut self, _name: HeaderName, _value: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    /// All lines of that name go.
    pub fn remove(&mut self, _name: HeaderName) -> &mut Self {
        todo!()
    }
    /// The `index`-th value of a list header (over all lines, as [`Message::values`] counts).
    pub fn replace_value(
        &mut self,
        _name: HeaderName,
        _index: usize,
        _value: impl Into<Vec<u8>>,
    ) -> &mut Self {
        todo!()
    }
    /// That value goes; its line too if it was the only one on it.
    pub fn remove_value(&mut self, _name: HeaderName, _index: usize) -> &mut Self {
        todo!()
    }
    pub fn finish(self) -> Bytes {
        todo!()
    }
}

/// A response made here (RFC 3261 §8.2.6): Via, From, To, Call-ID, CSeq of the request.
#[derive(Debug)]
pub struct Reply<'m> {
    _request: &'m Message,
}
impl<'m> Reply<'m> {
    pub fn new(request: &'m Message, _status: u16, _reason: &str) -> Self {
        Self { _request: request }
    }
    /// Replaces the top Via value (with received/rport).
    pub fn top_via(&mut self, _value: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    /// Added to To if it has none; never on 100.
    pub fn to_tag(&mut self, _tag: &str) -> &mut Self {
        todo!()
    }
    pub fn header(&mut self, _name: HeaderName, _value: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    pub fn header_named(&mut self, _name: &'static str, _value: impl Into<Vec<u8>>) -> &mut Self {
        todo!()
    }
    /// Always with Content-Length.
    pub fn finish(self) -> Bytes {
        todo!()
    }
}

/// Cuts a byte stream into messages and keep-alives (RFC 3261 §18.3, RFC 5626 §4.4.1).
#[derive(Debug)]
pub struct Framer {
    _buffer: BytesMut,
    _limits: FrameLimits,
}
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    pub message_bytes: usize,
    pub headers: usize,
}
/// One thing found in the stream.
#[derive(Debug)]
pub enum Frame {
    Message(Message),
    /** A whole message by its lengths, but not a valid one: answer 400 if possible. */
    Malformed(Bytes, ParseError),
    /** CRLF CRLF between messages: answer with CRLF. */
    Ping,
    /** CRLF */
    Pong,
}
impl Framer {
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            _buffer: BytesMut::new(),
            _limits: limits,
        }
    }
    /// The buffer to read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        todo!()
    }
    /// The next whole frame. An error means that the stream cannot be cut any further: answer what
    /// the error's bytes allow, close.
    pub fn next(&mut self) -> Result<Option<Frame>, (Bytes, ParseError)> {
        todo!()
    }
    /// Whether part of a message is waiting for its rest (for the slow-loris deadline).
    pub fn is_partial(&self) -> bool {
        todo!()
    }
}
