//! What APNs' status and reason mean for a push; docs/push.md has the same table for operators.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::io::pns::apns::token::LEAST_INTERVAL;
use crate::io::pns::delivery::Judgement;
use crate::proto::push::{PushError, Reason};

/// The pause after a throttled push if APNs names none.
const THROTTLED_PAUSE: Duration = Duration::from_secs(5);

/// The body of a refusal.
#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    timestamp: Option<u64>,
}

/// Judges a refusal: any status but 200.
pub(super) fn refusal(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Judgement {
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let word = if body.reason.is_empty() {
        format!("status {}", status.as_u16())
    } else {
        body.reason
    };
    let reason = Reason::new(&word);
    match (status.as_u16(), word.as_str()) {
        (_, "Unregistered" | "ExpiredToken") | (410, _) => {
            Judgement::Final(Err(PushError::Unregistered {
                since_ms: body.timestamp,
                reason,
            }))
        }
        (_, "BadDeviceToken" | "DeviceTokenNotForTopic") => {
            Judgement::Final(Err(PushError::WrongToken { reason }))
        }
        (_, "ExpiredProviderToken") => Judgement::Renew(PushError::BadCredentials { reason }),
        (_, "TopicDisallowed" | "BadTopic") | (403, _) => {
            Judgement::Final(Err(PushError::BadCredentials { reason }))
        }
        (_, "IdleTimeout") => Judgement::Reconnect(unavailable(retry_after, reason)),
        (_, "TooManyProviderTokenUpdates") => Judgement::Final(Err(PushError::Throttled {
            retry_after: Duration::from_secs(LEAST_INTERVAL),
            reason,
        })),
        (429, _) => Judgement::Final(Err(PushError::Throttled {
            retry_after: retry_after.unwrap_or(THROTTLED_PAUSE),
            reason,
        })),
        (500..=599, _) => Judgement::Again(unavailable(retry_after, reason)),
        _ => Judgement::Final(Err(PushError::Refused { reason })),
    }
}

const fn unavailable(retry_after: Option<Duration>, reason: Reason) -> PushError {
    PushError::Unavailable {
        retry_after,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renders a judgement in two words.
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

    #[test]
    fn every_reason_of_apple_has_its_consequence() {
        for (status, reason, expected) in [
            (400, "BadCollapseId", "final refused"),
            (400, "BadDeviceToken", "final wrong-token"),
            (400, "BadExpirationDate", "final refused"),
            (400, "BadMessageId", "final refused"),
            (400, "BadPriority", "final refused"),
            (400, "BadTopic", "final bad-credentials"),
            (400, "DeviceTokenNotForTopic", "final wrong-token"),
            (400, "DuplicateHeaders", "final refused"),
            (400, "IdleTimeout", "reconnect unavailable"),
            (400, "InvalidPushType", "final refused"),
            (400, "MissingDeviceToken", "final refused"),
            (400, "MissingTopic", "final refused"),
            (400, "PayloadEmpty", "final refused"),
            (400, "TopicDisallowed", "final bad-credentials"),
            (403, "BadCertificate", "final bad-credentials"),
            (403, "BadCertificateEnvironment", "final bad-credentials"),
            (403, "BadEnvironmentKeyIdInToken", "final bad-credentials"),
            (403, "ExpiredProviderToken", "renew bad-credentials"),
            (403, "Forbidden", "final bad-credentials"),
            (403, "InvalidProviderToken", "final bad-credentials"),
            (403, "MissingProviderToken", "final bad-credentials"),
            (403, "UnrelatedKeyIdInToken", "final bad-credentials"),
            (404, "BadPath", "final refused"),
            (405, "MethodNotAllowed", "final refused"),
            (410, "ExpiredToken", "final unregistered"),
            (410, "Unregistered", "final unregistered"),
            (413, "PayloadTooLarge", "final refused"),
            (429, "TooManyProviderTokenUpdates", "final throttled"),
            (429, "TooManyRequests", "final throttled"),
            (500, "InternalServerError", "again unavailable"),
            (503, "ServiceUnavailable", "again unavailable"),
            (503, "Shutdown", "again unavailable"),
        ] {
            let body = format!(r#"{{"reason":"{reason}"}}"#);
            assert_eq!(judged(status, &body), expected, "{status} {reason}");
        }
    }

    #[test]
    fn a_body_that_says_nothing_leaves_the_status() {
        for (status, expected) in [
            (400, "final refused"),
            (403, "final bad-credentials"),
            (410, "final unregistered"),
            (429, "final throttled"),
            (502, "again unavailable"),
            (302, "final refused"),
        ] {
            for body in [
                "",
                "<html>Bad gateway</html>",
                "{",
                "[1]",
                r#"{"reason":7}"#,
            ] {
                assert_eq!(judged(status, body), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_dead_token_says_since_when() {
        let body = br#"{"reason":"Unregistered","timestamp":1700000000123}"#;
        let judgement = refusal(StatusCode::GONE, body, None);
        let Judgement::Final(Err(PushError::Unregistered { since_ms, reason })) = judgement else {
            panic!("{judgement:?}");
        };
        assert_eq!(since_ms, Some(1_700_000_000_123));
        assert_eq!(reason.as_str(), "Unregistered");
    }
}
