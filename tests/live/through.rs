//! What Rouse has no business with goes through it as it came: descriptions with SRTP and video,
//! early media, reliable provisional responses (RFC 3262), session timers (RFC 4028), hold, digits,
//! transfers (RFC 3515, RFC 3891). Each is made by a real Asterisk or answered by one, and what
//! arrived is compared with what was sent.

use std::time::Duration;

use rouse::proto::Transport;
use rouse::proto::sip::{HeaderName, Message, Method};
use rouse::standin::call::{Content, IncomingCall, OutgoingCall, plain_sdp};

use crate::rig::asterisk::{Agent, Keeps, Version};
use crate::rig::eventually;
use crate::rig::handset::Handset;
use crate::rig::stage::{Peers, SOON, Stage};
use crate::rig::wire::Wire;

on_both_asterisks!(
    srtp_and_video_pass_untouched_to_asterisk,
    srtp_and_video_pass_untouched_to_the_phone,
    early_media_passes_to_asterisk,
    early_media_passes_to_the_phone,
    a_call_is_held_and_resumed,
    digits_by_info_pass_both_ways,
    the_message_waiting_notify_passes_as_it_is,
    the_phone_refreshes_the_session,
    a_phone_transfers_a_call_blindly_to_a_phone_that_sleeps,
    a_phone_transfers_a_call_to_one_that_it_has_asked,
    both_sides_of_rouse_are_in_the_route_when_the_transport_changes,
);

/// chan_sip has no 100rel.
mod reliable {
    mod udp {
        tests!(TwentyTwo, Udp: a_phones_reliable_progress_passes, asterisks_reliable_progress_passes);
    }
    mod tls {
        tests!(TwentyTwo, Tls: a_phones_reliable_progress_passes, asterisks_reliable_progress_passes);
    }
    mod refused {
        tests!(Sixteen, Tls: what_asterisk_does_not_support_is_refused_by_asterisk);
    }
}

/// SRTP by SDES, video, and lines that nobody knows.
fn secure_sdp(handset: &mut Handset) -> String {
    let ip = handset.app().local_addr().ip();
    format!(
        "v=0\r\no=phone 2890844526 2890842807 IN IP4 {ip}\r\ns=A call, \"quoted\" and 100% whole\r\n\
         c=IN IP4 {ip}\r\nb=AS:512\r\nt=0 0\r\na=x-nobody-knows: <sip:a;b=c>\r\n\
         m=audio 40000 RTP/SAVP 8 0 101\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-16\r\na=sendrecv\r\n\
         m=video 40002 RTP/SAVP 99\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj\r\n\
         a=rtpmap:99 H264/90000\r\na=fmtp:99 profile-level-id=42801F;packetization-mode=1\r\n\
         a=rtcp-fb:* nack pli\r\na=sendrecv\r\n"
    )
}

async fn srtp_and_video_pass_untouched_to_asterisk(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::OneSecure);
    handset.wake().await;
    let sdp = secure_sdp(&mut handset);
    let call = handset.app().call("600", &sdp).await;
    let mut call = call.expect("Asterisk lets it call");
    let answer = call.wait_answer().await.expect("the echo answers");
    stage.talking(&agent).await;

    let answered = answer_sent(&stage, &call.call_id(), "INVITE", 200).await;
    left_whole(&answered, &answer.response);
    // Challenged once. What came in one segment behind an ACK is no message of its own in PJSIP's
    // log, so that the second INVITE may be missing there.
    let wire = stage.dialog(&call.call_id());
    let invites = wire.iter().filter(|wire| wire.method() == Some("INVITE"));
    assert!(invites.map(|invite| came_whole(invite, &sdp)).count() >= 1);
    let body = answered.body();
    assert_eq!(body.matches("RTP/SAVP").count(), 2, "{body}");
    assert_eq!(body.matches("a=crypto:").count(), 2, "{body}");
    assert!(
        body.contains("m=video ") && !body.contains("m=video 0"),
        "{body}"
    );
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

async fn srtp_and_video_pass_untouched_to_the_phone(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::OneSecure);
    let mut call = rings(&stage, &agent, &mut handset).await;
    let offer = String::from_utf8_lossy(call.invite.body()).into_owned();
    assert!(
        offer.contains("RTP/SAVP") && offer.contains("a=crypto:"),
        "{offer}"
    );
    let sdp = secure_sdp(&mut handset);
    // An answer has as many media as its offer.
    let sdp = match offer.contains("m=video") {
        true => sdp,
        false => sdp
            .split_once("m=video")
            .map_or_else(String::new, |(audio, _)| audio.to_owned()),
    };
    call.answer_with(Content::sdp(&sdp))
        .await
        .expect("the ACK comes");
    stage.talking(&agent).await;

    let invite = request_sent(&stage, &call.call_id(), "INVITE").await;
    left_whole(&invite, &call.invite);
    let answered = answer_heard(&stage, &call.call_id(), "INVITE", 200).await;
    came_whole(&answered, &sdp);
    stage.asterisk.hang_up(&agent);
    call.wait_bye().await.expect("Asterisk hangs up");
}

async fn early_media_passes_to_asterisk(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = rings(&stage, &agent, &mut handset).await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    call.progress(183, Content::sdp(&sdp))
        .await
        .expect("it is sent");
    let heard = answer_heard(&stage, &call.call_id(), "INVITE", 183).await;
    came_whole(&heard, &sdp);
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

async fn early_media_passes_to_the_phone(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let call = handset.app().call("602", &sdp).await;
    let mut call = call.expect("Asterisk lets it call");
    let progress = call.wait_progress().await.expect("602 plays something");
    assert_eq!(progress.status(), Some(183));
    let sent = answer_sent(&stage, &call.call_id(), "INVITE", 183).await;
    assert!(sent.body().contains("m=audio"), "{}", sent.text);
    left_whole(&sent, &progress);
    call.wait_answer().await.expect("602 answers in the end");
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

async fn a_phones_reliable_progress_passes(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = rings(&stage, &agent, &mut handset).await;
    assert!(call.invite.lists(HeaderName::Supported, "100rel"));
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let reliable = [("Require", "100rel"), ("RSeq", "776655")];
    call.progress(183, Content::sdp(&sdp).with(&reliable))
        .await
        .expect("it is sent");
    let prack = call
        .wait_request("PRACK")
        .await
        .expect("PJSIP acknowledges it");
    let number = call.invite.cseq().expect("it has one").number;
    assert_eq!(
        prack.header_named("RAck").map(String::from_utf8_lossy),
        Some(format!("776655 {number} INVITE").into())
    );
    // The 200 of a description that is there already has none.
    call.answer_with(Content::default())
        .await
        .expect("the ACK comes");
    stage.talking(&agent).await;
    let heard = answer_heard(&stage, &call.call_id(), "INVITE", 183).await;
    came_whole(&heard, &sdp);
    assert_eq!(heard.header("RSeq"), "776655");
    assert_eq!(heard.header("Require"), "100rel");
    answer_heard(&stage, &call.call_id(), "PRACK", 200).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

async fn asterisks_reliable_progress_passes(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let require = [("Require", "100rel")];
    let content = Content::sdp(&sdp).with(&require);
    let call = handset.app().call_with("602", content).await;
    let mut call = call.expect("Asterisk lets it call");
    let progress = call.wait_progress().await.expect("602 plays something");
    assert_eq!(progress.status(), Some(183));
    assert!(progress.lists(HeaderName::Require, "100rel"));
    let sent = answer_sent(&stage, &call.call_id(), "INVITE", 183).await;
    left_whole(&sent, &progress);
    let acknowledged = call.prack(&progress).await.expect("it is answered");
    assert_eq!(acknowledged.status(), Some(200));
    call.wait_answer().await.expect("602 answers in the end");
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

async fn what_asterisk_does_not_support_is_refused_by_asterisk(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let require = [("Require", "100rel")];
    let content = Content::sdp(&sdp).with(&require);
    let call = handset.app().call_with("602", content).await;
    let mut call = call.expect("Asterisk answers");
    let refusal = call.wait_final().await.expect("it is refused");
    assert_eq!(refusal.status(), Some(420));
    assert_eq!(
        refusal.header_named("Unsupported"),
        Some(b"100rel".as_slice())
    );
}

async fn a_call_is_held_and_resumed(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = rings(&stage, &agent, &mut handset).await;
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    for (number, (asked, answered)) in [("sendonly", "recvonly"), ("sendrecv", "sendrecv")]
        .into_iter()
        .enumerate()
    {
        let sdp = sdp
            .replace("o=- 1 1", &format!("o=- 1 {}", number + 2))
            .replace("a=sendrecv", &format!("a={asked}"));
        let response = call.reinvite_with(Content::sdp(&sdp)).await;
        let response = response.expect("it is answered");
        assert_eq!(response.status(), Some(200));
        let offer = request_heard(&stage, &call.call_id(), "INVITE").await;
        came_whole(&offer, &sdp);
        let body = String::from_utf8_lossy(response.body()).into_owned();
        assert!(body.contains(&format!("a={answered}")), "{body}");
        let number = response.cseq().expect("it has one").number;
        let answer = logged(&stage, &call.call_id(), "the answer", |wire| {
            wire.is_sent && wire.header("CSeq") == format!("{number} INVITE")
        })
        .await;
        left_whole(&answer, &response);
    }
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
}

async fn digits_by_info_pass_both_ways(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::OneTimed);
    handset.wake().await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let call = handset.app().call("603", &sdp).await;
    let mut call = call.expect("Asterisk lets it call");
    call.wait_answer().await.expect("603 answers");

    let body = "Signal=7\r\nDuration=160\r\n";
    let content = Content {
        lines: &[],
        kind: "application/dtmf-relay",
        body,
    };
    let response = call.request("INFO", content).await;
    let response = response.expect("it is answered");
    assert_eq!(response.status(), Some(200));
    let digit = call.wait_request("INFO").await.expect("603 sends a digit");
    let text = String::from_utf8_lossy(digit.body()).into_owned();
    assert!(text.contains("Signal=5"), "{text}");

    let heard = request_heard(&stage, &call.call_id(), "INFO").await;
    came_whole(&heard, body);
    assert_eq!(heard.header("Content-Type"), "application/dtmf-relay");
    let sent = request_sent(&stage, &call.call_id(), "INFO").await;
    left_whole(&sent, &digit);
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

async fn the_message_waiting_notify_passes_as_it_is(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    let notify = eventually("the NOTIFY reaches the phone", SOON, async || {
        let mut seen = handset.app().requests_seen().into_iter();
        seen.find(|request| request.method() == Some(Method::Notify))
    })
    .await;
    let body = String::from_utf8_lossy(notify.body()).into_owned();
    assert!(body.contains("Messages-Waiting: no"), "{body}");
    let call_id = String::from_utf8_lossy(notify.call_id().expect("it has one")).into_owned();
    let sent = request_sent(&stage, &call_id, "NOTIFY").await;
    left_whole(&sent, &notify);
}

async fn the_phone_refreshes_the_session(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::OneTimed);
    let mut call = rings(&stage, &agent, &mut handset).await;
    let offered = call.invite.header_named("Session-Expires");
    let offered = String::from_utf8_lossy(offered.expect("Asterisk asks for it")).into_owned();
    assert!(offered.starts_with("90"), "{offered}");
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let timer = [
        ("Require", "timer"),
        ("Session-Expires", "90;refresher=uas"),
    ];
    call.answer_with(Content::sdp(&sdp).with(&timer))
        .await
        .expect("the ACK comes");
    stage.talking(&agent).await;
    let heard = answer_heard(&stage, &call.call_id(), "INVITE", 200).await;
    assert_eq!(heard.header("Session-Expires"), "90;refresher=uas");
    assert_eq!(heard.header("Require"), "timer");

    let refresh = [
        ("Supported", "timer"),
        ("Session-Expires", "90;refresher=uac"),
        ("Min-SE", "90"),
    ];
    let response = call.reinvite_with(Content::sdp(&sdp).with(&refresh)).await;
    let response = response.expect("it is answered");
    assert_eq!(response.status(), Some(200));
    let granted = response.header_named("Session-Expires");
    let granted = String::from_utf8_lossy(granted.expect("it is granted")).into_owned();
    assert!(granted.starts_with("90"), "{granted}");
    // chan_sip knows no UPDATE.
    if peers.asterisk == Version::TwentyTwo {
        let update = Content::default().with(&refresh);
        let response = call.request("UPDATE", update).await;
        let response = response.expect("it is answered");
        assert_eq!(response.status(), Some(200));
        assert!(response.header_named("Session-Expires").is_some());
    }
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

/// Both Asterisks at once: neither takes a session shorter than 90 s, and each refreshes it after
/// the half.
#[ignore = "takes 46 s: make test-peers"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_refreshes_the_session_after_half_of_its_time() {
    let refreshed = |asterisk, phone| asterisk_refreshes_the_session(Peers { asterisk, phone });
    tokio::join!(
        refreshed(Version::Sixteen, Transport::Tls),
        refreshed(Version::TwentyTwo, Transport::Tcp),
    );
}

async fn asterisk_refreshes_the_session(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::OneTimed);
    let mut call = rings(&stage, &agent, &mut handset).await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let by_update = peers.asterisk == Version::TwentyTwo;
    let timer = [
        ("Require", "timer"),
        ("Session-Expires", "90;refresher=uac"),
        ("Allow", if by_update { "UPDATE" } else { "INVITE" }),
    ];
    call.answer_with(Content::sdp(&sdp).with(&timer))
        .await
        .expect("the ACK comes");
    stage.talking(&agent).await;
    call.within(Duration::from_secs(50));
    let refresh = if by_update {
        call.wait_request("UPDATE").await
    } else {
        call.wait_reinvite().await
    };
    let refresh = refresh.expect("Asterisk refreshes");
    let asked = refresh.header_named("Session-Expires");
    let asked = String::from_utf8_lossy(asked.expect("it asks again")).into_owned();
    assert!(asked.starts_with("90"), "{asked}");
    let method = if by_update { "UPDATE" } else { "INVITE" };
    let sent = request_sent(&stage, &call.call_id(), method).await;
    left_whole(&sent, &refresh);
    assert!(
        stage.push.of(&handset, "call").is_empty(),
        "a quiet phone in a call is not woken"
    );
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
}

/// Three agents: one calls another, who is to be rid of the call, and a third.
struct Party {
    stage: Stage,
    caller: Handset,
    transferor: Handset,
    target: Agent,
    third: Handset,
    outgoing: OutgoingCall,
    incoming: IncomingCall,
}

impl Party {
    async fn new(peers: Peers) -> Self {
        let stage = Stage::new(peers).await;
        let (_, mut caller) = stage.agent(Keeps::One);
        let (called, mut transferor) = stage.agent(Keeps::One);
        let (target, mut third) = stage.agent(Keeps::One);
        caller.wake().await;
        transferor.wake().await;
        third.wake().await;
        stage.reachable(&called).await;
        stage.reachable(&target).await;
        let sdp = plain_sdp(caller.app().local_addr().ip());
        let outgoing = caller.app().call(&called.user, &sdp).await;
        let mut outgoing = outgoing.expect("it may call");
        let incoming = transferor.app().next_call().await;
        let mut incoming = incoming.expect("it rings");
        incoming.answer().await.expect("the ACK comes");
        outgoing.wait_answer().await.expect("it is answered");
        Self {
            stage,
            caller,
            transferor,
            target,
            third,
            outgoing,
            incoming,
        }
    }

    /// The transferor asks Asterisk to send its caller there.
    async fn refer(&mut self, refer_to: &str) {
        let lines = [
            ("Refer-To", refer_to),
            ("Referred-By", "<sip:transferor@example.com>"),
        ];
        let content = Content::default().with(&lines);
        let response = self.incoming.request("REFER", content).await;
        let response = response.expect("it is answered");
        assert_eq!(response.status(), Some(202));
        let refer = request_heard(&self.stage, &self.incoming.call_id(), "REFER").await;
        assert_eq!(refer.header("Refer-To"), refer_to, "it came as it was sent");
    }

    /// Asterisk says that the transfer worked (RFC 3515 §2.4.5), and the transferor hangs up.
    async fn gives_away(&mut self) {
        loop {
            let notify = self.incoming.wait_request("NOTIFY").await;
            let notify = notify.expect("Asterisk says how it goes");
            let body = String::from_utf8_lossy(notify.body()).into_owned();
            assert!(body.starts_with("SIP/2.0 "), "{body}");
            if body.starts_with("SIP/2.0 200") {
                break;
            }
        }
        assert_eq!(self.incoming.hangup().await.expect("it is answered"), 200);
    }

    /// Caller and target talk; the caller ends it.
    async fn ends(mut self, mut arrived: IncomingCall) {
        assert_eq!(self.outgoing.hangup().await.expect("it is answered"), 200);
        arrived.wait_bye().await.expect("the caller has hung up");
        assert_eq!(
            (self.caller.invites(), self.transferor.invites()),
            (0, 1),
            "nobody else was called"
        );
        assert_eq!(self.third.invites(), 1);
    }
}

async fn a_phone_transfers_a_call_blindly_to_a_phone_that_sleeps(peers: Peers) {
    let mut party = Party::new(peers).await;
    party.third.sleep();
    let refer_to = format!("<sip:{}@{}>", party.target.user, party.stage.rouse.ip);
    party.refer(&refer_to).await;
    party.stage.push.next(&party.third, "call", 1).await;
    party.third.wake().await;
    let arrived = party.third.app().next_call().await;
    let mut arrived = arrived.expect("it rings");
    arrived.answer().await.expect("the ACK comes");
    party.gives_away().await;
    party.ends(arrived).await;
}

async fn a_phone_transfers_a_call_to_one_that_it_has_asked(peers: Peers) {
    let mut party = Party::new(peers).await;
    let sdp = plain_sdp(party.transferor.app().local_addr().ip());
    let asked = party.transferor.app().call(&party.target.user, &sdp).await;
    let mut asked = asked.expect("it may call");
    let arrived = party.third.app().next_call().await;
    let mut arrived = arrived.expect("it rings");
    arrived.answer().await.expect("the ACK comes");
    asked.wait_answer().await.expect("it is answered");
    let refer_to = format!(
        "<sip:{}@{}?Replaces={}>",
        party.target.user,
        party.stage.rouse.ip,
        asked.replaces()
    );
    party.refer(&refer_to).await;
    party.gives_away().await;
    asked.wait_bye().await.expect("it is rid of this one too");
    party.ends(arrived).await;
}

/// RFC 5658 §3.1: each side sees the address that it can reach first.
async fn both_sides_of_rouse_are_in_the_route_when_the_transport_changes(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = rings(&stage, &agent, &mut handset).await;
    let seen: Vec<String> = call
        .invite
        .values(HeaderName::RecordRoute)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    let [near, far] = &seen[..] else {
        panic!("{seen:?}");
    };
    let reached = stage.rouse.address(peers.phone);
    assert!(near.contains(&reached.to_string()), "{near}");
    assert!(
        near.contains(&format!("transport={}", peers.phone.label())),
        "{near}"
    );
    let upstream = stage.rouse.address(Transport::Udp);
    assert!(far.contains(&upstream.to_string()), "{far}");
    assert!(!far.contains("transport="), "{far}");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    let answered = answer_heard(&stage, &call.call_id(), "INVITE", 200).await;
    let routes: Vec<&str> = answered
        .headers("Record-Route")
        .into_iter()
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    assert_eq!(routes, seen, "Asterisk sees the same, in the same order");
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

/// The handset registers and rings.
async fn rings(stage: &Stage, agent: &Agent, handset: &mut Handset) -> IncomingCall {
    handset.wake().await;
    stage.reachable(agent).await;
    stage.asterisk.call(agent, 9);
    handset.app().next_call().await.expect("it rings")
}

/// Waits until Asterisk's log has a message of this call that `is_it`, and returns the last one.
async fn logged(stage: &Stage, call_id: &str, what: &str, is_it: impl Fn(&Wire) -> bool) -> Wire {
    eventually(&format!("{what} in Asterisk's log"), SOON, async || {
        let wire = stage.dialog(call_id);
        wire.into_iter().rfind(|wire| is_it(wire))
    })
    .await
}

/// A request that Asterisk received.
async fn request_heard(stage: &Stage, call_id: &str, method: &str) -> Wire {
    let is_it = |wire: &Wire| !wire.is_sent && wire.method() == Some(method);
    logged(stage, call_id, method, is_it).await
}

/// A request that Asterisk sent.
async fn request_sent(stage: &Stage, call_id: &str, method: &str) -> Wire {
    let is_it = |wire: &Wire| wire.is_sent && wire.method() == Some(method);
    logged(stage, call_id, method, is_it).await
}

/// A response that Asterisk received.
async fn answer_heard(stage: &Stage, call_id: &str, method: &str, status: u16) -> Wire {
    let is_it =
        |wire: &Wire| !wire.is_sent && wire.status() == Some(status) && wire.answers() == method;
    logged(stage, call_id, &format!("{status} to {method}"), is_it).await
}

/// A response that Asterisk sent.
async fn answer_sent(stage: &Stage, call_id: &str, method: &str, status: u16) -> Wire {
    let is_it =
        |wire: &Wire| wire.is_sent && wire.status() == Some(status) && wire.answers() == method;
    logged(stage, call_id, &format!("{status} to {method}"), is_it).await
}

/// Asserts that Asterisk received this body, octet by octet as far as its log can tell.
fn came_whole(wire: &Wire, body: &str) {
    assert!(!wire.is_sent);
    same_body(wire, body.as_bytes());
}

/// Asserts that the phone received what Asterisk sent.
fn left_whole(wire: &Wire, message: &Message) {
    assert!(wire.is_sent);
    same_body(wire, message.body());
}

fn same_body(wire: &Wire, body: &[u8]) {
    assert_eq!(wire.header("Content-Length"), body.len().to_string());
    let body = String::from_utf8_lossy(body).replace("\r\n", "\n");
    assert_eq!(wire.body(), body.trim_end());
}
