//! The push clients against stand-ins for APNs and FCM, over real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail by panicking, and own sockets and tasks"
)]

mod apns;
mod environment;
mod fcm;
mod standin;
mod support;
mod transport;
mod webhook;
mod webpush;
mod withdrawal;
