//! Rouse between real peers, over real sockets: Asterisk 16 (chan_sip) and Asterisk 22 (PJSIP)
//! from Debian's archives, SIPp, and the crate's phones and push services.
//!
//! README.md beside this file says which fact about a peer is tested where.

#![expect(
    clippy::disallowed_methods,
    reason = "live tests own processes, tasks and clocks, as their peers do"
)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a rig that cannot be built fails its test with the sentence that says why"
)]

mod control;
mod rig;
