//! The stand-in phone against the stand-in Asterisk, without a gateway between them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rouse::proto::Transport;
use rouse::standin::asterisk::{Asterisk, AsteriskConfig};
use rouse::standin::call::plain_sdp;
use rouse::standin::digest::{Algorithm, Challenge, Credentials, Request};
use rouse::standin::error::PhoneError;
use rouse::standin::phone::{Phone, PhoneConfig};
use rouse::standin::timeline::Timeline;
use tokio::net::UdpSocket;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

async fn asterisk(change: impl FnOnce(&mut AsteriskConfig)) -> Asterisk {
    let mut config = AsteriskConfig::new(LOOPBACK, &[("1001", "secret"), ("1002", "hidden")]);
    change(&mut config);
    Asterisk::start(config, Timeline::new()).await.unwrap()
}

fn phone_config(asterisk: &Asterisk, transport: Transport) -> PhoneConfig {
    PhoneConfig {
        transport,
        ..PhoneConfig::new("1001", "pbx.example.com", "secret", asterisk.address())
    }
}

async fn awake(config: PhoneConfig) -> Phone {
    Phone::wake(config, Timeline::new()).await.unwrap()
}

#[tokio::test]
async fn a_phone_registers_with_and_without_qop_and_leaves() {
    for transport in BOTH {
        for qop in [false, true] {
            let asterisk = asterisk(|config| config.qop = qop).await;
            let mut phone = awake(phone_config(&asterisk, transport)).await;
            let registered = phone.register().await.unwrap();
            assert_eq!((registered.status, registered.requests), (200, 2));
            assert_eq!(registered.expires, 3600);
            assert_eq!(registered.contacts.len(), 1);
            let registration = asterisk.registered("1001").await.unwrap();
            assert_eq!(registration.source, phone.local_addr());
            assert_eq!(asterisk.qualify("1001").await.unwrap(), 200);
            phone.register().await.unwrap();
            phone.unregister().await.unwrap();
            assert_eq!(asterisk.registration("1001"), None);
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_says_so() {
    let asterisk = asterisk(|_| ()).await;
    let mut phone = awake(PhoneConfig {
        password: "wrong".to_owned(),
        ..phone_config(&asterisk, Transport::Udp)
    })
    .await;
    let error = phone.register().await.unwrap_err();
    assert_eq!(error.status(), Some(403));
    assert_eq!(
        error.to_string(),
        "REGISTER (with digest) sip:pbx.example.com was refused with 403 Forbidden"
    );
}

#[tokio::test]
async fn a_phone_follows_423_to_the_shortest_time_allowed() {
    let asterisk = asterisk(|config| config.min_expires = 120).await;
    let mut phone = awake(PhoneConfig {
        expires: 30,
        ..phone_config(&asterisk, Transport::Udp)
    })
    .await;
    assert_eq!(phone.register().await.unwrap().expires, 120);
}

#[tokio::test]
async fn asterisk_calls_the_phone_and_either_side_hangs_up() {
    for transport in BOTH {
        for force_rport in [false, true] {
            let asterisk = asterisk(|config| config.force_rport = force_rport).await;
            let mut phone = awake(phone_config(&asterisk, transport)).await;
            phone.register().await.unwrap();
            for phone_ends in [true, false] {
                let mut call = asterisk.call("1001", "2000").await.unwrap();
                let mut incoming = phone.next_call().await.unwrap();
                assert_eq!(incoming.call_id(), call.call_id());
                assert_eq!(incoming.dialled(), "1001");
                incoming.ring().await.unwrap();
                assert_eq!(call.wait_ringing().await.unwrap(), 180);
                let (answered, acknowledged) = tokio::join!(call.wait_answer(), incoming.answer());
                assert_eq!(answered.unwrap().status, 200);
                acknowledged.unwrap();
                assert_eq!(call.reinvite().await.unwrap(), 200);
                incoming.wait_reinvite().await.unwrap();
                if phone_ends {
                    assert_eq!(incoming.hangup().await.unwrap(), 200);
                    call.wait_bye().await.unwrap();
                } else {
                    assert_eq!(call.hangup().await.unwrap(), 200);
                    incoming.wait_bye().await.unwrap();
                }
            }
            assert_eq!(phone.invites_seen(), 2);
        }
    }
}

#[tokio::test]
async fn the_phone_calls_and_either_side_hangs_up() {
    for transport in BOTH {
        let asterisk = asterisk(|_| ()).await;
        let mut phone = awake(phone_config(&asterisk, transport)).await;
        phone.register().await.unwrap();
        let sdp = plain_sdp(LOOPBACK);
        let mut call = phone.call("600", &sdp).await.unwrap();
        call.wait_answer().await.unwrap();
        assert_eq!(call.hangup().await.unwrap(), 200);
        let mut call = phone.call("601", &sdp).await.unwrap();
        call.wait_answer().await.unwrap();
        call.wait_bye().await.unwrap();
        let mut call = phone.call("700", &sdp).await.unwrap();
        let mut incoming = asterisk.next_call().await.unwrap();
        let (rejected, refused) = tokio::join!(incoming.reject(486), call.wait_answer());
        rejected.unwrap();
        assert_eq!(refused.unwrap_err().status(), Some(486));
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_with_487_on_both_sides() {
    for transport in BOTH {
        let asterisk = asterisk(|_| ()).await;
        let mut phone = awake(phone_config(&asterisk, transport)).await;
        phone.register().await.unwrap();
        let mut call = asterisk.call("1001", "2000").await.unwrap();
        let mut incoming = phone.next_call().await.unwrap();
        incoming.ring().await.unwrap();
        let reason = "SIP;cause=200;text=\"Call completed elsewhere\"";
        assert_eq!(call.cancel(&[reason]).await.unwrap(), 487);
        assert_eq!(incoming.wait_cancel().await.unwrap().reasons, [reason]);
        assert!(matches!(
            incoming.answer().await,
            Err(PhoneError::Instead { .. })
        ));
        let mut call = phone.call("700", "").await.unwrap();
        let mut incoming = asterisk.next_call().await.unwrap();
        assert_eq!(call.cancel(&[]).await.unwrap(), 487);
        incoming.wait_cancel().await.unwrap();
    }
}

#[tokio::test]
async fn a_call_survives_a_change_of_the_phone_s_network() {
    let asterisk = asterisk(|_| ()).await;
    let mut phone = awake(phone_config(&asterisk, Transport::Udp)).await;
    phone.register().await.unwrap();
    let mut call = asterisk.call("1001", "2000").await.unwrap();
    let mut incoming = phone.next_call().await.unwrap();
    let (answered, acknowledged) = tokio::join!(call.wait_answer(), incoming.answer());
    answered.unwrap();
    acknowledged.unwrap();
    let before = phone.local_addr();
    phone.change_network().await.unwrap();
    assert_ne!(phone.local_addr(), before);
    phone.register().await.unwrap();
    assert_eq!(incoming.hangup().await.unwrap(), 200);
    call.wait_bye().await.unwrap();
}

#[tokio::test]
async fn a_frozen_phone_answers_only_when_it_thaws() {
    let asterisk = asterisk(|config| {
        config.patience = Duration::from_millis(200);
        config.qualify = false;
    })
    .await;
    let mut phone = awake(phone_config(&asterisk, Transport::Tcp)).await;
    phone.register().await.unwrap();
    phone.freeze();
    let error = asterisk.qualify("1001").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "waited 200ms for the final response to OPTIONS; nothing came"
    );
    phone.thaw();
    assert_eq!(asterisk.qualify("1001").await.unwrap(), 200);
}

#[tokio::test]
async fn a_sleeping_phone_is_silent_and_its_waits_end() {
    let asterisk = asterisk(|config| config.patience = Duration::from_millis(200)).await;
    let mut phone = awake(phone_config(&asterisk, Transport::Udp)).await;
    phone.register().await.unwrap();
    phone.sleep();
    let error = asterisk.call("1001", "2000").await.unwrap_err();
    assert!(matches!(error, PhoneError::Timeout { .. }), "{error}");
    let mut phone = awake(phone_config(&asterisk, Transport::Tcp)).await;
    drop(asterisk);
    let error = phone.next_call().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "waited for an INVITE, but the connection is closed"
    );
}

#[tokio::test]
async fn calls_work_over_ipv6() {
    let here = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
    for transport in BOTH {
        let asterisk = asterisk(|config| config.ip = here).await;
        let mut phone = awake(phone_config(&asterisk, transport)).await;
        phone.register().await.unwrap();
        let mut call = asterisk.call("1001", "2000").await.unwrap();
        let mut incoming = phone.next_call().await.unwrap();
        let (answered, acknowledged) = tokio::join!(call.wait_answer(), incoming.answer());
        answered.unwrap();
        acknowledged.unwrap();
        assert_eq!(incoming.hangup().await.unwrap(), 200);
        call.wait_bye().await.unwrap();
    }
}

/// A far side that says only what the test tells it to.
struct Wire(UdpSocket);

impl Wire {
    async fn new() -> Self {
        Self(UdpSocket::bind((LOOPBACK, 0)).await.unwrap())
    }

    async fn hear(&self) -> (String, std::net::SocketAddr) {
        let mut buffer = [0; 4096];
        let heard = self.0.recv_from(&mut buffer);
        let (length, from) = tokio::time::timeout(Duration::from_secs(5), heard)
            .await
            .unwrap()
            .unwrap();
        (
            String::from_utf8_lossy(&buffer[..length]).into_owned(),
            from,
        )
    }

    async fn request(&self, to: &Phone, method: &str, branch: &str, cseq: &str, to_tag: &str) {
        let here = self.0.local_addr().unwrap();
        let tag = if to_tag.is_empty() {
            String::new()
        } else {
            format!(";tag={to_tag}")
        };
        let text = format!(
            "{method} sip:1001@{there} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {here};branch=z9hG4bK{branch};rport\r\n\
             From: <sip:2000@{here}>;tag=far\r\nTo: <sip:1001@{there}>{tag}\r\n\
             Call-ID: wire\r\nCSeq: {cseq}\r\nContact: <sip:2000@{here}>\r\n\
             Content-Length: 0\r\n\r\n",
            there = to.local_addr(),
        );
        self.0
            .send_to(text.as_bytes(), to.local_addr())
            .await
            .unwrap();
    }
}

fn to_tag(response: &str) -> &str {
    let to = response
        .lines()
        .find(|line| line.starts_with("To:"))
        .unwrap();
    to.split_once("tag=").unwrap().1
}

async fn wired_phone(wire: &Wire) -> Phone {
    let far = wire.0.local_addr().unwrap();
    awake(PhoneConfig::new("1001", "pbx.example.com", "secret", far)).await
}

#[tokio::test]
async fn a_repeated_invite_is_one_call_and_the_200_is_repeated_until_the_ack() {
    let wire = Wire::new().await;
    let mut phone = wired_phone(&wire).await;
    wire.request(&phone, "INVITE", "i1", "7 INVITE", "").await;
    wire.request(&phone, "INVITE", "i1", "7 INVITE", "").await;
    for _ in 0..2 {
        assert!(wire.hear().await.0.starts_with("SIP/2.0 100 "));
    }
    let mut call = phone.next_call().await.unwrap();
    assert_eq!(phone.invites_seen(), 1);
    let answer = tokio::spawn(async move { call.answer().await.map(|()| call) });
    let (first, _) = wire.hear().await;
    let (second, _) = wire.hear().await;
    assert!(first.starts_with("SIP/2.0 200 "), "{first}");
    assert_eq!(first, second);
    wire.request(&phone, "ACK", "a1", "7 ACK", to_tag(&first))
        .await;
    let mut call = answer.await.unwrap().unwrap();
    wire.request(&phone, "BYE", "b1", "8 BYE", to_tag(&first))
        .await;
    call.wait_bye().await.unwrap();
    assert!(wire.hear().await.0.starts_with("SIP/2.0 200 "));
}

#[tokio::test]
async fn an_invite_that_came_by_two_ways_is_counted_twice_and_refused_once() {
    let wire = Wire::new().await;
    let phone = wired_phone(&wire).await;
    wire.request(&phone, "INVITE", "i1", "7 INVITE", "").await;
    assert!(wire.hear().await.0.starts_with("SIP/2.0 100 "));
    wire.request(&phone, "INVITE", "i2", "7 INVITE", "").await;
    assert!(wire.hear().await.0.starts_with("SIP/2.0 482 "));
    assert_eq!(phone.invites_seen(), 2);
}

#[tokio::test]
async fn notifies_that_share_a_branch_are_answered_one_by_one() {
    let wire = Wire::new().await;
    let phone = wired_phone(&wire).await;
    for cseq in ["102 NOTIFY", "103 NOTIFY"] {
        wire.request(&phone, "NOTIFY", "n1", cseq, "").await;
        let (answer, _) = wire.hear().await;
        assert!(answer.contains(&format!("CSeq: {cseq}")), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_draws_no_answer_is_repeated_and_the_error_tells_the_wait() {
    let wire = Wire::new().await;
    let far = wire.0.local_addr().unwrap();
    let mut phone = awake(PhoneConfig {
        patience: Duration::from_millis(700),
        ..PhoneConfig::new("1001", "pbx.example.com", "secret", far)
    })
    .await;
    let error = phone.register().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "waited 700ms for the final response to REGISTER; nothing came"
    );
    assert_eq!(wire.hear().await, wire.hear().await);
}

/// A REGISTER by way of a proxy that adds itself as Path (RFC 3327 §5.2).
async fn register_with_path(wire: &Wire, asterisk: &Asterisk, lines: &str, cseq: u32) -> String {
    let here = wire.0.local_addr().unwrap();
    let text = format!(
        "REGISTER sip:pbx.example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {here};branch=z9hG4bK{cseq};rport\r\n\
         From: <sip:1001@pbx.example.com>;tag=p\r\nTo: <sip:1001@pbx.example.com>\r\n\
         Call-ID: path\r\nCSeq: {cseq} REGISTER\r\nExpires: 60\r\n\
         Contact: <sip:1001@192.0.2.1:5060>\r\nPath: <sip:{here};lr>\r\n{lines}\
         Content-Length: 0\r\n\r\n"
    );
    let to = asterisk.address();
    wire.0.send_to(text.as_bytes(), to).await.unwrap();
    wire.hear().await.0
}

fn answer_to(challenge: &str) -> String {
    let value = challenge
        .lines()
        .find_map(|line| line.strip_prefix("WWW-Authenticate: "))
        .unwrap();
    let request = Request {
        user: "1001",
        password: "secret",
        method: "REGISTER",
        uri: "sip:pbx.example.com",
    };
    let answer = Challenge::parse(value).unwrap().answer(request, "c", 1);
    format!("Authorization: {answer}\r\n")
}

#[tokio::test]
async fn a_path_is_stored_echoed_and_used_or_refused_with_420() {
    let asterisk = asterisk(|config| config.qualify = false).await;
    let wire = Wire::new().await;
    let challenge = register_with_path(&wire, &asterisk, "", 1).await;
    let refused = register_with_path(&wire, &asterisk, &answer_to(&challenge), 2).await;
    assert!(refused.starts_with("SIP/2.0 420 "), "{refused}");
    let challenge = register_with_path(&wire, &asterisk, "", 3).await;
    let lines = format!("Supported: path\r\n{}", answer_to(&challenge));
    let accepted = register_with_path(&wire, &asterisk, &lines, 4).await;
    let path = format!("<sip:{};lr>", wire.0.local_addr().unwrap());
    assert!(accepted.starts_with("SIP/2.0 200 "), "{accepted}");
    assert!(accepted.contains(&format!("Path: {path}")), "{accepted}");
    let (invite, _) = tokio::select! {
        invite = wire.hear() => invite,
        call = asterisk.call("1001", "2000") => panic!("{call:?}"),
    };
    assert!(
        invite.starts_with("INVITE sip:1001@192.0.2.1:5060 "),
        "{invite}"
    );
    assert!(invite.contains(&format!("Route: {path}")), "{invite}");
}

#[tokio::test]
async fn a_phone_answers_a_proxy_s_sha_256_challenge() {
    let wire = Wire::new().await;
    let mut phone = wired_phone(&wire).await;
    let registering = tokio::spawn(async move { phone.register().await });
    let (first, from) = wire.hear().await;
    let challenge = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, \
                     qop=\"auth\", opaque=\"o\"\r\n";
    let refusal = reply(&first, "407 Proxy Authentication Required", challenge);
    wire.0.send_to(refusal.as_bytes(), from).await.unwrap();
    let (second, from) = wire.hear().await;
    let value = second
        .lines()
        .find_map(|line| line.strip_prefix("Proxy-Authorization: "))
        .unwrap();
    let credentials = Credentials::parse(value).unwrap();
    assert_eq!(credentials.algorithm, Algorithm::Sha256);
    assert!(credentials.verify("secret", "REGISTER"), "{value}");
    assert!(value.contains("opaque=\"o\""), "{value}");
    let accepted = reply(&second, "200 OK", "Expires: 77\r\n");
    wire.0.send_to(accepted.as_bytes(), from).await.unwrap();
    assert_eq!(registering.await.unwrap().unwrap().expires, 77);
}

/// A response with the lines that RFC 3261 §8.2.6.2 copies.
fn reply(request: &str, status: &str, lines: &str) -> String {
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let head: String = request
        .lines()
        .filter(|line| copied.iter().any(|name| line.starts_with(name)))
        .flat_map(|line| [line, "\r\n"])
        .collect();
    format!("SIP/2.0 {status}\r\n{head}{lines}Content-Length: 0\r\n\r\n")
}
