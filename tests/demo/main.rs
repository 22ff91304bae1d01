//! The far ends among themselves, and the demo: whole calls over loopback sockets.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test plays a far side with sockets of its own, and may fail where it stands"
)]

mod standins;
mod story;
