//! The far ends among themselves, and the demo: whole calls over loopback sockets.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod standins;
