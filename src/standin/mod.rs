//! Stand-ins for the far ends, over real sockets: phones, Asterisk, APNs, FCM, browsers'
//! push services, an operator's own.
//!
//! `rouse demo`, the live tests and the benches talk to them; `serve` never does.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "stand-ins are peers of io: they own sockets, tasks and clocks"
)]

pub mod apns;
pub mod asterisk;
pub mod call;
mod dialog;
pub mod digest;
mod draft;
pub mod error;
mod exchange;
pub mod fcm;
mod fcm_rules;
mod inbound;
mod inviter;
mod leg;
mod link;
pub mod phone;
pub mod push;
mod push_frames;
mod push_http1;
mod recent;
mod registrar;
pub mod timeline;
mod ua;
pub mod webhook;
pub mod webpush;
