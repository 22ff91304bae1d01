//! The status line (RFC 3261 §7.2).

use super::scan;

/// The status code and the reason phrase of what follows `SIP/2.0 ` in a status line; the phrase
/// may be empty, and its space may be missing.
pub(super) fn parse(line: &[u8]) -> Option<(u16, &[u8])> {
    let (code, rest) = scan::split(line, 3);
    // RFC 3261 §25.1: Status-Code is three digits; the classes are 1xx to 6xx.
    let code = scan::number(code, 699).filter(|_| code.len() == 3)?;
    let code = u16::try_from(code).ok().filter(|&code| code >= 100)?;
    match rest {
        [] => Some((code, rest)),
        [b' ', reason @ ..] => Some((code, reason)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_three_digits_and_a_class() {
        assert_eq!(parse(b"200 OK"), Some((200, &b"OK"[..])));
        assert_eq!(parse(b"100 "), Some((100, &b""[..])));
        assert_eq!(parse(b"180"), Some((180, &b""[..])));
        for bad in [
            &b"4294967301 better not"[..],
            b"99 x",
            b"700 x",
            b"0200 x",
            b"20 x",
            b"",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
