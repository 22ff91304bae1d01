//! Calls as the API tells them.

use rouse::standin::call::IncomingCall;
use rouse::standin::push::Act;

use crate::rig::Rig;

#[tokio::test]
async fn a_call_to_a_sleeping_phone_is_told_step_by_step() {
    let rig = Rig::new().await;
    rig.sleeper("1001", 1).await;
    let mut follower = rig.follow("?agent=1001").await;
    let calling = async {
        let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
        call.wait_answer().await.expect("an answer");
        call
    };
    let being_called = async {
        rig.apns.next_push().await;
        let mut phone = rig.phone("1001", 1).await;
        phone.register().await.expect("it registers");
        let mut call = phone.next_call().await.expect("a call");
        call.ring().await.expect("it rings");
        call.answer().await.expect("it answers");
        (phone, call)
    };
    let (outgoing, (_phone, mut taken)) = tokio::join!(calling, being_called);

    let page = rig
        .until("/api/calls?agent=1001", |page| {
            page["calls"][0]["outcome"] == "answered"
        })
        .await;
    let brief = &page["calls"][0];
    assert_eq!(brief["call_id"], outgoing.call_id());
    assert_eq!(brief["agent"], "1001@pbx.example.com");
    assert!(
        brief["caller"]
            .as_str()
            .is_some_and(|caller| caller.contains("2000")),
        "{brief}"
    );
    assert_eq!(
        (&brief["devices"], &brief["asleep"]),
        (&1.into(), &1.into())
    );
    let id = brief["id"].as_str().expect("an id");
    let story = rig.get(&format!("/api/calls/{id}")).await.json();
    let steps = story["steps"].as_array().expect("steps");
    let kinds: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["kind"].as_str())
        .collect();
    let mut expected = vec![
        "received",
        "asleep",
        "pushed",
        "push-accepted",
        "woken",
        "forwarded",
        "ringing",
        "device-answered",
        "answered",
    ];
    if kinds.len() > expected.len() {
        expected.insert(7, "ringing");
    }
    assert_eq!(kinds, expected, "{story:#}");
    let text = serde_json::to_string(&story).expect("JSON");
    assert!(!text.contains(&"01".repeat(32)), "a token is shown: {text}");

    // Those who follow have heard the same.
    let mut heard = Vec::new();
    while heard.last().is_none_or(|kind| kind != "answered") {
        let event = follower.next().await;
        if event["type"] == "call" {
            heard.push(event["step"]["kind"].as_str().expect("a kind").to_owned());
        }
    }
    assert_eq!(heard, kinds);
    let summary = rig.get("/api/summary").await.json();
    assert_eq!(summary["calls"], 1);
    assert_eq!(summary["pushes"][0]["verdict"], "accepted");

    let told = how_it_ended(&rig, &mut taken, id).await;
    assert_eq!(told, "hung-up");
}

/// Hangs up at the phone, and returns the last step then.
async fn how_it_ended(rig: &Rig, taken: &mut IncomingCall, id: &str) -> String {
    assert_eq!(taken.hangup().await.expect("an answer"), 200);
    let page = rig
        .until("/api/calls?agent=1001", |page| {
            page["calls"][0]["lasted_ms"].is_u64()
        })
        .await;
    let summary = page["calls"][0]["summary"].as_str().expect("a sentence");
    assert!(
        summary.contains("; ended after ") && summary.ends_with("by the phone"),
        "{summary}"
    );
    let story = rig.get(&format!("/api/calls/{id}")).await.json();
    let steps = story["steps"].as_array().expect("steps");
    let last = steps.last().expect("a step")["kind"].as_str();
    last.expect("a kind").to_owned()
}

#[tokio::test]
async fn calls_that_rang_nowhere_say_why() {
    let rig = Rig::new().await;
    rig.sleeper("1001", 1).await;
    rig.sleeper("1002", 2).await;
    rig.apns.always(
        Some(&"01".repeat(32)),
        Some(Act::refuse(410, "Unregistered").into()),
    );
    let why = async |user: &str| {
        let mut call = rig.asterisk.call(user, "2000").await.expect("an INVITE");
        let answer = call.wait_final().await.expect("an answer");
        let status = answer.status();
        let path = format!("/api/calls?agent={user}");
        let page = rig
            .until(&path, |page| page["calls"][0]["status"].is_u64())
            .await;
        (
            status,
            page["calls"][0]["outcome"].clone(),
            page["calls"][0]["summary"].to_string(),
        )
    };
    let (status, outcome, summary) = why("1001").await;
    assert_eq!((status, outcome), (Some(480), "unreachable".into()));
    assert!(summary.contains("no longer registered"), "{summary}");
    let (status, outcome, summary) = why("1002").await;
    assert_eq!((status, outcome), (Some(480), "unreachable".into()));
    assert!(summary.contains("did not register within 2."), "{summary}");
}

#[tokio::test]
async fn calls_of_all_shards_are_listed_in_order() {
    let rig = Rig::with("token_file = \"@DIR@/token\"", "", 4).await;
    for (number, user) in (1..).zip(["1001", "1002", "1003"]) {
        rig.sleeper(user, number).await;
        let mut call = rig.asterisk.call(user, "2000").await.expect("an INVITE");
        call.cancel(&[]).await.expect("a CANCEL");
        call.wait_final().await.expect("487");
    }
    let page = rig
        .until("/api/calls?outcome=cancelled", |page| {
            page["calls"].as_array().expect("a list").len() == 3
        })
        .await;
    let users: Vec<&str> = page["calls"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|call| call["agent"].as_str()?.split('@').next())
        .collect();
    assert_eq!(users, ["1003", "1002", "1001"]);
    let first = rig.get("/api/calls?limit=2").await.json();
    let next = first["next"].as_str().expect("there is more");
    let second = rig
        .get(&format!("/api/calls?limit=2&before={next}"))
        .await
        .json();
    assert_eq!(second["calls"].as_array().map(Vec::len), Some(1));
    assert_eq!(second["next"], serde_json::Value::Null);
}

#[tokio::test]
async fn calls_that_are_over_are_added_to_a_file() {
    let more = "[calls]\nfile = \"@DIR@/calls.jsonl\"";
    let rig = Rig::with("token_file = \"@DIR@/token\"", more, 1).await;
    rig.sleeper("1001", 1).await;
    for _ in 0..2 {
        let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
        call.cancel(&[]).await.expect("a CANCEL");
        call.wait_final().await.expect("487");
    }
    let path = rig.folder().join("calls.jsonl");
    let lines = rig
        .wait_for(|| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() == 2).then_some(lines)
        })
        .await;
    let story: serde_json::Value = serde_json::from_str(&lines[1]).expect("JSON");
    assert_eq!(story["outcome"], "cancelled");
    assert_eq!(story["steps"][0]["kind"], "received");
}

#[tokio::test]
async fn a_call_that_was_answered_is_in_the_file_when_it_is_over_or_the_gateway_stops() {
    let more = "[calls]\nfile = \"@DIR@/calls.jsonl\"";
    let mut rig = Rig::with("token_file = \"@DIR@/token\"", more, 2).await;
    let mut talks = Vec::new();
    for (number, user) in (1..).zip(["1001", "1002"]) {
        let mut phone = rig.phone(user, number).await;
        phone.register().await.expect("it registers");
        let calling = async {
            let mut call = rig.asterisk.call(user, "2000").await.expect("an INVITE");
            call.wait_answer().await.expect("an answer");
            call
        };
        let being_called = async {
            let mut call = phone.next_call().await.expect("a call");
            call.answer().await.expect("it answers");
            call
        };
        let (outgoing, taken) = tokio::join!(calling, being_called);
        talks.push((phone, outgoing, taken));
    }
    let (_, _, first) = talks.first_mut().expect("a call");
    assert_eq!(first.hangup().await.expect("an answer"), 200);
    let path = rig.folder().join("calls.jsonl");
    let lines = || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<Vec<serde_json::Value>, _>>()
    };
    let ended = rig
        .wait_for(|| lines().ok().filter(|lines| lines.len() == 1))
        .await;
    assert!(ended[0]["lasted_ms"].is_u64(), "{}", ended[0]);
    assert_eq!(
        ended[0]["steps"]
            .as_array()
            .and_then(|steps| steps.last())
            .expect("a step")["kind"],
        "hung-up"
    );
    rig.restart().await;
    let all = lines().expect("JSON");
    assert_eq!(all.len(), 2, "the one that went on, as it was");
    assert_eq!(all[1]["outcome"], "answered");
    assert_eq!(all[1]["lasted_ms"], serde_json::Value::Null);
}
