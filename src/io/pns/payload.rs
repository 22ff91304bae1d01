//! What an app reads in a push: one schema for all services, documented in docs/push.md.
//!
//! A payload that is too long is cut at the caller's display name, then at the caller's URI, then
//! at the called account, at character boundaries; a Call-ID is never cut, the app looks calls up
//! by it.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use serde::Serialize;

use crate::io::pns::http_date;
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

/// What an operator wants pushes to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The keys that liblinphone's apps read stand beside ours.
    pub for_linphone: bool,
    /// Nothing about the caller leaves the gateway.
    pub hides_caller: bool,
}

/// A device behind an operator's webhook.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Device<'a> {
    /// `pn-provider`.
    pub(super) provider: &'a str,
    /// `pn-param`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) param: Option<&'a str>,
    /// `pn-prid`.
    pub(super) prid: &'a str,
    /// How long the push is worth delivering, in seconds.
    pub(super) ttl: u64,
}

/// A payload, as APNs carries it beside `aps`.
#[derive(Clone, Debug, Serialize)]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    aps: Option<Aps<'a>>,
    event: &'static str,
    #[serde(flatten)]
    call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pn_ttl: Option<u64>,
    gateway: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device<'a>>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_elsewhere: Option<bool>,
    sent_at: u64,
    expires_at: u64,
}

/// Apple's own part.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Aps<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<Alert>,
    #[serde(skip_serializing_if = "is_zero")]
    content_available: u8,
    #[serde(skip_serializing_if = "is_zero")]
    mutable_content: u8,
    #[serde(flatten)]
    linphone: Option<Linphone<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Alert {
    loc_key: &'static str,
}

/// What liblinphone's apps look for within `aps`, and in FCM's `data`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Linphone<'a> {
    loc_key: &'static str,
    call_id: &'a str,
    uuid: String,
    send_time: String,
}

/// What an app's strings file translates an alert with: a cancelled call's, a missed call's, a
/// message's.
const CANCELLED_KEY: &str = "CALL_CANCELLED";
const MISSED_KEY: &str = "CALL_MISSED";
const MESSAGE_KEY: &str = "MESSAGE_RECEIVED";
/// The same for a call and a message in liblinphone's apps.
const LINPHONE_CALL_KEY: &str = "IC_MSG";
const LINPHONE_MESSAGE_KEY: &str = "IM_MSG";

/// Writes the body of an APNs request.
pub(super) fn apns(notice: &Notice, gateway: &str, content: Content) -> Result<Bytes, TooLarge> {
    let (aps, limit) = match notice {
        Notice::Call(_) => (Aps::default(), APNS_VOIP_LIMIT),
        Notice::Cancel(_) | Notice::Missed(_) | Notice::Message(_) => {
            (Aps::alert(loc_key(notice, content)), APNS_LIMIT)
        }
        Notice::Refresh | Notice::Wake => (
            Aps {
                content_available: 1,
                ..Aps::default()
            },
            APNS_LIMIT,
        ),
    };
    let mut payload = Payload::new(notice, gateway, content);
    payload.aps = Some(Aps {
        linphone: Linphone::of(notice, content),
        ..aps
    });
    payload.fit(limit)
}

/// Writes a payload by itself.
pub(super) fn json(
    notice: &Notice,
    gateway: &str,
    content: Content,
    device: Option<Device<'_>>,
    limit: usize,
) -> Result<Bytes, TooLarge> {
    let mut payload = Payload::new(notice, gateway, content);
    payload.device = device;
    payload.fit(limit)
}

/// Writes FCM's `data`: the same keys, all values strings.
pub(super) fn fcm(
    notice: &Notice,
    gateway: &str,
    content: Content,
) -> Result<BTreeMap<&'static str, String>, TooLarge> {
    let mut payload = Payload::new(notice, gateway, content);
    let linphone = Linphone::of(notice, content);
    loop {
        let mut data = payload.strings();
        if let Some(linphone) = &linphone {
            data.extend([
                ("loc-key", linphone.loc_key.to_owned()),
                ("uuid", linphone.uuid.clone()),
                ("send-time", linphone.send_time.clone()),
            ]);
        }
        let length = serde_json::to_vec(&data).map_err(|_| TooLarge)?.len();
        if length <= FCM_LIMIT {
            return Ok(data);
        }
        payload.shorten(length - FCM_LIMIT)?;
    }
}

const fn loc_key(notice: &Notice, content: Content) -> &'static str {
    match notice {
        Notice::Call(_) => LINPHONE_CALL_KEY,
        Notice::Message(_) if content.for_linphone => LINPHONE_MESSAGE_KEY,
        Notice::Message(_) => MESSAGE_KEY,
        Notice::Missed(_) => MISSED_KEY,
        Notice::Cancel(_) | Notice::Refresh | Notice::Wake => CANCELLED_KEY,
    }
}

impl<'a> Linphone<'a> {
    fn of(notice: &'a Notice, content: Content) -> Option<Self> {
        let (call_id, sent_at_ms) = match notice {
            Notice::Call(call) | Notice::Cancel(call) | Notice::Missed(call) => {
                (&call.call_id, call.sent_at_ms)
            }
            Notice::Message(message) => (&message.call_id, message.sent_at_ms),
            Notice::Refresh | Notice::Wake => return None,
        };
        content.for_linphone.then(|| Self {
            loc_key: loc_key(notice, content),
            call_id,
            uuid: uuid_of(call_id),
            send_time: http_date::date_and_time(sent_at_ms / 1000),
        })
    }
}

/// A UUID that is a call's wherever it is asked for (RFC 9562 §5.8).
fn uuid_of(call_id: &str) -> String {
    let digest = digest::digest(&digest::SHA256, call_id.as_bytes());
    let bytes = digest.as_ref().first_chunk::<16>().copied();
    let bits = u128::from_be_bytes(bytes.unwrap_or_default());
    uuid(bits, 8)
}

/// Writes a UUID of a version.
pub(super) fn uuid(bits: u128, version: u128) -> String {
    let bits = bits & !(0xf000 << 64) & !(0xc000 << 48) | (version << 76) | (0x8000 << 48);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xffff,
        (bits >> 48) & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}

impl<'a> From<&'a CallNotice> for Call<'a> {
    fn from(call: &'a CallNotice) -> Self {
        Self {
            call_id: &call.call_id,
            from_uri: &call.from_uri,
            display_name: &call.display_name,
            to: &call.to,
            video: Some(call.video),
            answered_elsewhere: None,
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
            answered_elsewhere: None,
            sent_at: message.sent_at_ms,
            expires_at: message.expires_at_ms,
        }
    }
}

impl Aps<'_> {
    /// Shows something, which the app's own service extension may rewrite before.
    fn alert(loc_key: &'static str) -> Self {
        Self {
            alert: Some(Alert { loc_key }),
            content_available: 1,
            mutable_content: 1,
            linphone: None,
        }
    }
}

impl<'a> Payload<'a> {
    fn new(notice: &'a Notice, gateway: &'a str, content: Content) -> Self {
        let mut call = match notice {
            Notice::Call(call) | Notice::Cancel(call) | Notice::Missed(call) => {
                Some(Call::from(call))
            }
            Notice::Message(message) => Some(Call::from(message)),
            Notice::Refresh | Notice::Wake => None,
        };
        if let (Notice::Cancel(notice), Some(call)) = (notice, call.as_mut()) {
            call.answered_elsewhere = Some(notice.answered_elsewhere);
        }
        if let Some(call) = call.as_mut().filter(|_| content.hides_caller) {
            (call.from_uri, call.display_name) = ("", "");
        }
        let ring_time = |call: &Call<'_>| call.expires_at.saturating_sub(call.sent_at) / 1000;
        Self {
            aps: None,
            event: notice.label(),
            pn_ttl: call
                .as_ref()
                .filter(|_| content.for_linphone)
                .map(ring_time),
            call,
            gateway,
            device: None,
        }
    }

    /// Writes it in at most `limit` bytes.
    fn fit(mut self, limit: usize) -> Result<Bytes, TooLarge> {
        loop {
            let body = serde_json::to_vec(&self).map_err(|_| TooLarge)?;
            if body.len() <= limit {
                return Ok(body.into());
            }
            self.shorten(body.len() - limit)?;
        }
    }

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
            let elsewhere = call.answered_elsewhere;
            data.extend(elsewhere.map(|word| ("answered-elsewhere", word.to_string())));
        }
        data.extend(self.pn_ttl.map(|ttl| ("pn_ttl", ttl.to_string())));
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

    const PLAIN: Content = Content {
        for_linphone: false,
        hides_caller: false,
    };

    fn notice(display_name: &str, from_uri: &str) -> CallNotice {
        CallNotice {
            call_id: "a84b4c76e66710@pbx".into(),
            from_uri: from_uri.into(),
            display_name: display_name.into(),
            to: "1001@pbx.example.com".into(),
            video: true,
            answered_elsewhere: false,
            sent_at_ms: 1_700_000_000_123,
            expires_at_ms: 1_700_000_025_123,
        }
    }

    #[test]
    fn a_call_says_all_that_an_app_must_show() {
        let call = Notice::Call(notice("Ada \"L\"", "sip:ada@example.com"));
        let body: Value = serde_json::from_slice(&apns(&call, "gw-1", PLAIN).unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"aps": {}, "event": "call", "call-id": "a84b4c76e66710@pbx",
                "from-uri": "sip:ada@example.com", "display-name": "Ada \"L\"",
                "to": "1001@pbx.example.com", "video": true, "sent-at": 1_700_000_000_123_u64,
                "expires-at": 1_700_000_025_123_u64, "gateway": "gw-1"})
        );
        let data = serde_json::to_value(fcm(&call, "gw-1", PLAIN).unwrap()).unwrap();
        assert_eq!(
            data,
            json!({"event": "call", "call-id": "a84b4c76e66710@pbx",
                "from-uri": "sip:ada@example.com", "display-name": "Ada \"L\"",
                "to": "1001@pbx.example.com", "video": "true", "sent-at": "1700000000123",
                "expires-at": "1700000025123", "gateway": "gw-1"})
        );
    }

    #[test]
    fn linphones_keys_stand_beside_ours() {
        let content = Content {
            for_linphone: true,
            ..PLAIN
        };
        let call = Notice::Call(notice("Ada", "sip:ada@example.com"));
        let body: Value = serde_json::from_slice(&apns(&call, "gw", content).unwrap()).unwrap();
        let uuid = body["aps"]["uuid"].as_str().unwrap().to_owned();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
        assert_eq!(
            body["aps"],
            json!({"loc-key": "IC_MSG", "call-id": "a84b4c76e66710@pbx", "uuid": uuid,
                "send-time": "2023-11-14 22:13:20"})
        );
        assert_eq!(
            (
                &body["event"],
                &body["from-uri"],
                &body["display-name"],
                &body["pn_ttl"]
            ),
            (
                &json!("call"),
                &json!("sip:ada@example.com"),
                &json!("Ada"),
                &json!(25)
            )
        );
        let data = fcm(&call, "gw", content).unwrap();
        assert_eq!(
            (
                &*data["uuid"],
                &*data["pn_ttl"],
                &*data["loc-key"],
                &*data["send-time"]
            ),
            (&*uuid, "25", "IC_MSG", "2023-11-14 22:13:20")
        );
    }

    #[test]
    fn a_private_push_says_nothing_about_the_caller() {
        let content = Content {
            for_linphone: true,
            hides_caller: true,
        };
        for notice in [
            Notice::Call(notice("Ada", "sip:ada@example.com")),
            Notice::Missed(notice("Ada", "sip:ada@example.com")),
        ] {
            let texts = [
                String::from_utf8(apns(&notice, "gw", content).unwrap().to_vec()).unwrap(),
                serde_json::to_string(&fcm(&notice, "gw", content).unwrap()).unwrap(),
                String::from_utf8(json(&notice, "gw", content, None, 4096).unwrap().to_vec())
                    .unwrap(),
            ];
            for text in texts {
                assert!(!text.contains("Ada") && !text.contains("ada@"), "{text}");
                assert!(text.contains("a84b4c76e66710@pbx") && text.contains("1001@pbx"));
            }
        }
    }

    #[test]
    fn a_refresh_says_nothing_about_anybody() {
        let body: Value =
            serde_json::from_slice(&apns(&Notice::Refresh, "gw", PLAIN).unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"aps": {"content-available": 1}, "event": "refresh", "gateway": "gw"})
        );
        assert_eq!(fcm(&Notice::Refresh, "gw", PLAIN).unwrap().len(), 2);
    }

    #[test]
    fn the_name_is_cut_before_the_uri_and_a_call_id_never() {
        let long = "ж".repeat(4000);
        let body = apns(&Notice::Call(notice(&long, "sip:a@b")), "gw", PLAIN).unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert!(body.len() <= APNS_VOIP_LIMIT && body.len() > APNS_VOIP_LIMIT - 4);
        assert_eq!(value["from-uri"], "sip:a@b");

        let mut both = notice(&long, &format!("sip:{}@b", "x".repeat(9000)));
        let body = apns(&Notice::Cancel(both.clone()), "gw", PLAIN).unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert!(body.len() <= APNS_LIMIT);
        assert_eq!(value["display-name"], "");
        assert_eq!(value["call-id"], "a84b4c76e66710@pbx");

        both.call_id = "c".repeat(6000).into();
        assert_eq!(
            apns(&Notice::Call(both.clone()), "gw", PLAIN),
            Err(TooLarge)
        );
        assert_eq!(fcm(&Notice::Call(both), "gw", PLAIN), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn any_caller_fits(name in "\\PC{0,3000}|[\\x00-\\x1f\"\\\\]{0,3000}", uri in ".{0,3000}") {
            let call = Notice::Call(notice(&name, &uri));
            let body = apns(&call, "gw", PLAIN).unwrap();
            prop_assert!(body.len() <= APNS_VOIP_LIMIT);
            let value: Value = serde_json::from_slice(&body).unwrap();
            prop_assert!(name.starts_with(value["display-name"].as_str().unwrap()));
            let data = serde_json::to_vec(&fcm(&call, "gw", PLAIN).unwrap()).unwrap();
            prop_assert!(data.len() <= FCM_LIMIT);
        }
    }
}
