//! Devices that an operator enters, since their app does not say how it is woken.

use serde_json::{Value, json};

use crate::rig::{Rig, TOKEN};

const PARAM: &str = "ABCDE12345.com.example.app.voip";

fn device(token: &str) -> Value {
    json!({"agent": "1001", "provider": "apns", "param": PARAM, "prid": token})
}

async fn pushed(rig: &Rig) -> Value {
    let mut phone = rig.phone_with("1001", 1, None).await;
    phone.register().await.expect("it registers");
    let page = rig
        .until("/api/devices?agent=1001&state=awake", |page| {
            page["devices"][0].is_object()
        })
        .await;
    page["devices"][0]["push"].clone()
}

#[tokio::test]
async fn a_device_that_is_entered_is_woken_also_after_a_restart() {
    let mut rig = Rig::new().await;
    assert_eq!(pushed(&rig).await, Value::Null);
    let token = "cd".repeat(32);
    let entered = rig.send("POST", "/api/devices", &device(&token)).await;
    assert_eq!(entered.status, 201, "{entered:?}");
    assert!(!entered.body.contains(&token), "{entered:?}");
    assert_eq!(entered.json()["push"]["token"], "…cdcd");
    assert_eq!(pushed(&rig).await["token"], "…cdcd");

    // Reading the configuration again forgets nothing.
    let config = rig.control().config();
    rig.control().reload(config).await.expect("it is followed");
    assert_eq!(pushed(&rig).await["token"], "…cdcd");

    rig.restart().await;
    let page = rig.get("/api/entered?agent=1001").await.json();
    assert_eq!(page["devices"][0], entered.json());
    assert_eq!(pushed(&rig).await["token"], "…cdcd");
    rig.until("/api/devices?agent=1001&state=asleep", |page| {
        page["devices"][0].is_object()
    })
    .await;
    let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
    call.wait_final().await.expect("480");
    let accepted = rig.apns.accepted();
    assert_eq!(accepted.len(), 1, "it was woken");
}

#[tokio::test]
async fn another_token_takes_the_place_of_the_first_and_what_is_removed_wakes_nobody() {
    let mut rig = Rig::with("token_file = \"@DIR@/token\"", "", 3).await;
    let first = rig
        .send("POST", "/api/devices", &device(&"ab".repeat(32)))
        .await;
    assert_eq!(first.status, 201, "{first:?}");
    let second = rig
        .send("POST", "/api/devices", &device(&"cd".repeat(32)))
        .await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(first.json()["id"], second.json()["id"]);
    let page = rig.get("/api/entered").await.json();
    assert_eq!(page["devices"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(pushed(&rig).await["token"], "…cdcd");

    let headers = format!("Authorization: Bearer {TOKEN}\r\n");
    let id = first.json()["id"].as_str().expect("a name").to_owned();
    let path = format!("/api/devices/{id}");
    assert_eq!(rig.ask("DELETE", &path, &headers).await.status, 204);
    assert_eq!(rig.ask("DELETE", &path, &headers).await.status, 404);
    assert_eq!(pushed(&rig).await, Value::Null);
    rig.restart().await;
    let page = rig.get("/api/entered").await.json();
    assert_eq!(page["devices"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_entered_is_refused_with_its_cure_and_without_its_token() {
    let rig = Rig::new().await;
    let token = "ab".repeat(32);
    let with = |key: &str, value: Value| {
        let mut device = device(&token);
        device[key] = value;
        device
    };
    let cases = [
        (with("agent", json!("10 01")), 400, "USER@DOMAIN"),
        (with("agent", json!("@pbx")), 400, "USER@DOMAIN"),
        (with("prid", json!("")), 400, "prid"),
        (with("colour", json!("red")), 400, "JSON"),
        (json!([]), 400, "JSON"),
        (with("provider", json!("fcm")), 409, "nobody pushes"),
        (with("param", Value::Null), 409, "param"),
        (with("prid", json!("no token")), 409, "prid"),
    ];
    for (device, status, word) in cases {
        let answer = rig.send("POST", "/api/devices", &device).await;
        assert_eq!(answer.status, status, "{device} {answer:?}");
        let detail = answer.json()["detail"].as_str().map(str::to_owned);
        let detail = detail.expect("a sentence");
        assert!(detail.contains(word), "{device} {detail}");
        assert!(!detail.contains(&token), "{detail}");
    }
    let page = rig.get("/api/entered").await.json();
    assert_eq!(page["devices"], json!([]));
}
