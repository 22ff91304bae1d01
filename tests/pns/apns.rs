//! APNs: every row of its table of faults.

use rouse::proto::push::Notice;
use serde_json::json;

use crate::support::{AppleRig, call, to_apns, token};

#[tokio::test]
async fn a_call_reaches_apns_as_a_voip_push_with_all_that_apple_verifies() {
    let rig = AppleRig::new().await;
    let id = rig.call(&token(1)).await.unwrap();
    let push = rig.apple.next_push().await;
    assert_eq!(push.id, id);
    assert_eq!(push.path, format!("/3/device/{}", token(1)));
    assert_eq!(push.header("apns-topic"), "com.example.app.voip");
    assert_eq!(push.header("apns-push-type"), "voip");
    assert_eq!(push.header("apns-priority"), "10");
    assert_eq!(push.header("apns-collapse-id"), "");
    assert_eq!(push.payload["event"], "call");
    assert_eq!(push.payload["gateway"], "gw-test");
    assert_eq!(push.payload["display-name"], "Ada Lovelace");
}

#[tokio::test]
async fn a_cancelled_call_is_an_alert_and_a_refresh_a_background_push() {
    let rig = AppleRig::new().await;
    let cancel = to_apns(&token(1), Notice::Cancel(call()));
    rig.service.send(cancel).await.unwrap();
    let push = rig.apple.next_push().await;
    assert_eq!(push.header("apns-push-type"), "alert");
    assert_eq!(push.header("apns-topic"), "com.example.app");
    assert_eq!(
        push.header("apns-collapse-id"),
        "b1946ac92492d234@pbx.example.com"
    );
    let refresh = to_apns(&token(1), Notice::Refresh);
    rig.service.send(refresh).await.unwrap();
    let push = rig.apple.next_push().await;
    assert_eq!(push.header("apns-push-type"), "background");
    assert_eq!(push.header("apns-priority"), "5");
    assert_eq!(
        push.payload,
        json!({"aps": {"content-available": 1}, "event": "refresh", "gateway": "gw-test"})
    );
}
