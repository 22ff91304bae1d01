//! Registration through Rouse: Asterisk authenticates, the phone sees its own contact, Asterisk
//! sees Rouse's.

use crate::rig::asterisk::Keeps;
use crate::rig::stage::{Peers, Stage};

on_every_path!(
    a_phone_registers_with_digest,
    a_wrong_password_is_refused,
    a_phone_that_leaves_is_gone,
);

on_both_asterisks!(an_agent_that_asterisk_does_not_know_is_refused);

async fn a_phone_registers_with_digest(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let registered = handset.wake().await;

    assert_eq!(registered.requests, 2, "one challenge");
    assert!(
        (1..=3600).contains(&registered.expires),
        "{}",
        registered.expires
    );
    // The phone gets back its own contact as it sent it, and no other.
    let [own] = &registered.contacts[..] else {
        panic!("{:?}", registered.contacts);
    };
    let push = handset
        .config
        .push
        .clone()
        .expect("handsets have push parameters");
    assert!(own.contains(&push), "{own} lacks {push}");
    assert!(
        own.contains(&handset.app().local_addr().to_string()),
        "{own}"
    );

    // Asterisk has Rouse's contact, which tells it nothing about pushes.
    let [contact] = &stage.asterisk.contacts(&agent)[..] else {
        panic!("{:?}", stage.asterisk.contacts(&agent));
    };
    assert!(
        contact.contains(&format!("@{}:5060", stage.rouse.ip)),
        "{contact}"
    );
    assert!(!contact.contains("pn-"), "{contact}");
    // chan_sip would call it over TCP, whatever the REGISTER came over.
    assert!(!contact.contains("transport=tcp"), "{contact}");
    let seen = stage
        .asterisk
        .wire(|message| message.text.contains(&handset.token));
    assert!(seen.is_empty(), "{seen:?}");
    stage.reachable(&agent).await;
}

async fn a_wrong_password_is_refused(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.config.password = "wrong".to_owned();
    let error = handset.try_wake().await.expect_err("the password is wrong");
    assert!(matches!(error.status(), Some(401 | 403)), "{error}");
    assert!(stage.asterisk.contacts(&agent).is_empty());
}

async fn a_phone_that_leaves_is_gone(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
    let left = handset.app().unregister().await.expect("it may leave");
    assert_eq!(left.status, 200);
    assert!(stage.asterisk.contacts(&agent).is_empty());
}

async fn an_agent_that_asterisk_does_not_know_is_refused(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::One);
    handset.config.user = "nobody".to_owned();
    let error = handset
        .try_wake()
        .await
        .expect_err("there is no such agent");
    assert!(matches!(error.status(), Some(401 | 403 | 404)), "{error}");
}
