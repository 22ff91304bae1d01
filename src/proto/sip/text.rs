//! Text that is put together: short ones on the stack, digits without the formatting machinery.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

/// How much is put together without an allocation: the changes of a usual request.
const USUAL: usize = 512;

/// Text under construction.
#[derive(Debug, Default)]
pub struct Text(SmallVec<[u8; USUAL]>);

/// Something that can be written into a message, without being text on its own before.
pub trait Value {
    /// Writes it.
    fn put(self, out: &mut Text);
}

/// A value that a closure writes.
#[derive(Clone, Copy, Debug)]
pub struct With<F>(pub F);

/// A number in decimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Decimal(pub u32);

impl Text {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(SmallVec::new())
    }

    /// A value by itself.
    #[must_use]
    pub fn of(value: impl Value) -> Self {
        let mut text = Self::new();
        value.put(&mut text);
        text
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// Appends a number in decimal digits.
    pub fn decimal(&mut self, number: impl Into<u64>) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut rest = number.into();
        let mut count = 0;
        for place in digits.iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        let (_, written) = digits.split_at(digits.len() - count);
        self.push(written)
    }

    /// Appends a number in 16 lower-case hexadecimal digits.
    pub fn hex(&mut self, number: u64) -> &mut Self {
        self.push(hexadecimal::<16>(number))
    }

    /// Appends an address without a port.
    pub fn address(&mut self, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                self.decimal(a).push(b".").decimal(b).push(b".");
                self.decimal(c).push(b".").decimal(d)
            }
            IpAddr::V6(address) => self.display(address),
        }
    }

    /// Appends an address with its port.
    pub fn socket(&mut self, address: SocketAddr) -> &mut Self {
        match address {
            SocketAddr::V4(v4) => {
                self.address((*v4.ip()).into());
                self.push(b":").decimal(v4.port())
            }
            SocketAddr::V6(v6) => self.display(v6),
        }
    }

    /// Appends whatever displays itself.
    pub fn display(&mut self, value: impl fmt::Display) -> &mut Self {
        use fmt::Write as _;
        // dropped: writing to memory does not fail.
        write!(self, "{value}").unwrap_or_default();
        self
    }

    /// What there is.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// How much there is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is not UTF-8 is replaced.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

impl<T: AsRef<[u8]>> Value for T {
    fn put(self, out: &mut Text) {
        out.push(self);
    }
}

impl Value for Decimal {
    fn put(self, out: &mut Text) {
        out.decimal(self.0);
    }
}

impl<F: FnOnce(&mut Text)> Value for With<F> {
    fn put(self, out: &mut Text) {
        (self.0)(out);
    }
}

/// The lowest `N` lower-case hexadecimal digits of a number.
#[must_use]
pub fn hexadecimal<const N: usize>(number: u64) -> [u8; N] {
    let mut digits = [0; N];
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        let digit = (rest & 0xf) as u8;
        *place = if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        };
        rest >>= 4;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Text)) -> String {
        let mut text = Text::new();
        write(&mut text);
        String::from_utf8(text.as_slice().to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_and_addresses_are_written_as_they_display(
            number: u64, host: IpAddr, port: u16, digits: u32
        ) {
            prop_assert_eq!(text(|out| { out.decimal(number); }), number.to_string());
            prop_assert_eq!(text(|out| { out.hex(number); }), format!("{number:016x}"));
            let eight = hexadecimal::<8>(digits.into()).to_vec();
            prop_assert_eq!(String::from_utf8(eight).unwrap(), format!("{digits:08x}"));
            prop_assert_eq!(text(|out| { out.address(host); }), host.to_string());
            let socket = SocketAddr::new(host, port);
            prop_assert_eq!(text(|out| { out.socket(socket); }), socket.to_string());
        }
    }

    #[test]
    fn what_is_long_goes_on_elsewhere() {
        let long = "x".repeat(3 * USUAL);
        assert_eq!(
            text(|out| {
                out.push(&long).decimal(0_u8);
            }),
            format!("{long}0")
        );
    }
}
