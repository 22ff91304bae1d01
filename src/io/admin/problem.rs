//! What is said when a request cannot be answered (RFC 9457).

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::view::Problem;

/// Why a request was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// No token, or not the right one.
    #[error("a bearer token is needed: the one in [admin] token_file")]
    Unauthorized,
    /// Another site's page asks through a browser.
    #[error("a page of another site may not ask this gateway")]
    Foreign,
    /// Asked too often.
    #[error("too many requests: ask again in a second")]
    TooMany,
    /// Something in the request is not as the API has it.
    #[error("{0}")]
    Bad(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// The body is larger than any here.
    #[error("the body is too large")]
    TooLarge,
    /// The body is something else.
    #[error("the body is to be JSON: Content-Type: application/json")]
    NoJson,
    /// It is as the API has it, and this gateway cannot do it.
    #[error("{0}")]
    Conflict(String),
    /// The path does not take this method.
    #[error("this path does not take that method")]
    Method,
    /// Not now.
    #[error("{0}")]
    Unavailable(&'static str),
    /// It took too long.
    #[error("the gateway did not answer in time")]
    Timeout,
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Foreign => StatusCode::FORBIDDEN,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"rouse\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
