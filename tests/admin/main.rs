//! The operator's API over real sockets: a gateway between a stand-in Asterisk, stand-in phones and
//! a stand-in push service.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests own sockets and clocks, as an operator does"
)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a rig that cannot be built fails its test with the sentence that says why"
)]

mod access;
mod browser;
mod calls;
mod commands;
mod description;
mod devices;
mod entered;
mod page;
mod rig;
#[cfg(feature = "otlp")]
mod traces;
mod wire;
