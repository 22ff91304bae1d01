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
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a rig that cannot be built fails its test with the sentence that says why"
)]

/// Makes tests of async functions that take [`rig::stage::Peers`].
macro_rules! tests {
    ($asterisk:ident, $phone:ident: $($test:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::super::$test($crate::rig::stage::Peers {
                    asterisk: $crate::rig::asterisk::Version::$asterisk,
                    phone: rouse::proto::Transport::$phone,
                })
                .await;
            }
        )+
    };
}

/// Runs tests on each Asterisk with phones on UDP, TCP and TLS.
macro_rules! on_every_path {
    ($($test:ident),+ $(,)?) => {
        mod chan_sip {
            mod udp { tests!(Sixteen, Udp: $($test),+); }
            mod tcp { tests!(Sixteen, Tcp: $($test),+); }
            mod tls { tests!(Sixteen, Tls: $($test),+); }
        }
        mod pjsip {
            mod udp { tests!(TwentyTwo, Udp: $($test),+); }
            mod tcp { tests!(TwentyTwo, Tcp: $($test),+); }
            mod tls { tests!(TwentyTwo, Tls: $($test),+); }
        }
    };
}

/// Runs tests on each Asterisk where the phone's transport makes no difference: chan_sip's phones
/// are on TLS (APNs), PJSIP's on TCP (FCM).
macro_rules! on_both_asterisks {
    ($($test:ident),+ $(,)?) => {
        mod each {
            mod chan_sip { tests!(Sixteen, Tls: $($test),+); }
            mod pjsip { tests!(TwentyTwo, Tcp: $($test),+); }
        }
    };
}

mod awake;
mod contact_modes;
mod control;
mod devices;
mod example;
mod facts;
mod hold;
mod keep;
mod moves;
mod providers;
mod registration;
mod restart;
mod rig;
mod smoke;
mod through;
mod upstream;
mod wake;
