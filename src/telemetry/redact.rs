//! Personal data in logs: numbers, addresses-of-record, network addresses.
//!
//! At INFO and above a value is shown as its last two digits and a tag. The tag is a keyed hash, so
//! that lines about the same agent can be found together; the key is made at start and never
//! leaves the process, so that the few thousand numbers of a contact centre cannot be tried out.

use std::fmt::{self, Write as _};
use std::hash::Hasher;
use std::sync::LazyLock;

use siphasher::sip::SipHasher24;

use crate::proto::sip::{Text, With, hexadecimal};

static KEY: LazyLock<(u64, u64)> = LazyLock::new(|| (rand::random(), rand::random()));

/// A value that is personal data: its `Display` shows only what tells it from others.
#[derive(Clone, Copy)]
pub struct Pii<T>(pub T);

impl<T: fmt::Display> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Text::of(With(|out: &mut Text| {
            out.display(&self.0);
        }));
        let text = text.as_slice();
        let local = text.split(|byte| *byte == b'@').next().unwrap_or_default();
        let mut digits = local.iter().rev().filter(|byte| byte.is_ascii_digit());
        let (last, before) = (digits.next(), digits.next());
        let (first, second) = *KEY;
        let mut hasher = SipHasher24::new_with_keys(first, second);
        hasher.write(text);
        let tag = hexadecimal::<8>(hasher.finish() >> 32);
        f.write_str("..")?;
        for digit in before.into_iter().chain(last) {
            f.write_char(char::from(*digit))?;
        }
        f.write_char('#')?;
        f.write_str(std::str::from_utf8(&tag).unwrap_or_default())
    }
}

impl<T: fmt::Display> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_shows_two_digits_and_the_same_tag_each_time() {
        let shown = Pii("+4930123456@pbx.example.com").to_string();
        assert!(shown.starts_with("..56#"), "{shown}");
        assert_eq!(shown.len(), "..56#".len() + 8);
        assert_eq!(shown, Pii("+4930123456@pbx.example.com").to_string());
        assert_ne!(shown, Pii("+4930123456@other.example.com").to_string());
    }

    #[test]
    fn a_name_shows_nothing_of_itself() {
        let shown = format!("{:?}", Pii("alice@pbx2.example.com"));
        assert!(shown.starts_with("..#"), "{shown}");
    }
}
