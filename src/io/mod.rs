//! Everything that blocks, waits or can fail outside: sockets, TLS, push services, store, DNS.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "io is where sockets, tasks and clocks live"
)]

pub mod admin;
pub mod clock;
pub mod export;
pub mod pns;
pub mod resolver;
pub mod store;
pub mod supervisor;
pub mod takeover;
pub mod transport;
