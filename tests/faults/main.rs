//! Rouse under faults, as a process between stand-ins: killed, drained, reloaded, without its Asterisk,
//! its push services, its disk, its file descriptors.
//!
//! `make test-faults` runs them; `cargo test` only compiles those that are ignored there.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests own processes, tasks and clocks, as their peers do"
)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a rig that cannot be built fails its test with the sentence that says why"
)]

mod bodies;
mod disk;
mod drain;
mod floods;
mod kill;
mod limits;
mod operators;
mod push;
mod reload;
mod rig;
mod secrets;
mod supervised;
mod takeover;
mod upstream;
