//! The lexical rules that all of SIP's grammar shares (RFC 3261 §25.1): tokens, white space,
//! quoted strings, lists. Everything here is linear in the bytes given.

use memchr::{memchr, memchr2, memchr3};

use super::error::ParseError;

/// One bit for each ASCII character that may stand in a `token`.
const TOKEN: u128 = {
    let mut mask = 0;
    let marks = b"-.!%*_+`'~";
    let mut byte = 0_u8;
    while byte < 128 {
        let mut allowed = byte.is_ascii_alphanumeric();
        let mut rest: &[u8] = marks;
        while let [mark, more @ ..] = rest {
            allowed |= *mark == byte;
            rest = more;
        }
        if allowed {
            mask |= 1_u128 << byte;
        }
        byte += 1;
    }
    mask
};

/// Whether the byte may stand in a `token`.
#[inline]
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte < 128 && (TOKEN >> byte) & 1 == 1
}

/// Whether this is a `token`.
#[inline]
pub(super) fn is_token(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&byte| is_token_byte(byte))
}

/// Linear white space: a fold's CR and LF count.
#[inline]
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether a byte is such. Sixteen bytes are looked at at a time, if `is_such` does not branch.
#[inline]
pub(super) fn has(value: &[u8], is_such: impl Fn(u8) -> bool) -> bool {
    let (chunks, rest) = value.as_chunks::<16>();
    let any = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |any, &byte| any | u8::from(is_such(byte)))
    };
    chunks.iter().any(|chunk| any(chunk) != 0) || any(rest) != 0
}

/// The value without linear white space around it.
#[inline]
pub(super) const fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value {
        if !is_space(*first) {
            break;
        }
        value = rest;
    }
    while let [rest @ .., last] = value {
        if !is_space(*last) {
            break;
        }
        value = rest;
    }
    value
}

/// The bytes between two positions; nothing if they are not there.
#[inline]
pub(super) fn cut(value: &[u8], from: usize, to: usize) -> &[u8] {
    value.get(from..to).unwrap_or_default()
}

/// Splits before the byte at `at`; everything is on the left if there is none.
#[inline]
pub(super) fn split(value: &[u8], at: usize) -> (&[u8], &[u8]) {
    value.split_at_checked(at).unwrap_or((value, &[]))
}

/// `1*DIGIT` up to `max`; `None` for anything else, also for a larger number.
#[inline]
pub(super) fn number(value: &[u8], max: u64) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
        if number > max {
            return None;
        }
    }
    Some(number)
}

/// A `port`: digits up to 65535.
pub(super) fn port(value: &[u8]) -> Option<u16> {
    number(value, u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
}

/// The length of the quoted-string at the start, with both quotes; `None` if it is not closed.
pub(super) fn quoted_len(value: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let hit = at + memchr2(b'"', b'\\', value.get(at..)?)?;
        if value.get(hit) == Some(&b'"') {
            return Some(hit + 1);
        }
        at = hit + 2;
    }
}

/// Where the first comma outside quotes and angle brackets is. An unclosed quote or bracket takes
/// all of the rest.
#[inline]
fn list_comma(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let hit = at + memchr3(b',', b'"', b'<', value.get(at..)?)?;
        let rest = value.get(hit..)?;
        match rest.first()? {
            b',' => return Some(hit),
            b'"' => at = hit + quoted_len(rest)?,
            _ => at = hit + memchr(b'>', rest)? + 1,
        }
    }
}

/// The first of a list's values, trimmed, and what follows its comma. Empty values are skipped.
#[inline]
pub(super) fn next_in_list<'m>(rest: &mut &'m [u8]) -> Option<&'m [u8]> {
    while !rest.is_empty() {
        let (value, more) = match list_comma(rest) {
            Some(at) => (cut(rest, 0, at), rest.get(at + 1..).unwrap_or_default()),
            None => (*rest, &[][..]),
        };
        *rest = more;
        let value = trim(value);
        if !value.is_empty() {
            return Some(value);
        }
    }
    None
}

/// Where the first `;` outside quotes is. An unclosed quote takes all of the rest.
#[inline]
pub(super) fn semicolon(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let hit = at + memchr2(b';', b'"', value.get(at..)?)?;
        let rest = value.get(hit..)?;
        if rest.first() == Some(&b';') {
            return Some(hit);
        }
        at = hit + quoted_len(rest)?;
    }
}

/// How many bytes of `whole` stand before `part`, which must be a part of it.
#[inline]
pub(super) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize)
        .saturating_sub(whole.as_ptr() as usize)
        .min(whole.len())
}

/// The rest after one expected byte and the white space around it.
#[inline]
pub(super) fn expect<'m>(value: &'m [u8], byte: u8, whole: &[u8]) -> Result<&'m [u8], ParseError> {
    match trim_start(value) {
        [first, rest @ ..] if *first == byte => Ok(trim_start(rest)),
        other => Err(ParseError::value(offset_in(whole, other))),
    }
}

/// The value without linear white space before it.
#[inline]
pub(super) const fn trim_start(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value {
        if !is_space(*first) {
            break;
        }
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(mut value: &[u8]) -> Vec<&[u8]> {
        std::iter::from_fn(|| next_in_list(&mut value)).collect()
    }

    #[test]
    fn lists_are_split_outside_quotes_and_brackets() {
        let value = br#""a,\",b" <sip:x,y@z>;q=1 , <sip:b>, ,c"#;
        assert_eq!(
            list(value),
            [&br#""a,\",b" <sip:x,y@z>;q=1"#[..], b"<sip:b>", b"c"]
        );
    }

    #[test]
    fn an_unclosed_quote_takes_the_rest_of_the_list() {
        assert_eq!(list(br#"a, "b, c"#), [&b"a"[..], br#""b, c"#]);
        assert_eq!(list(br#""b\"#), [&br#""b\"#[..]]);
    }

    #[test]
    fn numbers_never_wrap() {
        assert_eq!(number(b"0068", 255), Some(68));
        assert_eq!(number(b"255", 255), Some(255));
        for bad in [
            &b"256"[..],
            b"",
            b"-1",
            b"+1",
            b"0x0",
            b"1e3",
            b"18446744073709551616",
            b"36893488147419103232",
        ] {
            assert_eq!(number(bad, 255), None);
        }
        assert_eq!(number(b"18446744073709551615", u64::MAX), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616", u64::MAX), None);
    }

    #[test]
    fn tokens_are_those_of_the_grammar() {
        assert!(is_token(b"!interesting-Method0123456789_*+`.%indeed'~"));
        for bad in [&b""[..], b"a b", b"a:", b"a\0", b"\xe9", b"a\x0b"] {
            assert!(!is_token(bad));
        }
    }
}
