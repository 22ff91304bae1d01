//! What an app reads in a push: one schema for all services, documented in docs/push.md.
//!
//! A payload that is too long is cut at the caller's display name, then at the caller's URI, then
//! at the called account, at character boundaries; a Call-ID is never cut, the app looks calls up
//! by it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::proto::push::{CallNotice, MessageNotice, Notice};

/// APNs' limit for everything but VoIP pushes.
pub(super) const APNS_LIMIT: usize = 4096;
/// APNs' limit for VoIP pushes.
pub(super) const APNS_VOIP_LIMIT: usize = 5120;
/// FCM's limit for the keys and values of `data`.
pub(super) const FCM_LIMIT: usize = 4096;

/// The payload cannot be made short enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A payload as APNs carries it.
#[derive(Clone, Debug, Serialize)]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    aps: Option<Aps>,
    event: &'static str,
    #[serde(flatten)]
    call: Option<Call<'a>>,
    gateway: &'a str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Call<'a> {
    call_id: &'a str,
    from_uri: &'a str,
    display_name: &'a str,
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<bool>,
    sent_at: u64,
    expires_at: u64,
}

/// Apple's own part.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Aps {
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<Alert>,
    #[serde(skip_serializing_if = "is_zero")]
    content_available: u8,
    #[serde(skip_serializing_if = "is_zero")]
    mutable_content: u8,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Alert {
    loc_key: &'static str,
}

/// What an app's strings file translates an alert with: a cancelled call's, a missed call's, a
/// message's.
const CANCELLED_KEY: &str = "CALL_CANCELLED";
const MISSED_KEY: &str = "CALL_MISSED";
const MESSAGE_KEY: &str = "MESSAGE_RECEIVED";

/// Writes the body of an APNs request.
pub(super) fn apns(notice: &Notice, gateway: &str) -> Result<Bytes, TooLarge> {
    let (aps, limit) = match notice {
        Notice::Call(_) => (Aps::default(), APNS_VOIP_LIMIT),
        Notice::Cancel(_) => (Aps::alert(CANCELLED_KEY), APNS_LIMIT),
        Notice::Missed(_) => (Aps::alert(MISSED_KEY), APNS_LIMIT),
        Notice::Message(_) => (Aps::alert(MESSAGE_KEY), APNS_LIMIT),
        Notice::Refresh | Notice::Wake => (
            Aps {
                content_available: 1,
                ..Aps::default()
            },
            APNS_LIMIT,
        ),
    };
    let mut payload = payload(notice, gateway, Some(aps));
    loop {
        let body = serde_json::to_vec(&payload).map_err(|_| TooLarge)?;
        if body.len() <= limit {
            return Ok(body.into());
        }
        payload.shorten(body.len() - limit)?;
    }
}

/// Writes FCM's `data`: the same keys, all values strings.
pub(super) fn fcm(
    notice: &Notice,
    gateway: &str,
) -> Result<BTreeMap<&'static str, String>, TooLarge> {
    let mut payload = payload(notice, gateway, None);
    loop {
        let data = payload.strings();
        let length = serde_json::to_vec(&data).map_err(|_| TooLarge)?.len();
        if length <= FCM_LIMIT {
            return Ok(data);
        }
        payload.shorten(length - FCM_LIMIT)?;
    }
}

fn payload<'a>(notice: &'a Notice, gateway: &'a str, aps: Option<Aps>) -> Payload<'a> {
    let call = match notice {
        Notice::Call(call) | Notice::Cancel(call) | Notice::Missed(call) => Some(Call::from(call)),
        Notice::Message(message) => Some(Call::from(message)),
        Notice::Refresh | Notice::Wake => None,
    };
    Payload {
        aps,
        event: notice.label(),
        call,
        gateway,
    }
}

impl<'a> From<&'a CallNotice> for Call<'a> {
    fn from(call: &'a CallNotice) -> Self {
        Self {
            call_id: &call.call_id,
            from_uri: &call.from_uri,
            display_name: &call.display_name,
            to: &call.to,
            video: Some(call.video),
            sent_at: call.sent_at_ms,
            expires_at: call.expires_at_ms,
        }
    }
}

impl<'a> From<&'a MessageNotice> for Call<'a> {
    fn from(message: &'a MessageNotice) -> Self {
        Self {
            call_id: &message.call_id,
            from_uri: &message.from_uri,
            display_name: &message.display_name,
            to: &message.to,
            video: None,
            sent_at: message.sent_at_ms,
            expires_at: message.expires_at_ms,
        }
    }
}

impl Aps {
    /// Shows something, which the app's own service extension may rewrite before.
    fn alert(loc_key: &'static str) -> Self {
        Self {
            alert: Some(Alert { loc_key }),
            content_available: 1,
            mutable_content: 1,
        }
    }
}

impl Payload<'_> {
    /// Takes `excess` bytes or more, in JSON's form, off what may be cut.
    fn shorten(&mut self, excess: usize) -> Result<(), TooLarge> {
        let call = self.call.as_mut().ok_or(TooLarge)?;
        for text in [&mut call.display_name, &mut call.from_uri, &mut call.to] {
            if !text.is_empty() {
                *text = cut(text, excess);
                return Ok(());
            }
        }
        Err(TooLarge)
    }

    /// All values as strings.
    fn strings(&self) -> BTreeMap<&'static str, String> {
        let mut data = BTreeMap::from([
            ("event", self.event.to_owned()),
            ("gateway", self.gateway.to_owned()),
        ]);
        if let Some(call) = &self.call {
            data.extend([
                ("call-id", call.call_id.to_owned()),
                ("from-uri", call.from_uri.to_owned()),
                ("display-name", call.display_name.to_owned()),
                ("to", call.to.to_owned()),
                ("sent-at", call.sent_at.to_string()),
                ("expires-at", call.expires_at.to_string()),
            ]);
            data.extend(call.video.map(|video| ("video", video.to_string())));
        }
        data
    }
}

/// Cuts whole characters off the end until `excess` bytes of JSON are gone.
fn cut(text: &str, excess: usize) -> &str {
    let mut gone = 0;
    let mut end = text.len();
    for (at, character) in text.char_indices().rev() {
        if gone >= excess {
            break;
        }
        gone += json_length(character);
        end = at;
    }
    text.get(..end).unwrap_or_default()
}

/// How many bytes a character takes in JSON, at least: what is underestimated is cut in the next
/// round.
const fn json_length(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn notice(display_name: &str, from_uri: &str) -> CallNotice {
        CallNotice {
            call_id: "a84b4c76e66710@pbx".into(),
            from_uri: from_uri.into(),
            display_name: display_name.into(),
            to: "1001@pbx.example.com".into(),
            video: true,
            sent_at_ms: 1_700_000_000_123,
            expires_at_ms: 1_700_000_025_123,
        }
    }

    #[test]
    fn a_call_says_all_that_an_app_must_show() {
        let call = Notice::Call(notice("Ada \"L\"", "sip:ada@example.com"));
        let body: Value = serde_json::from_slice(&apns(&call, "gw-1").unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"aps": {}, "event": "call", "call-id": "a84b4c76e66710@pbx",
                "from-uri": "sip:ada@example.com", "display-name": "Ada \"L\"",
                "to": "1001@pbx.example.com", "video": true, "sent-at": 1_700_000_000_123_u64,
                "expires-at": 1_700_000_025_123_u64, "gateway": "gw-1"})
        );
        let data = serde_json::to_value(fcm(&call, "gw-1").unwrap()).unwrap();
        assert_eq!(
            data,
            json!({"event": "call", "call-id": "a84b4c76e66710@pbx",
                "from-uri": "sip:ada@example.com", "display-name": "Ada \"L\"",
                "to": "1001@pbx.example.com", "video": "true", "sent-at": "1700000000123",
                "expires-at": "1700000025123", "gateway": "gw-1"})
        );
    }

    #[test]
    fn a_refresh_says_nothing_about_anybody() {
        let body: Value = serde_json::from_slice(&apns(&Notice::Refresh, "gw").unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"aps": {"content-available": 1}, "event": "refresh", "gateway": "gw"})
        );
        assert_eq!(fcm(&Notice::Refresh, "gw").unwrap().len(), 2);
    }

    #[test]
    fn the_name_is_cut_before_the_uri_and_a_call_id_never() {
        let long = "ж".repeat(4000);
        let body = apns(&Notice::Call(notice(&long, "sip:a@b")), "gw").unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert!(body.len() <= APNS_VOIP_LIMIT && body.len() > APNS_VOIP_LIMIT - 4);
        assert_eq!(value["from-uri"], "sip:a@b");

        let mut both = notice(&long, &format!("sip:{}@b", "x".repeat(9000)));
        let body = apns(&Notice::Cancel(both.clone()), "gw").unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert!(body.len() <= APNS_LIMIT);
        assert_eq!(value["display-name"], "");
        assert_eq!(value["call-id"], "a84b4c76e66710@pbx");

        both.call_id = "c".repeat(6000).into();
        assert_eq!(apns(&Notice::Call(both.clone()), "gw"), Err(TooLarge));
        assert_eq!(fcm(&Notice::Call(both), "gw"), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn any_caller_fits(name in "\\PC{0,3000}|[\\x00-\\x1f\"\\\\]{0,3000}", uri in ".{0,3000}") {
            let call = Notice::Call(notice(&name, &uri));
            let body = apns(&call, "gw").unwrap();
            prop_assert!(body.len() <= APNS_VOIP_LIMIT);
            let value: Value = serde_json::from_slice(&body).unwrap();
            prop_assert!(name.starts_with(value["display-name"].as_str().unwrap()));
            let data = serde_json::to_vec(&fcm(&call, "gw").unwrap()).unwrap();
            prop_assert!(data.len() <= FCM_LIMIT);
        }
    }
}
