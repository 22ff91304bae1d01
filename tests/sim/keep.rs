//! Registrations that the gateway refreshes itself for phones that sleep (RFC 3261 §10.2.4, §22).

use std::sync::Arc;
use std::time::Duration;

use rouse::proto::Event;
use rouse::proto::digest::Secrets;
use rouse::proto::push::{Notice, PushError, Reason};
use rouse::proto::registration::keep::KeepFailure;
use rouse::proto::settings::{ContactMode, Keep, Settings};
use rouse::proto::sip::HeaderName;
use rouse::standin::digest::Credentials;

use crate::world::{
    Sent, World, contact_uri, invite, ok_to_register, pbx, register, response, settings, tcp,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
/// HA1 of `1001:asterisk:secret` by MD5.
const HA1: &str = "f1243e5710353a976f53f30734dcab69";
const FCM: &str = "pn-provider=fcm;pn-param=project;pn-prid=token:1";

fn kept(contact: ContactMode) -> Settings {
    let mut settings = settings(contact);
    let secrets = (1001..1200).map(|user| format!("{user}:asterisk:{HA1}\n"));
    let secrets: String = secrets.collect();
    settings.upstreams[0].keep = Some(Keep {
        secrets: Arc::new(Secrets::read(&secrets).unwrap()),
        span: 30 * DAY,
    });
    settings
}

/// A phone that registered for an hour and sleeps.
fn asleep(contact: ContactMode) -> World {
    let mut world = World::with(kept(contact));
    world.register_for(tcp(1), "1001", FCM, INSTANCE, 3600);
    world.close(tcp(1));
    world
}

/// Lets time pass until the gateway sends something, an hour at most.
#[track_caller]
fn next_register(world: &mut World) -> Sent {
    let end = world.now + HOUR;
    while let (true, Some(at)) = (world.sent.is_empty(), world.due().filter(|at| *at < end)) {
        world.fire(at);
    }
    world.expect("REGISTER sip:pbx.example.com SIP/2.0")
}

fn challenge(sent: &Sent, nonce: &str, more: &str) -> String {
    let value = format!("Digest algorithm=MD5, realm=\"asterisk\", nonce=\"{nonce}\"{more}");
    response(
        sent,
        "401 Unauthorized",
        &format!("WWW-Authenticate: {value}\n"),
    )
}

/// Challenges a REGISTER; the next one, with credentials.
#[track_caller]
fn answered(world: &mut World, sent: &Sent) -> Sent {
    world.receive(pbx(), challenge(sent, "n1", ""));
    let again = world.expect("REGISTER");
    let credentials = again.header(HeaderName::Authorization);
    let credentials = Credentials::parse(&credentials).expect("credentials");
    assert_eq!(credentials.user, "1001");
    assert_eq!(credentials.uri, "sip:pbx.example.com");
    assert!(credentials.verify("secret", "REGISTER"));
    again
}

fn failures(world: &World) -> Vec<KeepFailure> {
    let mut failures = Vec::new();
    for event in &world.events {
        if let Event::RefreshFailed { failure, .. } = event {
            failures.push(*failure);
        }
    }
    failures
}

fn cseq(sent: &Sent) -> u32 {
    let cseq = sent.header(HeaderName::CSeq);
    cseq.split(' ').next().unwrap().parse().unwrap()
}

/// One refresh as Asterisk does it: 401, then 200.
#[track_caller]
fn refreshed(world: &mut World) -> Sent {
    let first = next_register(world);
    let again = answered(world, &first);
    world.receive(pbx(), ok_to_register(&again));
    again
}

#[test]
pub fn a_phone_that_slept_for_days_still_rings() {
    let mut world = asleep(ContactMode::Agent);
    let end = world.now + 3 * DAY;
    let (mut count, mut last) = (0, 0);
    while world.now < end {
        let register = refreshed(&mut world);
        assert_eq!(register.header(HeaderName::Expires), "3600");
        let contact = register.header(HeaderName::Contact);
        assert_eq!(contact, format!("<{}>", contact_uri("1001")));
        assert!(cseq(&register) > last, "RFC 3261 §10.2.4");
        last = cseq(&register);
        count += 1;
    }
    assert!((72..110).contains(&count), "{count}");
    assert!(world.pushes.is_empty(), "nobody was disturbed");
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    assert!(matches!(world.accept_push().notice, Notice::Call(_)));
    world.register_for(tcp(2), "1001", FCM, INSTANCE, 3600);
    world.expect("INVITE");
}

#[test]
pub fn a_call_id_stays_and_its_number_rises_across_a_restart() {
    let mut world = asleep(ContactMode::Agent);
    let before = refreshed(&mut world);
    world.restart();
    let after = refreshed(&mut world);
    assert_eq!(
        before.header(HeaderName::CallId),
        after.header(HeaderName::CallId)
    );
    assert!(cseq(&after) > cseq(&before));
    // What was granted by our own refresh is durable.
    world.restart();
    assert_eq!(world.count().0, 1);
    let left = world.stored[0].expires_unix - 1_800_000_000;
    assert!(u128::from(left) > (world.now - world.start).as_secs().into());
}

#[test]
pub fn a_path_and_a_devices_own_contact_are_repeated_as_the_upstream_knows_them() {
    for mode in [ContactMode::Path, ContactMode::Device] {
        let mut world = World::with(kept(mode));
        let text = register(tcp(1), "1001", FCM, INSTANCE, 3600, 1);
        world.receive(tcp(1), text);
        let own = world.expect("REGISTER");
        world.receive(pbx(), ok_to_register(&own));
        world.expect("SIP/2.0 200");
        world.close(tcp(1));
        let ours = next_register(&mut world);
        for name in [HeaderName::Contact, HeaderName::Path] {
            assert_eq!(ours.header(name), own.header(name));
        }
        assert!(!ours.text().contains("pn-"));
    }
}

#[test]
pub fn wrong_credentials_are_tried_once_and_then_it_is_pushes() {
    let mut world = asleep(ContactMode::Agent);
    let first = next_register(&mut world);
    let again = answered(&mut world, &first);
    world.receive(pbx(), challenge(&again, "n2", ""));
    world.expect_nothing();
    assert_eq!(failures(&world), [KeepFailure::WrongCredentials]);
    world.advance(HOUR);
    world.expect_nothing();
    assert!(!world.pushes.is_empty());
    let is_refresh = |notice: &Notice| matches!(notice, Notice::Refresh);
    assert!(world.pushes.iter().all(|push| is_refresh(&push.notice)));
    assert_eq!(failures(&world).len(), 1);
    assert_eq!(world.count().0, 0);
    world.pushes.clear();
    world.assert_quiet();
}

#[test]
pub fn other_credentials_are_tried_after_a_reload() {
    let mut world = asleep(ContactMode::Agent);
    let first = next_register(&mut world);
    world.receive(pbx(), response(&first, "403 Forbidden", ""));
    assert_eq!(failures(&world), [KeepFailure::Refused(403)]);
    let settings = Arc::new(kept(ContactMode::Agent));
    world.input(rouse::proto::Input::Command(rouse::proto::Command::Reload(
        settings,
    )));
    refreshed(&mut world);
    assert_eq!(world.count().0, 1);
}

#[test]
pub fn a_stale_nonce_is_no_wrong_password() {
    let mut world = asleep(ContactMode::Agent);
    let first = next_register(&mut world);
    let again = answered(&mut world, &first);
    world.receive(pbx(), challenge(&again, "n2", ", stale=true, qop=\"auth\""));
    let third = world.expect("REGISTER");
    let value = third.header(HeaderName::Authorization);
    assert!(
        value.contains("n2") && value.contains("nc=00000001"),
        "{value}"
    );
    // Once: a registrar that finds each nonce stale is asked no more for now.
    world.receive(pbx(), challenge(&third, "n3", ", stale=true"));
    world.expect_nothing();
    assert_eq!(failures(&world), [KeepFailure::WrongCredentials]);
}

#[test]
pub fn a_realm_or_a_hash_without_credentials_is_told_and_not_answered() {
    for value in [
        "Digest realm=\"other\", nonce=\"n\"",
        "Digest realm=\"asterisk\", nonce=\"n\", algorithm=SHA-256",
        "Basic realm=\"asterisk\"",
    ] {
        let mut world = asleep(ContactMode::Agent);
        let first = next_register(&mut world);
        let more = format!("WWW-Authenticate: {value}\n");
        world.receive(pbx(), response(&first, "401 Unauthorized", &more));
        world.expect_nothing();
        assert_eq!(failures(&world), [KeepFailure::NoCredentials]);
    }
}

#[test]
pub fn a_registrar_that_wants_it_longer_gets_it_longer() {
    let mut world = asleep(ContactMode::Agent);
    let first = next_register(&mut world);
    let again = answered(&mut world, &first);
    let more = "Min-Expires: 7200\n";
    world.receive(pbx(), response(&again, "423 Interval Too Brief", more));
    let longer = world.expect("REGISTER");
    assert_eq!(longer.header(HeaderName::Expires), "7200");
    let longer = answered(&mut world, &longer);
    world.receive(pbx(), ok_to_register(&longer));
    let left = world.stored[0].expires_unix - 1_800_000_000;
    assert_eq!(left, (world.now - world.start).as_secs() + 7200);
}

#[test]
pub fn a_registrar_that_is_away_is_asked_again_and_the_phone_too() {
    let mut world = asleep(ContactMode::Agent);
    next_register(&mut world);
    world.advance(Duration::from_secs(40));
    world.sent.clear();
    assert_eq!(failures(&world), [KeepFailure::Unavailable]);
    // Not the phone at first: its time has not come.
    assert!(world.pushes.is_empty());
    let second = next_register(&mut world);
    world.receive(pbx(), response(&second, "503 Service Unavailable", ""));
    assert!(matches!(world.accept_push().notice, Notice::Refresh));
    refreshed(&mut world);
    assert_eq!(world.count().0, 1);
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_is_awake_refreshes_itself() {
    let mut world = World::with(kept(ContactMode::Agent));
    world.register_for(tcp(1), "1001", FCM, INSTANCE, 3600);
    world.advance(HOUR - Duration::from_secs(1));
    world.expect_nothing();
}

#[test]
pub fn what_the_phone_says_while_a_refresh_is_under_way_counts() {
    let mut world = asleep(ContactMode::Agent);
    let ours = next_register(&mut world);
    world.advance(Duration::from_millis(10));
    world.register_for(tcp(2), "1001", FCM, INSTANCE, 7200);
    let expires = world.stored[0].expires_unix;
    world.receive(pbx(), ok_to_register(&ours));
    assert_eq!(world.stored[0].expires_unix, expires);
    world.assert_quiet();
    // While its REGISTER is under way none of ours begins.
    let mut world = asleep(ContactMode::Agent);
    world.is_store_slow = true;
    let mut phones = 0;
    while world.now < world.start + HOUR - Duration::from_secs(361) {
        world.receive(
            tcp(3),
            register(tcp(3), "1001", FCM, INSTANCE, 3600, 50 + phones),
        );
        world.close(tcp(3));
        phones += 1;
        world.advance(Duration::from_secs(31));
        let is_ours = |sent: &Sent| {
            sent.text().starts_with("REGISTER") && sent.header(HeaderName::CallId) != "reg-1001"
        };
        assert!(!world.sent.drain(..).any(|sent| is_ours(&sent)));
    }
}

#[test]
pub fn a_phone_that_left_while_a_refresh_was_under_way_is_unknown_upstream_too() {
    let mut world = asleep(ContactMode::Agent);
    let ours = next_register(&mut world);
    world.advance(Duration::from_millis(10));
    let leave = register(tcp(2), "1001", FCM, INSTANCE, 0, 9);
    world.receive(tcp(2), leave);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    assert_eq!(world.count().0, 0);
    // Ours comes after it: the upstream knows a Contact that is nobody's.
    world.receive(pbx(), ok_to_register(&ours));
    let removal = world.expect("REGISTER");
    assert_eq!(removal.header(HeaderName::Expires), "0");
    assert_eq!(
        removal.header(HeaderName::Contact),
        ours.header(HeaderName::Contact)
    );
    let removal = answered(&mut world, &removal);
    assert_eq!(removal.header(HeaderName::Expires), "0");
    world.receive(pbx(), ok_to_register(&removal));
    world.assert_quiet();
    assert!(world.stored.is_empty());
}

#[test]
pub fn devices_that_share_a_contact_share_the_refresh() {
    let mut world = World::with(kept(ContactMode::Agent));
    world.register_for(tcp(1), "1001", FCM, INSTANCE, 3600);
    let other = FCM.replace("token:1", "token:2");
    world.register_for(
        tcp(2),
        "1001",
        &other,
        ";+sip.instance=\"<urn:uuid:2>\"",
        3600,
    );
    world.close(tcp(1));
    world.close(tcp(2));
    assert_eq!(world.count(), (2, 0));
    refreshed(&mut world);
    world.expect_nothing();
    let (one, two) = (&world.stored[0], &world.stored[1]);
    assert_eq!(one.expires_unix, two.expires_unix);
    assert!(one.expires_unix > 1_800_000_000 + 3600 + 60);
}

#[test]
pub fn a_month_of_silence_ends_it() {
    let mut settings = kept(ContactMode::Agent);
    settings.upstreams[0].keep.as_mut().unwrap().span = Duration::from_secs(3 * 3600);
    let mut world = World::with(settings);
    world.register_for(tcp(1), "1001", FCM, INSTANCE, 3600);
    world.close(tcp(1));
    let end = world.now + 3 * HOUR;
    while world.count().0 == 1 {
        let Some(at) = world.due() else { break };
        world.fire(at);
        if let Some(sent) = world.sent.pop_front() {
            assert!(world.now < end);
            let again = answered(&mut world, &sent);
            world.receive(pbx(), ok_to_register(&again));
        }
    }
    assert!(world.now > end && world.now < end + HOUR);
    assert!(!world.pushes.is_empty(), "asked once more before it ended");
}

#[test]
pub fn a_dead_token_ends_it() {
    let mut world = asleep(ContactMode::Agent);
    refreshed(&mut world);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.refuse_push(PushError::Unregistered {
        since_ms: None,
        reason: Reason::new("UNREGISTERED"),
    });
    world.sent.clear();
    world.pushes.clear();
    world.advance(2 * HOUR);
    let is_register = |sent: &Sent| sent.text().starts_with("REGISTER");
    assert!(!world.sent.iter().any(is_register));
}

#[test]
pub fn those_that_registered_together_are_refreshed_apart_and_few_at_once() {
    let mut world = World::with(kept(ContactMode::Agent));
    for user in 1001..1101_u64 {
        let params = FCM.replace("token:1", &format!("token:{user}"));
        let instance = format!(";+sip.instance=\"<urn:uuid:{user}>\"");
        world.register_for(tcp(user), &user.to_string(), &params, &instance, 3600);
        world.close(tcp(user));
    }
    // The upstream says nothing: what is under way stays so.
    let mut first: Option<std::time::Instant> = None;
    let mut agents = std::collections::BTreeMap::new();
    while world.now < world.start + HOUR - Duration::from_secs(350) {
        world.advance(Duration::from_secs(1));
        let mut this_second = 0;
        for sent in world.sent.drain(..) {
            let to = sent.header(HeaderName::To);
            first.get_or_insert(sent.at);
            this_second += u32::from(agents.insert(to, sent.at).is_none());
        }
        assert!(this_second <= 32, "{this_second}");
    }
    assert_eq!(agents.len(), 100);
    let spread = world.now.duration_since(first.unwrap());
    assert!(spread > Duration::from_secs(600), "{spread:?}");
}
