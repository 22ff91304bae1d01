//! Rouse: a mobile push gateway and SIP proxy.
//!
//! `proto` decides, `io` acts, `server` joins them; see ARCHITECTURE.md for the life of an INVITE.
//! Whoever reads first: `proto/mod.rs` (what goes in and out), `proto/gateway.rs` (who handles it).

pub mod cli;
pub mod config;
pub mod io;
pub mod proto;
pub mod server;
pub mod standin;
pub mod telemetry;
