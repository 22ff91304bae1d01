//! The demo's story: register, sleep, be called, be woken, answer, talk, hang up.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::sleep;

use super::stage::{AGENT, Push, Stage};
use crate::cli::output;
use crate::standin::phone::Phone;
use crate::standin::push::AcceptedPush;
use crate::standin::timeline::Timeline;

/// How long a nap, a ring and a chat last.
const NAP: Duration = Duration::from_millis(200);
const RING: Duration = Duration::from_millis(300);
const CHAT: Duration = Duration::from_millis(300);

const CALLER: &str = "2000";

/// The times that the demo is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) wake_ms: u64,
    pub(super) answered_ms: u64,
}

/// Plays the story.
pub(super) async fn play(stage: &Stage, timeline: &Timeline) -> anyhow::Result<Times> {
    timeline.restart();
    output::progress("the phone registers through Rouse and goes to sleep");
    go_to_sleep(stage, timeline).await?;
    sleep(NAP).await;
    output::progress("Asterisk calls; Rouse holds the call and wakes the phone");
    let invited = timeline.elapsed_ms();
    let calling = async {
        let mut call = stage
            .asterisk
            .call(AGENT, CALLER)
            .await
            .context("Asterisk's INVITE failed")?;
        call.wait_answer().await.context("the call failed")?;
        let answered = timeline.elapsed_ms();
        call.wait_bye().await.context("the call did not end")?;
        anyhow::Ok(answered)
    };
    let (answered, woken) = tokio::try_join!(calling, be_woken(stage, timeline))?;
    Ok(Times {
        wake_ms: woken - invited,
        answered_ms: answered - invited,
    })
}

async fn go_to_sleep(stage: &Stage, timeline: &Timeline) -> anyhow::Result<()> {
    let mut phone = Phone::wake(stage.phone.clone(), timeline.clone())
        .await
        .context("the phone cannot reach Rouse")?;
    phone
        .register()
        .await
        .context("the phone cannot register")?;
    phone.sleep();
    timeline.note("phone", "phone", "asleep");
    Ok(())
}

/// The phone's side of the call; returns when the phone was registered again.
async fn be_woken(stage: &Stage, timeline: &Timeline) -> anyhow::Result<u64> {
    let push = stage.push.next_push().await;
    note_push(&stage.push, &push, timeline);
    output::progress("the phone is awake: it registers, rings, answers");
    timeline.note("phone", "phone", "awake");
    let mut phone = Phone::wake(stage.phone.clone(), timeline.clone())
        .await
        .context("the woken phone cannot reach Rouse")?;
    phone
        .register()
        .await
        .context("the woken phone cannot register")?;
    let woken = timeline.elapsed_ms();
    let mut call = phone
        .next_call()
        .await
        .context("the woken phone got no call")?;
    call.ring().await.context("the phone cannot ring")?;
    sleep(RING).await;
    call.answer().await.context("the phone cannot answer")?;
    sleep(CHAT).await;
    let status = call.hangup().await.context("the phone cannot hang up")?;
    anyhow::ensure!(status == 200, "the BYE was answered with {status}");
    anyhow::ensure!(
        phone.invites_seen() == 1,
        "the phone got {} INVITEs for one call",
        phone.invites_seen()
    );
    Ok(woken)
}

fn note_push(service: &Push, push: &AcceptedPush, timeline: &Timeline) {
    let name = service.name();
    let (urgency, caller) = match service {
        Push::Apns(_) => {
            let kind = push.header("apns-push-type");
            let priority = push.header("apns-priority");
            (
                format!("{kind}, priority {priority}"),
                push.payload.get("display-name"),
            )
        }
        Push::Fcm(_) => {
            let priority = push.payload.pointer("/message/android/priority");
            let priority = priority.and_then(Value::as_str).unwrap_or_default();
            (
                format!("data, {priority}"),
                push.payload.pointer("/message/data/display-name"),
            )
        }
    };
    let caller = caller.and_then(Value::as_str).unwrap_or_default();
    timeline.note("Rouse", name, format!("push ({urgency})"));
    timeline.note(name, "Rouse", "200 OK (push)");
    timeline.note(name, "phone", format!("push: {caller} calls"));
}
