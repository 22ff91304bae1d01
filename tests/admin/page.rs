//! The page in a real browser: what an operator sees, by keyboard, in the dark, on a phone.

use rouse::standin::push::Act;

use crate::browser::{Browser, ENTER};
use crate::rig::{Rig, TOKEN};

/// A sleeping phone is called, woken and answers; another does not wake, for its token is dead.
async fn two_calls(rig: &Rig) {
    rig.sleeper("1001", 1).await;
    rig.sleeper("1002", 2).await;
    let calling = async {
        let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
        call.wait_answer().await.expect("an answer");
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
    let ((), _) = tokio::join!(calling, being_called);
    rig.apns.always(
        Some(&"02".repeat(32)),
        Some(Act::refuse(410, "Unregistered").into()),
    );
    let mut call = rig.asterisk.call("1002", "2000").await.expect("an INVITE");
    call.wait_final().await.expect("an answer");
}

async fn unlock(browser: &Browser, rig: &Rig) {
    browser.go(&format!("http://{}/", rig.api)).await;
    browser
        .until("document.activeElement.name === 'token'")
        .await;
    browser.type_keys(&format!("{TOKEN}{ENTER}")).await;
    browser.sees("Devices asleep").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_out_by_keyboard_why_a_phone_did_not_ring() {
    let rig = Rig::new().await;
    let browser = Browser::open(1280, 1000, false).await;
    browser.go(&format!("http://{}/", rig.api)).await;
    browser
        .until("document.activeElement.name === 'token'")
        .await;
    browser.type_keys(&format!("wrong{ENTER}")).await;
    browser.sees("That is not the token.").await;
    unlock(&browser, &rig).await;

    // The calls appear by themselves.
    two_calls(&rig).await;
    browser
        .until("document.querySelectorAll('.scroll tbody tr').length === 2")
        .await;
    browser.sees("unreachable").await;
    browser.picture("now").await;

    browser.type_keys("/").await;
    browser
        .until("document.activeElement.type === 'search'")
        .await;
    browser.type_keys(&format!("1002{ENTER}")).await;
    browser
        .until("location.hash === '#/calls?number=1002'")
        .await;
    browser
        .until("document.querySelectorAll('.scroll tbody tr').length === 1")
        .await;
    browser
        .script("document.querySelector('.scroll tbody a').focus()")
        .await;
    browser.type_keys(ENTER).await;
    browser.until("document.querySelector('svg.ladder')").await;
    browser.sees("no longer registered").await;
    browser.picture("call-unreachable").await;

    let shown = browser.script("return document.body.innerText").await;
    let shown = shown.as_str().expect("text");
    assert!(
        !shown.contains(&"02".repeat(8)),
        "a token is shown: {shown}"
    );
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_drawn_as_a_ladder_in_the_dark() {
    let rig = Rig::new().await;
    two_calls(&rig).await;
    let browser = Browser::open(1280, 1200, true).await;
    unlock(&browser, &rig).await;
    let page = rig.get("/api/calls?agent=1001").await.json();
    let id = page["calls"][0]["id"].as_str().expect("a call").to_owned();
    browser
        .script(&format!("location.hash = '/call/{id}'"))
        .await;
    browser.until("document.querySelector('svg.ladder')").await;
    let words =
        "return [...document.querySelectorAll('svg.ladder text')].map((t) => t.textContent)";
    let words = browser.script(words).await.to_string();
    for word in [
        "Asterisk",
        "Rouse",
        "push service",
        "device",
        "INVITE",
        "push accepted",
        "REGISTER",
        "180 Ringing",
        "200 OK",
    ] {
        assert!(words.contains(word), "{word} is not in the ladder: {words}");
    }
    let ground = "return getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.script(ground).await, "rgb(16, 19, 22)");
    browser.picture("call-dark").await;
    browser
        .script("document.querySelector('header button').click()")
        .await;
    assert_eq!(browser.script(ground).await, "rgb(246, 247, 248)");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone_and_pushes_for_a_test() {
    let rig = Rig::new().await;
    two_calls(&rig).await;
    rig.sleeper("1003", 3).await;
    let browser = Browser::open(500, 900, false).await;
    unlock(&browser, &rig).await;
    for view in ["/", "/calls", "/devices"] {
        browser.script(&format!("location.hash = '{view}'")).await;
        browser
            .until("document.querySelector('.scroll tbody tr')")
            .await;
        let overflow = "return document.documentElement.scrollWidth - innerWidth";
        let overflow = browser.script(overflow).await.as_i64();
        assert!(
            overflow.is_some_and(|pixels| pixels <= 0),
            "{view}: {overflow:?}"
        );
        browser
            .picture(&format!("phone{}", view.replace('/', "-")))
            .await;
    }
    browser
        .script("location.hash = '/devices?agent=1003'")
        .await;
    browser
        .until("document.querySelectorAll('.scroll tbody tr').length === 1")
        .await;
    browser
        .script("document.querySelector('.scroll tbody a').click()")
        .await;
    browser.until("document.querySelector('main button')").await;
    browser
        .script("document.querySelector('main button').click()")
        .await;
    browser
        .until("/apns: .*(ms|s)/.test(document.querySelector('main [role=status]').innerText)")
        .await;

    // What somebody put into an address is text, and never a part of the page.
    browser
        .script("location.hash = '/calls?number=' + encodeURIComponent('<img id=bad src=x>')")
        .await;
    browser.sees("<img id=bad").await;
    assert_eq!(
        browser
            .script("return document.getElementById('bad')")
            .await,
        serde_json::Value::Null
    );
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}
