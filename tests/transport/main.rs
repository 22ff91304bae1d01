//! The transports over real sockets, with a queue where the shards would be.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests speak to real sockets, and a failed step is a failed test"
)]

mod datagrams;
mod driver;
mod limits;
mod rig;
mod streams;
mod tls;
mod upstream;
mod ws;
