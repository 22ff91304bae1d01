//! `;name=value` parameters of URIs and headers (RFC 3261 §25.1), and taking escapes and quotes
//! off their values.

use std::borrow::Cow;

use memchr::memchr;

use super::scan;

/// `;name=value` parameters in order; values still escaped or quoted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'m> {
    raw: &'m [u8],
}

impl<'m> Params<'m> {
    /// Parameters separated by semicolons, with or without one before the first.
    #[must_use]
    #[inline]
    pub fn new(raw: &'m [u8]) -> Self {
        let raw = scan::trim(raw);
        Self {
            raw: raw.strip_prefix(b";").unwrap_or(raw),
        }
    }

    /// The parameters whose [`Self::raw`] this is.
    #[inline]
    pub(super) const fn of_raw(raw: &'m [u8]) -> Self {
        Self { raw }
    }

    /// Returns the bytes, without the first semicolon.
    #[must_use]
    #[inline]
    pub const fn raw(&self) -> &'m [u8] {
        self.raw
    }

    /// Returns whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Returns names and values in order; a parameter without name or value is skipped.
    pub fn iter(&self) -> impl Iterator<Item = (&'m [u8], Option<&'m [u8]>)> + 'm {
        self.segments().filter_map(|segment| {
            let (name, value) = split_param(segment);
            (!name.is_empty()).then_some((name, value))
        })
    }

    /// First parameter of that name, any case: `Some(None)` if it has no value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<&'m [u8]>> {
        self.iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Its value, if it is there and has one.
    #[must_use]
    #[inline]
    pub fn value(&self, name: &str) -> Option<&'m [u8]> {
        self.get(name).flatten()
    }

    /// Whether every parameter has a token as its name and, if there is an `=`, a value, and every
    /// quote is closed.
    pub(super) fn are_well_formed(&self) -> bool {
        self.raw.is_empty()
            || self.segments().all(|segment| {
                let (name, value) = split_param(segment);
                scan::is_token(name)
                    && match value {
                        None => true,
                        Some([b'"', ..]) => {
                            value.is_some_and(|value| scan::quoted_len(value) == Some(value.len()))
                        }
                        Some(value) => !value.is_empty() && !scan::has(value, scan::is_space),
                    }
            })
    }

    /// The parameters as they stand between the semicolons, empty ones too.
    pub(super) fn segments(&self) -> impl Iterator<Item = &'m [u8]> + 'm {
        let mut rest = Some(self.raw).filter(|raw| !raw.is_empty());
        std::iter::from_fn(move || {
            let all = rest?;
            let Some(at) = scan::semicolon(all) else {
                rest = None;
                return Some(all);
            };
            rest = Some(all.get(at + 1..).unwrap_or_default());
            all.get(..at)
        })
    }
}

/// Name and value of one parameter, without white space.
#[inline]
pub(super) fn split_param(segment: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'=', segment) {
        Some(at) => (
            scan::trim(scan::cut(segment, 0, at)),
            Some(scan::trim(segment.get(at + 1..).unwrap_or_default())),
        ),
        None => (scan::trim(segment), None),
    }
}

/// Resolves %-escapes; a `%` that begins none stays.
#[must_use]
pub fn unescape(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'%', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, more @ ..] = rest {
        rest = more;
        let escaped = match (first, more) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| {
                rest = after;
                high << 4 | low
            }),
            _ => None,
        };
        plain.push(escaped.unwrap_or(*first));
    }
    Cow::Owned(plain)
}

/// Takes the quotes and backslashes off a quoted-string; anything else is returned as it is.
#[must_use]
pub fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = value else {
        return Cow::Borrowed(value);
    };
    if memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [first, more @ ..] = rest {
        rest = more;
        match (first, more) {
            (b'\\', [quoted, after @ ..]) => {
                plain.push(*quoted);
                rest = after;
            }
            _ => plain.push(*first),
        }
    }
    Cow::Owned(plain)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fcm_token_with_a_colon_is_one_value() {
        let params = Params::new(b";pn-provider=fcm;pn-prid=dX:APA91b-_x;lr");
        assert_eq!(params.value("PN-PRID"), Some(&b"dX:APA91b-_x"[..]));
        assert_eq!(params.get("lr"), Some(None));
        assert_eq!(params.get("ob"), None);
    }

    #[test]
    fn quoted_values_may_hold_semicolons_and_white_space_may_surround_everything() {
        let params = Params::new(b" ; a = \"x;\\\";y\" ;;\r\n b\t=\r\n c ; d");
        let all: Vec<_> = params.iter().collect();
        assert_eq!(
            all,
            [
                (&b"a"[..], Some(&b"\"x;\\\";y\""[..])),
                (b"b", Some(b"c")),
                (b"d", None)
            ]
        );
        assert!(!params.are_well_formed());
        assert!(Params::new(b"a=b;c;d=\"e\"").are_well_formed());
        assert!(!Params::new(b"a=\"e").are_well_formed());
        assert!(!Params::new(b"a;").are_well_formed());
    }

    #[test]
    fn escapes_are_resolved_once() {
        assert_eq!(&*unescape(b"%75se%72%00%2541"), b"user\0%41");
        assert_eq!(&*unescape(b"100%"), b"100%");
        assert_eq!(&*unescape(b"%zz%4"), b"%zz%4");
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn quotes_and_backslashes_are_taken_off() {
        assert_eq!(&*unquote(b"\"a\\\"b\\\\\""), b"a\"b\\");
        assert_eq!(&*unquote(b"\"<urn:uuid:1>\""), b"<urn:uuid:1>");
        assert_eq!(&*unquote(b"token"), b"token");
        assert_eq!(&*unquote(b"\""), b"\"");
        assert_eq!(&*unquote(b"\"a\\\""), b"a\\");
    }
}
