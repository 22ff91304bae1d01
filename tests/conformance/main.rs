//! What we claim to conform to: one test for each sentence, in the order of the RFCs' contents.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test crate: what cannot be done must stop the test"
)]

mod captures;
mod compliance;
mod faults;
mod named_tests;
mod pains;
mod properties;
mod rfc3261;
mod rfc3262;
mod rfc3326;
mod rfc3327;
mod rfc3515;
mod rfc3581;
mod rfc3891;
mod rfc4028;
mod rfc4320;
mod rfc4475;
mod rfc5118;
mod rfc5393;
mod rfc5626;
mod rfc5658;
mod rfc6026;
mod rfc7118;
mod rfc8599;
mod rig;
mod rsip;
mod scene;
mod sequences;
mod through;
mod torture;
mod torture_gateway;
#[path = "../sim/world.rs"]
#[expect(dead_code, reason = "shared with the scenes")]
mod world;
