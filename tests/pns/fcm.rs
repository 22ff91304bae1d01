//! FCM: every row of its table of faults.

use rouse::proto::push::Notice;

use crate::support::{GoogleRig, call, to_fcm};

/// A registration token as FCM makes them, with its colon.
const TOKEN: &str = "dGhpcyBpcyBub3Q:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx";

#[tokio::test]
async fn a_call_reaches_fcm_as_a_data_message_of_high_priority() {
    let rig = GoogleRig::new().await;
    let id = rig.call(TOKEN).await.unwrap();
    let push = rig.google.next_push().await;
    assert_eq!(push.id, id);
    assert_eq!(push.path, "/v1/projects/my-project/messages:send");
    assert_eq!(push.token, TOKEN);
    let message = &push.payload["message"];
    assert_eq!(message["android"]["priority"], "HIGH");
    assert_eq!(message["android"]["ttl"], "25s");
    assert_eq!(
        message["android"]["collapse_key"],
        "b1946ac92492d234@pbx.example.com"
    );
    assert_eq!(message["data"]["event"], "call");
    assert_eq!(message["data"]["display-name"], "Ada Lovelace");
    assert!(message.get("notification").is_none());
}

#[tokio::test]
async fn one_bearer_serves_many_pushes_at_once() {
    let rig = GoogleRig::new().await;
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let service = rig.service.clone();
        pushes.spawn(async move { service.send(to_fcm(TOKEN, Notice::Call(call()))).await });
    }
    assert!(pushes.join_all().await.iter().all(Result::is_ok));
    assert_eq!(rig.google.bearers_issued(), 1);
    assert_eq!(rig.google.accepted().len(), 100);
    assert_eq!(
        rig.google.connections(),
        2,
        "one for the bearer, one for pushes"
    );
}
