//! What we claim to conform to: one test for each sentence, in the order of the RFCs' contents.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test crate: what cannot be done must stop the test"
)]

mod rfc3261;
mod rfc3581;
mod rfc6026;
mod rig;
mod sequences;
