//! Telephones that others wrote, through Rouse, to both real Asterisks: Linphone (liblinphone with
//! its own RFC 8599 parameters) and baresip, from Debian's archives, and SIP.js in Node.
//!
//! `make test-peers` installs the three and runs this; `cargo test` only compiles it. Everything
//! else (Asterisk, Rouse, push services) is the rig of tests/live.
//!
//! To sleep is to be killed: `kill -9` takes the process and its sockets, nobody is told, and what
//! the push would start is started by the test.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests own processes, threads and clocks, as their peers do"
)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a rig that cannot be built fails its test with the sentence that says why"
)]

/// Makes tests of async functions that take a [`phone::Model`] and [`rig::stage::Peers`].
macro_rules! tests {
    ($model:ident, $asterisk:ident, $phone:ident: $($test:ident),+) => {
        $(
            #[ignore = "needs Linphone, baresip and SIP.js: make test-peers"]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::calls::$test(
                    $crate::phone::Model::$model,
                    $crate::rig::stage::Peers {
                        asterisk: $crate::rig::asterisk::Version::$asterisk,
                        phone: rouse::proto::Transport::$phone,
                    },
                )
                .await;
            }
        )+
    };
}

/// Runs tests on each Asterisk over UDP, TCP and TLS.
macro_rules! on_every_path {
    ($model:ident: $($test:ident),+ $(,)?) => {
        mod chan_sip {
            mod udp { tests!($model, Sixteen, Udp: $($test),+); }
            mod tcp { tests!($model, Sixteen, Tcp: $($test),+); }
            mod tls { tests!($model, Sixteen, Tls: $($test),+); }
        }
        mod pjsip {
            mod udp { tests!($model, TwentyTwo, Udp: $($test),+); }
            mod tcp { tests!($model, TwentyTwo, Tcp: $($test),+); }
            mod tls { tests!($model, TwentyTwo, Tls: $($test),+); }
        }
    };
}

/// Runs SIP.js's tests on one path.
macro_rules! calls_by_websocket {
    ($asterisk:ident, $phone:ident) => {
        tests!(SipJs, $asterisk, $phone:
            an_awake_phone_is_called_and_either_side_hangs_up,
            a_sleeping_phone_is_woken_and_either_side_hangs_up,
            a_suspended_phone_is_pushed_and_rings_once,
            a_phone_calls_and_either_side_hangs_up,
            a_phone_that_rings_is_cancelled_when_the_time_is_up,
            a_phone_whose_socket_changes_in_mid_call_hears_the_end
        );
    };
}

mod calls;
mod forks;
mod nat;
mod phone;
#[path = "../live/rig/mod.rs"]
#[expect(dead_code, reason = "the live tests use more of it")]
mod rig;

mod linphone {
    on_every_path!(
        Linphone: an_awake_phone_is_called_and_either_side_hangs_up,
        a_sleeping_phone_is_woken_and_either_side_hangs_up,
        a_suspended_phone_is_pushed_and_rings_once,
        a_phone_holds_its_call_and_gives_it_away,
        a_phone_calls_and_either_side_hangs_up,
        a_phone_that_rings_is_cancelled_when_the_time_is_up,
    );
}

/// Its contact cannot carry push parameters: Rouse is told of them (`[[device]]`).
mod baresip {
    on_every_path!(
        Baresip: an_awake_phone_is_called_and_either_side_hangs_up,
        a_sleeping_phone_is_woken_and_either_side_hangs_up,
        a_phone_calls_and_either_side_hangs_up,
        a_phone_that_rings_is_cancelled_when_the_time_is_up,
    );
}

/// SIP.js has WebSockets only, as browsers do.
mod sipjs {
    mod chan_sip {
        mod ws {
            calls_by_websocket!(Sixteen, Ws);
        }
        mod wss {
            calls_by_websocket!(Sixteen, Wss);
        }
    }
    mod pjsip {
        mod ws {
            calls_by_websocket!(TwentyTwo, Ws);
        }
        mod wss {
            calls_by_websocket!(TwentyTwo, Wss);
        }
    }
}
