//! The push clients against stand-ins for APNs and FCM, over real sockets.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod apns;
mod fcm;
mod support;
