//! What the two Asterisks really send, each seen on Asterisk's own wire in a call through Rouse, so
//! that a test fails when a peer's habit or Rouse's answer to it changes. README.md has the list.

use std::time::Duration;

use rouse::proto::sip::Method;
use rouse::standin::call::plain_sdp;

use crate::rig::asterisk::{Keeps, Version};
use crate::rig::eventually;
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};
use crate::rig::wire::Wire;

mod chan_sip {
    mod udp {
        tests!(Sixteen, Udp:
            chan_sip_asks_options_before_it_answers_the_register,
            chan_sip_cancels_without_route,
            chan_sip_acknowledges_a_failure_with_the_contact_of_the_ringing,
            a_call_answered_elsewhere_says_so,
            a_notify_follows_the_register,
            media_moves_to_the_phones_by_reinvite
        );
    }
}
mod pjsip {
    mod udp {
        tests!(TwentyTwo, Udp:
            pjsip_repeats_the_path_on_cancel,
            rouse_announces_the_path_that_pjsip_would_refuse,
            a_call_answered_elsewhere_says_so,
            a_notify_follows_the_register,
            media_moves_to_the_phones_by_reinvite
        );
    }
}

async fn chan_sip_asks_options_before_it_answers_the_register(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    let contacts = stage.asterisk.contacts(&agent);
    let order = stage.asterisk.wire(|message| {
        let asks = message.method() == Some("OPTIONS")
            && message
                .uri()
                .is_some_and(|uri| contacts.iter().any(|contact| contact == uri));
        let grants = message.status() == Some(200)
            && message.answers() == "REGISTER"
            && message
                .header("To")
                .contains(&format!("sip:{}@", agent.user));
        message.is_sent && (asks || grants)
    });
    let methods: Vec<_> = order.iter().map(Wire::method).collect();
    assert_eq!(methods.first(), Some(&Some("OPTIONS")), "{methods:?}");
    // It comes before the binding does, and must be answered all the same.
    stage.reachable(&agent).await;
    let asked = order[0].header("Call-ID");
    assert!(stage.dialog(asked).iter().all(|message| !message.is_again));
}

async fn chan_sip_cancels_without_route(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.asterisk.call(&agent, 1);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.wait_cancel()
        .await
        .expect("the CANCEL finds its INVITE");
    stage.asterisk.call_ended(&agent, SOON).await;

    let wire = stage.dialog(&call.call_id());
    let cancel = sent(&wire, "CANCEL").next().expect("it was sent");
    assert!(cancel.headers("Route").is_empty());
    assert_eq!(sent(&wire, "CANCEL").count(), 1, "it was answered at once");
}

async fn chan_sip_acknowledges_a_failure_with_the_contact_of_the_ringing(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.reject(486).await.expect("the ACK comes");
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "BUSY/17");

    // The ACK is taken whatever its URI says: the 486 comes once.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let wire = stage.dialog(&call.call_id());
    let busy = wire.iter().filter(|message| message.status() == Some(486));
    assert_eq!(busy.count(), 1);
    let invite = sent(&wire, "INVITE")
        .next()
        .and_then(Wire::uri)
        .expect("it was sent");
    let ack = sent(&wire, "ACK")
        .next()
        .and_then(Wire::uri)
        .expect("it was sent");
    assert_ne!(ack, invite, "the habit that this test is about");
}

/// Asterisk rings two agents at once; the first that answers has the call.
async fn a_call_answered_elsewhere_says_so(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (one, mut first) = stage.agent(Keeps::One);
    let (two, mut second) = stage.agent(Keeps::One);
    first.wake().await;
    second.wake().await;
    stage.reachable(&one).await;
    stage.reachable(&two).await;

    stage.asterisk.call_both(&one, &two);
    let mut ringing = first.app().next_call().await.expect("the first rings");
    let mut answered = second.app().next_call().await.expect("the second rings");
    ringing.ring().await.expect("it rings");
    answered.answer().await.expect("the ACK comes");
    let cancelled = ringing
        .wait_cancel()
        .await
        .expect("Asterisk cancels the other");
    let reason = cancelled.reasons.join(", ");
    assert!(
        reason.contains("cause=200") && reason.contains("Call completed elsewhere"),
        "{reason}"
    );
    if peers.asterisk == Version::TwentyTwo {
        assert!(
            reason.contains("Q.850") && reason.contains("cause=26"),
            "{reason}"
        );
    }
    assert_eq!(answered.hangup().await.expect("the BYE is answered"), 200);
}

/// An empty mailbox is enough for it.
async fn a_notify_follows_the_register(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    let notify = eventually("the NOTIFY reaches the phone", SOON, async || {
        let mut seen = handset.app().requests_seen().into_iter();
        seen.find(|request| request.method() == Some(Method::Notify))
    })
    .await;
    let call_id = String::from_utf8_lossy(notify.call_id().expect("it has one")).into_owned();
    let answers = async || {
        let wire = stage.dialog(&call_id);
        let answer = wire.iter().find_map(Wire::status);
        (answer == Some(200)).then_some(wire)
    };
    let wire = eventually("and its answer Asterisk", SOON, answers).await;
    assert_eq!(sent(&wire, "NOTIFY").count(), 1, "it was answered at once");
}

/// Both legs get a re-INVITE right behind the ACK, and the one that stays one more before the BYE.
async fn media_moves_to_the_phones_by_reinvite(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut caller) = stage.agent(Keeps::OneDirect);
    let (agent, mut callee) = stage.agent(Keeps::OneDirect);
    caller.wake().await;
    callee.wake().await;
    stage.reachable(&agent).await;

    let sdp = plain_sdp(caller.app().local_addr().ip());
    let outgoing = caller.app().call(&agent.user, &sdp).await;
    let mut outgoing = outgoing.expect("it may call");
    let mut incoming = callee.app().next_call().await.expect("it rings");
    incoming.answer().await.expect("the ACK comes");
    outgoing
        .wait_answer()
        .await
        .expect("the caller is answered");
    incoming.wait_reinvite().await.expect("the media moves");
    outgoing.wait_reinvite().await.expect("the media moves");
    assert_eq!(outgoing.hangup().await.expect("the BYE is answered"), 200);
    incoming.wait_bye().await.expect("the caller has hung up");
    assert_eq!((caller.invites(), callee.invites()), (0, 1));
}

async fn pjsip_repeats_the_path_on_cancel(peers: Peers) {
    let setup = Setup {
        contact: "path",
        ..Setup::default()
    };
    let stage = Stage::with(peers, &setup).await;
    let (agent, mut handset) = stage.agent(Keeps::Path);
    handset.wake().await;
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 1);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.wait_cancel()
        .await
        .expect("the CANCEL finds its INVITE");
    stage.asterisk.call_ended(&agent, SOON).await;
    let wire = stage.dialog(&call.call_id());
    let invite = routes(sent(&wire, "INVITE").next());
    let cancel = routes(sent(&wire, "CANCEL").next());
    assert!(
        !invite.is_empty() && cancel.len() > invite.len(),
        "{invite:?} {cancel:?}"
    );
    assert_eq!(sent(&wire, "CANCEL").count(), 1, "it was answered at once");
    assert_eq!(handset.invites(), 1);
}

/// Without `Supported: path` PJSIP answers 420 to a Path.
async fn rouse_announces_the_path_that_pjsip_would_refuse(peers: Peers) {
    let setup = Setup {
        contact: "path",
        ..Setup::default()
    };
    let stage = Stage::with(peers, &setup).await;
    let (agent, mut handset) = stage.agent(Keeps::Path);
    handset.wake().await;
    let registers = stage.asterisk.wire(|message| {
        message.method() == Some("REGISTER") && message.header("To").contains(&agent.user)
    });
    assert!(!registers.is_empty());
    for register in registers {
        assert!(!register.headers("Path").is_empty());
        assert!(
            register.header("Supported").contains("path"),
            "{}",
            register.text
        );
    }
}

fn sent<'w>(wire: &'w [Wire], method: &'static str) -> impl Iterator<Item = &'w Wire> {
    wire.iter()
        .filter(move |message| message.is_sent && message.method() == Some(method))
}

fn routes(message: Option<&Wire>) -> Vec<&str> {
    message
        .map(|message| message.headers("Route"))
        .unwrap_or_default()
        .into_iter()
        .flat_map(|line| line.split(','))
        .collect()
}
