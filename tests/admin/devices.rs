//! Devices as the API tells them, test pushes, metrics and readiness.

use rouse::standin::push::Act;

use crate::rig::{Rig, TOKEN};

#[tokio::test]
async fn a_device_is_told_awake_and_asleep_with_its_token_masked() {
    let rig = Rig::new().await;
    let mut phone = rig.phone("1001", 0xab).await;
    phone.register().await.expect("it registers");
    let page = rig.get("/api/devices?agent=1001").await.json();
    let device = &page["devices"][0];
    assert_eq!(device["state"], "awake");
    assert_eq!(device["agent"], "1001@pbx.example.com");
    assert_eq!(
        (&device["upstream"], &device["transport"]),
        (&"pbx".into(), &"tcp".into())
    );
    assert_eq!(device["push"]["token"], "…abab");
    assert_eq!(device["push"]["app"], "com.example.app");
    phone.sleep();
    let page = rig
        .until("/api/devices?state=asleep", |page| {
            page["devices"][0].is_object()
        })
        .await;
    let id = page["devices"][0]["id"].as_str().expect("an id");
    let story = rig.get(&format!("/api/devices/{id}")).await.json();
    let notes = story["notes"].as_array().expect("notes");
    let kinds: Vec<&str> = notes
        .iter()
        .filter_map(|note| note["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["registered", "asleep"]);
    let all = rig.get(&format!("/api/devices/{id}")).await.body;
    assert!(!all.contains(&"ab".repeat(32)), "{all}");
}

#[tokio::test]
async fn a_device_that_was_there_before_the_gateway_begins_its_story_with_that() {
    let mut rig = Rig::new().await;
    rig.sleeper("1001", 1).await;
    rig.restart().await;
    let page = rig.get("/api/devices").await.json();
    let path = format!(
        "/api/devices/{}",
        page["devices"][0]["id"].as_str().expect("an id")
    );
    let notes = rig.get(&path).await.json()["notes"].clone();
    assert_eq!(notes.as_array().map(Vec::len), Some(1), "{notes}");
    assert_eq!(notes[0]["kind"], "restored");
    let text = notes[0]["text"].as_str().expect("a sentence");
    assert!(
        text.contains("it had registered from 127.0.0.1:") && text.ends_with("more"),
        "{text}"
    );
    // It comes back, and all stays in order.
    let mut phone = rig.phone("1001", 1).await;
    phone.register().await.expect("it registers");
    let story = rig
        .until(&path, |story| story["notes"][1].is_object())
        .await;
    assert_eq!(story["notes"][0]["kind"], "restored");
    assert_eq!(story["notes"][1]["kind"], "came-back");
}

#[tokio::test]
async fn devices_come_page_by_page_from_all_shards() {
    let rig = Rig::with("token_file = \"@DIR@/token\"", "", 3).await;
    for (number, user) in (1..).zip(["1001", "1002", "1003"]) {
        rig.sleeper(user, number).await;
    }
    let mut after = String::new();
    let mut users = Vec::new();
    loop {
        let page = rig
            .get(&format!("/api/devices?limit=1{after}"))
            .await
            .json();
        users.push(
            page["devices"][0]["agent"]
                .as_str()
                .expect("an agent")
                .to_owned(),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    users.sort();
    assert_eq!(users.len(), 3, "{users:?}");
    users.dedup();
    assert_eq!(users.len(), 3, "{users:?}");
}

#[tokio::test]
async fn a_device_that_is_taken_out_is_called_no_more() {
    let rig = Rig::new().await;
    rig.sleeper("1001", 1).await;
    let page = rig.get("/api/devices").await.json();
    let id = page["devices"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/devices/{id}");
    let headers = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(rig.ask("DELETE", &path, &headers).await.status, 204);
    rig.until("/api/devices", |page| {
        page["devices"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
    assert_eq!(rig.ask("DELETE", &path, &headers).await.status, 404);
    let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
    let answer = call.wait_final().await.expect("an answer");
    assert!(answer.status().is_some_and(|status| status >= 400));
    let page = rig
        .until("/api/calls?number=1001", |page| {
            page["calls"][0].is_object()
        })
        .await;
    assert_eq!(page["calls"][0]["outcome"], "refused", "{page:#}");
}

#[tokio::test]
async fn a_test_push_tells_what_the_push_service_says() {
    let rig = Rig::new().await;
    rig.sleeper("1001", 1).await;
    let report = rig.post("/api/push/1001").await.json();
    assert_eq!(report["pushes"][0]["verdict"], "accepted", "{report}");
    assert_eq!(rig.apns.accepted().len(), 1);
    rig.apns
        .always(None, Some(Act::refuse(410, "Unregistered").into()));
    let report = rig.post("/api/push/1001@pbx.example.com").await.json();
    assert_eq!(report["pushes"][0]["verdict"], "unregistered", "{report}");
    assert_eq!(rig.post("/api/push/1002").await.status, 404);
}

#[tokio::test]
async fn what_was_before_anybody_looked_is_told_for_charts() {
    let rig = Rig::new().await;
    let history = rig
        .until("/api/history", |history| history["samples"][0].is_object())
        .await;
    let first = &history["samples"][0];
    assert!(first["at_ms"].as_u64() > Some(1_700_000_000_000), "{first}");
    assert_eq!(
        (&first["calls"], &first["devices_awake"]),
        (&0.into(), &0.into())
    );
}

#[tokio::test]
async fn metrics_are_told_as_prometheus_asks_for_them() {
    let rig = Rig::new().await;
    let plain = rig.get("/metrics").await;
    assert!(
        plain
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4"))
    );
    assert!(!plain.body.contains("# EOF"));
    // Rates need a series before its first event.
    for series in [
        r#"gateway_push_total{provider="apns",notice="call",outcome="bad-credentials"} 0"#,
        r#"gateway_wake_seconds_count{outcome="timeout"} 0"#,
    ] {
        assert!(plain.body.contains(series), "{series} in {}", plain.body);
    }
    assert!(
        plain
            .body
            .contains("# TYPE gateway_calls_total counter\ngateway_calls_total 0\n"),
        "{}",
        plain.body
    );
    let headers = format!(
        "Authorization: Bearer {TOKEN}\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"
    );
    let open = rig.ask("GET", "/metrics", &headers).await;
    assert!(
        open.header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(open.body.ends_with("# EOF\n"));
    assert!(open.body.contains("# TYPE gateway_calls counter\n"));
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready_and_takes_no_calls() {
    let rig = Rig::new().await;
    rig.sleeper("1001", 1).await;
    let ready = rig.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["ready"]),
        (200, &true.into()),
        "{ready:?}"
    );
    assert_eq!(rig.post("/api/drain").await.status, 202);
    let ready = rig.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &false.into()));
    let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
    let answer = call.wait_final().await.expect("an answer");
    assert_eq!(answer.status(), Some(503));
}
