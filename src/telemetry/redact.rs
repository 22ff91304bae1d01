//! Personal data in logs: numbers, addresses-of-record, network addresses.
//!
//! At INFO and above a value is shown as its last two digits and a tag. The tag is a keyed hash, so
//! that lines about the same agent can be found together; the key is made at start and never
//! leaves the process, so that the few thousand numbers of a contact centre cannot be tried out.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use siphasher::sip::SipHasher24;

static KEY: LazyLock<(u64, u64)> = LazyLock::new(|| (rand::random(), rand::random()));

/// A value that is personal data: its `Display` shows only what tells it from others.
#[derive(Clone, Copy)]
pub struct Pii<T>(pub T);

impl<T: fmt::Display> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let digits: Vec<char> = text
            .split('@')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        let last = digits.len().saturating_sub(2);
        f.write_str("..")?;
        for digit in digits.get(last..).unwrap_or_default() {
            write!(f, "{digit}")?;
        }
        let (first, second) = *KEY;
        let mut hasher = SipHasher24::new_with_keys(first, second);
        text.hash(&mut hasher);
        write!(f, "#{:08x}", hasher.finish() >> 32)
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
