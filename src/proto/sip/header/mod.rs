//! Typed views of header values; one file for each form.

mod contact;
mod cseq;
mod name_addr;
mod names;
mod via;

pub use contact::Contact;
pub use cseq::CSeq;
pub use name_addr::NameAddr;
pub use names::HeaderName;
pub(super) use via::ViaSpots;
pub use via::{Stamped, Via};

/// One header line: name as written, value without surrounding white space (may contain folds).
#[derive(Clone, Copy, Debug)]
pub struct Header<'m> {
    /// Which header it is.
    pub name: HeaderName,
    /// The name as written.
    pub raw_name: &'m [u8],
    /// The value.
    pub value: &'m [u8],
}
