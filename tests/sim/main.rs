//! Behaviour through `Gateway`, in virtual time: the main suite.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test"
)]

mod calls;
mod peers;
mod registration;
mod wake;
mod world;
