//! RFC 3261 §17.1.2, the non-INVITE client transaction.
//!
//! > If an unreliable transport is in use, the client transaction MUST set timer E to fire in T1
//! > seconds. If timer E fires while still in this state, the timer is reset, but this time with a
//! > value of MIN(2*T1, T2).
//!
//! > If Timer E fires while in the "Proceeding" state, the request MUST be passed to the transport
//! > layer for retransmission, and Timer E MUST be reset with a value of T2 seconds. If timer F
//! > fires while in the "Proceeding" state, the TU MUST be informed of a timeout, and the client
//! > transaction MUST transition to the terminated state.
//!
//! > Once the client transaction enters the "Completed" state, it MUST set Timer K to fire in T4
//! > seconds for unreliable transports, and zero seconds for reliable transports.
//!
//! > Once the transaction is in the terminated state, it MUST be destroyed immediately.

use rouse::proto::Destination;
use rouse::proto::timer::Letter;
use rouse::proto::transaction::{ClientEvent, ClientId};

use crate::rig::{PHONE, Rig, outgoing, tcp, udp};

fn register_udp(rig: &mut Rig) -> ClientId {
    let to = Destination::Flow(udp(PHONE).id);
    rig.start(to, false, |branch| outgoing("REGISTER", branch))
}

fn register_tcp(rig: &mut Rig) -> ClientId {
    let to = Destination::Flow(tcp(PHONE).id);
    rig.start(to, true, |branch| outgoing("REGISTER", branch))
}

fn times(rig: &mut Rig) -> Vec<u64> {
    rig.sent().iter().map(|sent| sent.at).collect()
}

#[test]
fn a_request_over_udp_is_sent_eleven_times_and_times_out_after_64_t1() {
    let mut rig = Rig::new();
    let id = register_udp(&mut rig);
    assert_eq!(rig.armed(), [(Letter::E, 500), (Letter::F, 32_000)]);
    rig.run_until(60_000);
    assert_eq!(
        times(&mut rig),
        [
            0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(rig.told, [(32_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn a_request_over_tcp_is_sent_once_and_times_out_after_64_t1() {
    let mut rig = Rig::new();
    let id = register_tcp(&mut rig);
    assert_eq!(rig.armed(), [(Letter::F, 32_000)]);
    rig.run_until(60_000);
    assert_eq!(times(&mut rig), [0]);
    assert_eq!(rig.told, [(32_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn after_a_provisional_response_the_pauses_are_t2_and_timer_f_goes_on() {
    let mut rig = Rig::new();
    let id = register_udp(&mut rig);
    rig.run_until(600);
    assert_eq!(
        rig.answer_udp(id, 100, "REGISTER"),
        Some(ClientEvent::Provisional)
    );
    // Timer E is not touched by the response, only set anew when it fires.
    assert_eq!(rig.armed(), [(Letter::E, 900), (Letter::F, 31_400)]);
    rig.run_until(60_000);
    assert_eq!(
        times(&mut rig),
        [
            0, 500, 1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500
        ]
    );
    assert_eq!(rig.told, [(32_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn a_final_response_over_udp_is_reported_once_and_copies_are_absorbed_for_t4() {
    for status in [200, 302, 401, 503, 603] {
        let mut rig = Rig::new();
        let id = register_udp(&mut rig);
        rig.run_until(600);
        assert_eq!(
            rig.answer_udp(id, status, "REGISTER"),
            Some(ClientEvent::Final)
        );
        assert_eq!(rig.armed(), [(Letter::K, 5_000)]);
        rig.sent();
        rig.run_until(5_599);
        assert_eq!(rig.answer_udp(id, status, "REGISTER"), None);
        assert_eq!(rig.table.count(), (0, 1));
        assert_eq!(rig.drops, []);
        rig.run_until(5_600);
        rig.assert_quiet();
        assert_eq!(rig.sent(), []);
        assert_eq!(rig.told, []);
    }
}

#[test]
fn a_final_response_over_tcp_ends_the_transaction() {
    let mut rig = Rig::new();
    let id = register_tcp(&mut rig);
    assert_eq!(
        rig.answer_tcp(id, 100, "REGISTER"),
        Some(ClientEvent::Provisional)
    );
    assert_eq!(
        rig.answer_tcp(id, 200, "REGISTER"),
        Some(ClientEvent::Final)
    );
    rig.assert_quiet();
}
