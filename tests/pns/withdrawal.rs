//! A push that is withdrawn: not sent if it has not left, and with its verdict if it has.

use std::time::Duration;

use rouse::io::pns::Withdrawal;
use rouse::proto::push::{Notice, PushError};
use rouse::standin::push::{Act, Outcome};

use crate::support::{AppleRig, call, to_apns, token};

#[tokio::test]
async fn a_push_that_is_withdrawn_before_it_is_sent_is_not() {
    let rig = AppleRig::new().await;
    let (sender, withdrawal) = Withdrawal::new();
    sender.send_replace(true);
    let push = to_apns(&token(1), Notice::Call(call()));
    let verdict = rig.service.send_unless(push, &withdrawal).await;
    assert_eq!(verdict, Err(PushError::Withdrawn));
    assert_eq!(rig.apple.requests(), 0);
}

#[tokio::test]
async fn a_push_that_failed_is_not_sent_again_after_it_was_withdrawn() {
    let rig = AppleRig::new().await;
    rig.apple
        .script(None, Act::refuse(503, "ServiceUnavailable"));
    let (sender, withdrawal) = Withdrawal::new();
    let push = to_apns(&token(1), Notice::Call(call()));
    let sent = rig.service.send_unless(push, &withdrawal);
    let withdrawn = async {
        asked(&rig).await;
        sender.send_replace(true);
    };
    let (verdict, ()) = tokio::join!(sent, withdrawn);
    assert_eq!(verdict, Err(PushError::Withdrawn));
    assert_eq!(rig.apple.requests(), 1);
    assert!(rig.apple.accepted().is_empty());
}

#[tokio::test]
async fn a_push_that_has_left_has_its_verdict_all_the_same() {
    let rig = AppleRig::new().await;
    let slow = Outcome {
        delay: Duration::from_millis(100),
        ..Outcome::default()
    };
    rig.apple.script(None, slow);
    let (sender, withdrawal) = Withdrawal::new();
    let push = to_apns(&token(1), Notice::Call(call()));
    let sent = rig.service.send_unless(push, &withdrawal);
    let withdrawn = async {
        asked(&rig).await;
        sender.send_replace(true);
    };
    let (verdict, ()) = tokio::join!(sent, withdrawn);
    assert!(verdict.is_ok(), "{verdict:?}");
    assert_eq!(rig.apple.accepted().len(), 1);
}

/// Waits until the service has a request.
async fn asked(rig: &AppleRig) {
    while rig.apple.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
