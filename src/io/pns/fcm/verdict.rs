//! What FCM's status and error code mean for a push; docs/push.md has the same table for operators.
//!
//! FCM says its word in `error.details[]`, in an entry of type `FcmError`, which may stand anywhere
//! among others or be missing; what answers in its place (a balancer) sends HTML.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::io::pns::delivery::Judgement;
use crate::proto::push::{PushError, Reason};

/// The pause after a refused quota if FCM names none: its quotas are per minute.
const QUOTA_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    error: Status,
}

/// Google's `Status`.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<serde_json::Value>,
}

impl Status {
    /// FCM's own word.
    fn fcm_code(&self) -> Option<&str> {
        self.details
            .iter()
            .find_map(|detail| detail.get("errorCode")?.as_str())
    }
}

/// Judges a refusal: any status but 200.
pub(super) fn refusal(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Judgement {
    let error = serde_json::from_slice::<Body>(body)
        .unwrap_or_default()
        .error;
    let code = error.fcm_code();
    let word = match code {
        Some(code) => code.to_owned(),
        None if error.status.is_empty() => format!("status {}", status.as_u16()),
        None => error.status.clone(),
    };
    let reason = Reason::new(&word);
    let unavailable = |reason| PushError::Unavailable {
        retry_after,
        reason,
    };
    match (status.as_u16(), code) {
        (_, Some("UNREGISTERED")) => Judgement::Final(Err(PushError::Unregistered {
            since_ms: None,
            reason,
        })),
        (_, Some("SENDER_ID_MISMATCH")) => Judgement::Final(Err(PushError::WrongToken { reason })),
        (_, Some("THIRD_PARTY_AUTH_ERROR")) => {
            Judgement::Final(Err(PushError::BadCredentials { reason }))
        }
        (_, Some("UNSPECIFIED_ERROR")) => Judgement::Again(unavailable(reason)),
        (401, _) => Judgement::Renew(PushError::BadCredentials { reason }),
        // 404 without FCM's word is not about the token: the project is not there.
        (403 | 404, _) => Judgement::Final(Err(PushError::BadCredentials { reason })),
        (429, _) => Judgement::Final(Err(PushError::Throttled {
            retry_after: retry_after.unwrap_or(QUOTA_PAUSE),
            reason,
        })),
        (500..=599, _) => Judgement::Again(unavailable(reason)),
        _ => Judgement::Final(Err(PushError::Refused { reason })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        match refusal(status, body.as_bytes(), None) {
            Judgement::Final(Ok(_)) => "accepted".to_owned(),
            Judgement::Final(Err(error)) => format!("final {}", error.label()),
            Judgement::Renew(error) => format!("renew {}", error.label()),
            Judgement::Reconnect(error) => format!("reconnect {}", error.label()),
            Judgement::Again(error) => format!("again {}", error.label()),
        }
    }

    fn fcm(code: &str) -> String {
        format!(
            r#"{{"error":{{"code":1,"message":"m","status":"S","details":[
                {{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{{"field":"x"}}]}},
                {{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"{code}"}}]}}}}"#
        )
    }

    #[test]
    fn every_code_of_google_has_its_consequence() {
        for (status, code, expected) in [
            (400, "INVALID_ARGUMENT", "final refused"),
            (401, "THIRD_PARTY_AUTH_ERROR", "final bad-credentials"),
            (403, "SENDER_ID_MISMATCH", "final wrong-token"),
            (404, "UNREGISTERED", "final unregistered"),
            (429, "QUOTA_EXCEEDED", "final throttled"),
            (500, "INTERNAL", "again unavailable"),
            (500, "UNSPECIFIED_ERROR", "again unavailable"),
            (503, "UNAVAILABLE", "again unavailable"),
        ] {
            assert_eq!(judged(status, &fcm(code)), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_word_that_is_not_fcms_leaves_the_status() {
        let plain = r#"{"error":{"code":1,"message":"m","status":"S"}}"#;
        for (status, expected) in [
            (400, "final refused"),
            (401, "renew bad-credentials"),
            (403, "final bad-credentials"),
            (404, "final bad-credentials"),
            (429, "final throttled"),
            (500, "again unavailable"),
            (502, "again unavailable"),
            (503, "again unavailable"),
        ] {
            for body in [
                plain,
                "",
                "<!DOCTYPE html><html>502</html>",
                r#"{"error":"invalid_grant"}"#,
                r#"{"error":{"details":[1,null,"x",{"errorCode":7}]}}"#,
            ] {
                assert_eq!(judged(status, body), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_bad_argument_condemns_no_token() {
        let named = r#"{"error":{"status":"INVALID_ARGUMENT","details":[
            {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"},
            {"@type":"type.googleapis.com/google.rpc.BadRequest",
             "fieldViolations":[{"field":"message.token","description":"Invalid registration token"}]}]}}"#;
        assert_eq!(judged(400, named), "final refused");
    }
}
