//! What FCM takes and what it does not, and its words for that.

use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};

/// FCM's limit for keys and values of `data`.
const DATA_LIMIT: usize = 4096;
/// Google takes no assertion that is valid for longer, in seconds.
const ASSERTION_LIFETIME: u64 = 3600;
/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 60;
/// The scope that sending messages needs.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// The codes that FCM says in a detail of its own, beside Google's common status.
const FCM_CODES: [&str; 8] = [
    "INTERNAL",
    "INVALID_ARGUMENT",
    "QUOTA_EXCEEDED",
    "SENDER_ID_MISMATCH",
    "THIRD_PARTY_AUTH_ERROR",
    "UNAVAILABLE",
    "UNREGISTERED",
    "UNSPECIFIED_ERROR",
];

/// A refusal in Google's words.
pub(super) struct Wrong {
    pub(super) status: u16,
    code: String,
    /// The field that is to blame.
    field: Option<String>,
}

impl Wrong {
    pub(super) fn new(status: u16, code: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            field: None,
        }
    }

    fn argument(field: &str) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..Self::new(400, "INVALID_ARGUMENT")
        }
    }

    /// Google's JSON.
    pub(super) fn body(&self) -> Bytes {
        let mut details = Vec::new();
        if FCM_CODES.contains(&self.code.as_str()) {
            details.push(json!({
                "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
                "errorCode": self.code,
            }));
        }
        if let Some(field) = &self.field {
            details.push(json!({
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": field, "description": "Invalid value"}],
            }));
        }
        let status = match self.status {
            400 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            _ => "INTERNAL",
        };
        let error = json!({
            "code": self.status,
            "message": "refused by a stand-in",
            "status": status,
            "details": details,
        });
        json!({"error": error}).to_string().into()
    }
}

/// Verifies `messages:send`'s body and returns the registration token, `None` for a topic.
pub(super) fn verify_message(body: &Value) -> Result<Option<&str>, Wrong> {
    let message = body
        .get("message")
        .and_then(Value::as_object)
        .ok_or_else(|| Wrong::argument("message"))?;
    let token = message.get("token").and_then(Value::as_str);
    match (token, message.get("topic")) {
        (Some(token), None) if is_token(token) => {}
        (Some(_), None) => return Err(Wrong::argument("message.token")),
        (None, Some(_)) => {}
        (Some(_), Some(_)) | (None, None) => return Err(Wrong::argument("message")),
    }
    if let Some(data) = message.get("data") {
        verify_data(data)?;
    }
    if let Some(android) = message.get("android") {
        let priority = android.get("priority").and_then(Value::as_str);
        if !matches!(priority, None | Some("HIGH" | "NORMAL" | "high" | "normal")) {
            return Err(Wrong::argument("message.android.priority"));
        }
        if let Some(ttl) = android.get("ttl") {
            let seconds = ttl.as_str().and_then(|text| text.strip_suffix('s'));
            if seconds.and_then(|text| text.parse::<f64>().ok()).is_none() {
                return Err(Wrong::argument("message.android.ttl"));
            }
        }
    }
    Ok(token)
}

fn verify_data(data: &Value) -> Result<(), Wrong> {
    let data = data
        .as_object()
        .ok_or_else(|| Wrong::argument("message.data"))?;
    let mut length = 0;
    for (key, value) in data {
        let wrong = || Wrong::argument(&format!("message.data[{key}]"));
        let value = value.as_str().ok_or_else(wrong)?;
        if matches!(key.as_str(), "from" | "message_type" | "collapse_key")
            || key.starts_with("google.")
            || key.starts_with("gcm.")
        {
            return Err(wrong());
        }
        length += key.len() + value.len();
    }
    if length > DATA_LIMIT {
        return Err(Wrong::argument("message.data"));
    }
    Ok(())
}

fn is_token(token: &str) -> bool {
    !token.is_empty()
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':'))
}

#[derive(Deserialize)]
struct Claims {
    scope: String,
    iat: u64,
    exp: u64,
}

/// Verifies a token request's form and the assertion in it; the error is OAuth's code and text.
pub(super) fn verify_assertion(
    form: &[u8],
    key: &DecodingKey,
    email: &str,
    token_uri: &str,
    now: u64,
) -> Result<(), (&'static str, &'static str)> {
    let form = std::str::from_utf8(form).map_err(|_| ("invalid_request", "not a form"))?;
    let field = |name: &str| {
        form.split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    };
    let grant = field("grant_type").unwrap_or_default();
    if grant.replace("%3A", ":") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Err(("unsupported_grant_type", "Invalid grant_type"));
    }
    let assertion = field("assertion").ok_or(("invalid_request", "Missing assertion"))?;
    let mut validation = Validation::new(Algorithm::RS256);
    // The dates are judged below, by the stand-in's own clock.
    validation.validate_exp = false;
    validation.set_issuer(&[email]);
    validation.set_audience(&[token_uri]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let claims = jsonwebtoken::decode::<Claims>(assertion, key, &validation)
        .map_err(|_| ("invalid_grant", "Invalid JWT Signature."))?
        .claims;
    if !claims.scope.split(' ').any(|scope| scope == SCOPE) {
        return Err(("invalid_scope", "Invalid OAuth scope or ID token audience"));
    }
    if claims.exp <= now
        || claims.iat > now + LEEWAY
        || claims.exp.saturating_sub(claims.iat) > ASSERTION_LIFETIME
    {
        return Err((
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::KeyPair;

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const EMAIL: &str = "rouse@project";
    const URI: &str = "https://localhost/token";

    #[test]
    fn messages_are_refused_by_the_field_that_is_to_blame() {
        let good = json!({"message": {"token": "a:B_c-1", "data": {"event": "call"},
            "android": {"priority": "HIGH", "ttl": "25s"}}});
        assert_eq!(verify_message(&good).ok(), Some(Some("a:B_c-1")));
        let long = "x".repeat(DATA_LIMIT);
        for (pointer, value, field) in [
            ("/message/token", json!("a b"), "message.token"),
            ("/message/token", json!(""), "message.token"),
            ("/message/token", json!(7), "message"),
            ("/message/data", json!("x"), "message.data"),
            (
                "/message/data",
                json!({"video": true}),
                "message.data[video]",
            ),
            ("/message/data", json!({"from": "x"}), "message.data[from]"),
            (
                "/message/data",
                json!({"google.x": "x"}),
                "message.data[google.x]",
            ),
            ("/message/data", json!({"x": long}), "message.data"),
            (
                "/message/android/priority",
                json!("LOUD"),
                "message.android.priority",
            ),
            ("/message/android/ttl", json!("25"), "message.android.ttl"),
            ("/message/android/ttl", json!(25), "message.android.ttl"),
            ("/message", json!("x"), "message"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            let wrong = verify_message(&bad).unwrap_err();
            assert_eq!(wrong.field.as_deref(), Some(field), "{pointer}");
            assert_eq!(wrong.status, 400);
        }
    }

    #[test]
    fn assertions_are_judged_by_key_issuer_audience_scope_and_dates() {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let public = DecodingKey::from_rsa_pem(key.public_key_pem().as_bytes()).unwrap();
        let private = EncodingKey::from_rsa_pem(key.serialize_pem().as_bytes()).unwrap();
        let good = json!({"iss": EMAIL, "aud": URI, "scope": SCOPE, "iat": NOW, "exp": NOW + 3600});
        let judge = |claims: &Value| {
            let header = Header::new(Algorithm::RS256);
            let jwt = jsonwebtoken::encode(&header, claims, &private).unwrap();
            let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
            let form = format!("grant_type={grant}&assertion={jwt}");
            verify_assertion(form.as_bytes(), &public, EMAIL, URI, NOW).map_err(|(error, _)| error)
        };
        assert_eq!(judge(&good), Ok(()));
        for (claim, value, error) in [
            ("iss", json!("somebody"), "invalid_grant"),
            ("aud", json!("https://elsewhere"), "invalid_grant"),
            ("scope", json!("openid"), "invalid_scope"),
            ("iat", json!(NOW + 61), "invalid_grant"),
            ("exp", json!(NOW), "invalid_grant"),
            ("exp", json!(NOW + 3601), "invalid_grant"),
        ] {
            let mut bad = good.clone();
            bad[claim] = value;
            assert_eq!(judge(&bad), Err(error), "{claim}");
        }
        for (form, error) in [
            ("", "unsupported_grant_type"),
            ("grant_type=password&assertion=x", "unsupported_grant_type"),
            (
                "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer",
                "invalid_request",
            ),
            (
                "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=x.y.z",
                "invalid_grant",
            ),
        ] {
            let verdict = verify_assertion(form.as_bytes(), &public, EMAIL, URI, NOW);
            assert_eq!(verdict.map_err(|(error, _)| error), Err(error), "{form}");
        }
    }
}
