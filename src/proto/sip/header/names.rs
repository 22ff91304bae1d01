//! Header names (RFC 3261 §20 and its extensions, §7.3.3 for the compact forms).

/// A header's name: the known ones whatever their form (compact, case), others by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the header of that name")]
pub enum HeaderName {
    Accept,
    AcceptContact,
    Allow,
    AllowEvents,
    Authorization,
    CallId,
    Contact,
    ContentEncoding,
    ContentLength,
    ContentType,
    CSeq,
    Date,
    Event,
    Expires,
    FeatureCaps,
    FlowTimer,
    From,
    Identity,
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
    ReferredBy,
    RejectContact,
    Replaces,
    RequestDisposition,
    Require,
    RetryAfter,
    Route,
    ServiceRoute,
    Server,
    SessionExpires,
    Subject,
    SubscriptionState,
    Supported,
    Timestamp,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    WwwAuthenticate,
    /// A name that is not in this list.
    Other,
}

impl HeaderName {
    /// How many names there are, [`Self::Other`] included.
    pub(in crate::proto::sip) const COUNT: usize = Self::Other as usize + 1;

    /// Recognises a name, in any case and form.
    #[must_use]
    #[inline]
    pub fn parse(name: &[u8]) -> Self {
        let Some(first) = name.first().map(u8::to_ascii_lowercase) else {
            return Self::Other;
        };
        if name.len() == 1 {
            return Self::compact(first);
        }
        let [one, two] = Self::candidates(name.len(), first);
        if is_same(name, one.as_str().as_bytes()) {
            one
        } else if is_same(name, two.as_str().as_bytes()) {
            two
        } else {
            Self::Other
        }
    }

    /// The known names of that length that begin with that letter: never more than two.
    #[inline]
    const fn candidates(len: usize, first: u8) -> [Self; 2] {
        let one = match (len, first) {
            (2, b't') => Self::To,
            (3, b'v') => Self::Via,
            (4, b'c') => Self::CSeq,
            (4, b'd') => Self::Date,
            (4, b'f') => Self::From,
            (4, b'p') => Self::Path,
            (5, b'a') => Self::Allow,
            (5, b'e') => Self::Event,
            (5, b'r') => Self::Route,
            (6, b'a') => Self::Accept,
            (6, b'r') => Self::Reason,
            (6, b's') => Self::Server,
            (7, b'c') => return [Self::Contact, Self::CallId],
            (7, b'e') => Self::Expires,
            (7, b'r') => Self::Require,
            (7, b's') => Self::Subject,
            (7, b'w') => Self::Warning,
            (8, b'i') => Self::Identity,
            (8, b'r') => return [Self::ReferTo, Self::Replaces],
            (9, b's') => Self::Supported,
            (9, b't') => Self::Timestamp,
            (10, b'f') => Self::FlowTimer,
            (10, b'u') => Self::UserAgent,
            (11, b'm') => return [Self::MinExpires, Self::MaxBreadth],
            (11, b'r') => return [Self::RetryAfter, Self::ReferredBy],
            (11, b'u') => Self::Unsupported,
            (12, b'a') => Self::AllowEvents,
            (12, b'c') => Self::ContentType,
            (12, b'f') => Self::FeatureCaps,
            (12, b'm') => Self::MaxForwards,
            (12, b'r') => Self::RecordRoute,
            (13, b'a') => Self::Authorization,
            (13, b'p') => Self::ProxyRequire,
            (13, b's') => Self::ServiceRoute,
            (14, b'a') => Self::AcceptContact,
            (14, b'c') => Self::ContentLength,
            (14, b'r') => Self::RejectContact,
            (15, b's') => Self::SessionExpires,
            (16, b'c') => Self::ContentEncoding,
            (16, b'w') => Self::WwwAuthenticate,
            (18, b'p') => Self::ProxyAuthenticate,
            (18, b's') => Self::SubscriptionState,
            (19, b'p') => Self::ProxyAuthorization,
            (19, b'r') => Self::RequestDisposition,
            _ => Self::Other,
        };
        [one, Self::Other]
    }

    /// The compact forms.
    #[inline]
    const fn compact(letter: u8) -> Self {
        match letter {
            b'a' => Self::AcceptContact,
            b'b' => Self::ReferredBy,
            b'c' => Self::ContentType,
            b'd' => Self::RequestDisposition,
            b'e' => Self::ContentEncoding,
            b'f' => Self::From,
            b'i' => Self::CallId,
            b'j' => Self::RejectContact,
            b'k' => Self::Supported,
            b'l' => Self::ContentLength,
            b'm' => Self::Contact,
            b'o' => Self::Event,
            b'r' => Self::ReferTo,
            b's' => Self::Subject,
            b't' => Self::To,
            b'u' => Self::AllowEvents,
            b'v' => Self::Via,
            b'x' => Self::SessionExpires,
            b'y' => Self::Identity,
            _ => Self::Other,
        }
    }

    /// Returns the name as it is written; nothing for [`Self::Other`].
    #[must_use]
    #[inline]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "Accept",
            Self::AcceptContact => "Accept-Contact",
            Self::Allow => "Allow",
            Self::AllowEvents => "Allow-Events",
            Self::Authorization => "Authorization",
            Self::CallId => "Call-ID",
            Self::Contact => "Contact",
            Self::ContentEncoding => "Content-Encoding",
            Self::ContentLength => "Content-Length",
            Self::ContentType => "Content-Type",
            Self::CSeq => "CSeq",
            Self::Date => "Date",
            Self::Event => "Event",
            Self::Expires => "Expires",
            Self::FeatureCaps => "Feature-Caps",
            Self::FlowTimer => "Flow-Timer",
            Self::From => "From",
            Self::Identity => "Identity",
            Self::MaxBreadth => "Max-Breadth",
            Self::MaxForwards => "Max-Forwards",
            Self::MinExpires => "Min-Expires",
            Self::Path => "Path",
            Self::ProxyAuthenticate => "Proxy-Authenticate",
            Self::ProxyAuthorization => "Proxy-Authorization",
            Self::ProxyRequire => "Proxy-Require",
            Self::Reason => "Reason",
            Self::RecordRoute => "Record-Route",
            Self::ReferTo => "Refer-To",
            Self::ReferredBy => "Referred-By",
            Self::RejectContact => "Reject-Contact",
            Self::Replaces => "Replaces",
            Self::RequestDisposition => "Request-Disposition",
            Self::Require => "Require",
            Self::RetryAfter => "Retry-After",
            Self::Route => "Route",
            Self::ServiceRoute => "Service-Route",
            Self::Server => "Server",
            Self::SessionExpires => "Session-Expires",
            Self::Subject => "Subject",
            Self::SubscriptionState => "Subscription-State",
            Self::Supported => "Supported",
            Self::Timestamp => "Timestamp",
            Self::To => "To",
            Self::Unsupported => "Unsupported",
            Self::UserAgent => "User-Agent",
            Self::Via => "Via",
            Self::Warning => "Warning",
            Self::WwwAuthenticate => "WWW-Authenticate",
            Self::Other => "",
        }
    }

    /// This name's bit in a set of names.
    pub(in crate::proto::sip) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// Whether these are the same but for case, eight bytes at a time: this is asked for each line of
/// each message. `known` is of letters and hyphens.
#[inline]
fn is_same(name: &[u8], known: &[u8]) -> bool {
    if name.len() != known.len() {
        return false;
    }
    let Some(((first, last), (known_first, known_last))) = ends(name).zip(ends(known)) else {
        return name.eq_ignore_ascii_case(known);
    };
    let middle = 8..name.len().saturating_sub(8);
    is_same_word(first, known_first)
        && is_same_word(last, known_last)
        && name
            .get(middle.clone())
            .zip(known.get(middle))
            .is_none_or(|(name, known)| name.eq_ignore_ascii_case(known))
}

/// The first and the last eight bytes; they overlap below sixteen.
#[inline]
fn ends(name: &[u8]) -> Option<(u64, u64)> {
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    Some((word(name.first_chunk()?), word(name.last_chunk()?)))
}

/// In ASCII, letters have the bit 0x40, the hyphen has not; 0x20 is a letter's case.
#[inline]
const fn is_same_word(word: u64, known: u64) -> bool {
    let case = (known & 0x4040_4040_4040_4040) >> 1;
    (word ^ known) & !case == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [HeaderName; 11] = [
        HeaderName::CallId,
        HeaderName::Contact,
        HeaderName::ReferTo,
        HeaderName::Replaces,
        HeaderName::MaxBreadth,
        HeaderName::MinExpires,
        HeaderName::RetryAfter,
        HeaderName::ReferredBy,
        HeaderName::RequestDisposition,
        HeaderName::ProxyAuthorization,
        HeaderName::WwwAuthenticate,
    ];

    #[test]
    fn known_names_are_recognised_in_any_case() {
        for name in ALL {
            assert_eq!(HeaderName::parse(name.as_str().as_bytes()), name);
            let upper = name.as_str().to_uppercase();
            assert_eq!(HeaderName::parse(upper.as_bytes()), name);
            // A byte that differs in the case bit or in any other is another name.
            for at in 0..upper.len() {
                for bit in 0..8 {
                    let mut other = upper.clone().into_bytes();
                    other[at] ^= 1 << bit;
                    let is_same = other.eq_ignore_ascii_case(upper.as_bytes());
                    assert_eq!(HeaderName::parse(&other) == name, is_same);
                }
            }
        }
        assert_eq!(HeaderName::parse(b"V"), HeaderName::Via);
        assert_eq!(HeaderName::parse(b"x"), HeaderName::SessionExpires);
        for other in [&b""[..], b"Vib", b"z", b"X-Via", b"Content_Length"] {
            assert_eq!(HeaderName::parse(other), HeaderName::Other);
        }
    }

    #[test]
    fn a_set_of_names_fits_64_bits() {
        const { assert!(HeaderName::COUNT <= 64) };
    }
}
