//! One push, from its first attempt to its verdict: what is resent, how often, within which time.
//!
//! Whatever happens, the verdict is there after [`BUDGET`]: a phone rings for seconds. A request
//! that the provider did not process is resent at once; one that may have been processed is resent
//! once, byte for byte (the same `apns-id`, the same collapse key), on a fresh connection; new
//! credentials are tried once; a failing provider is tried once more after a short pause.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use rand::RngExt;
use tokio::time::Instant;

use crate::io::pns::http_date;
use crate::io::pns::transport::{Answer, Fault, Transport, TransportError, Urgency};
use crate::io::pns::withdrawal::Withdrawal;
use crate::proto::push::{PushAccepted, PushError, Reason};

/// The whole time of one push.
pub(super) const BUDGET: Duration = Duration::from_secs(5);
/// How often a request that was not processed is resent.
const RESENDS: u8 = 3;
/// The pause before a failing provider is asked again, in milliseconds.
const QUICK_RETRY_MS: std::ops::RangeInclusive<u64> = 500..=1000;
/// The longest Retry-After that a push waits for itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// A push as a request, without its credentials.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Path and query below the origin's base.
    pub(super) uri: Uri,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body.
    pub(super) body: Bytes,
    /// How urgent it is.
    pub(super) urgency: Urgency,
}

/// What goes into `authorization`, and which edition it is.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    /// The header's value, marked sensitive.
    pub(super) value: HeaderValue,
    /// Names this credential among its successors.
    pub(super) edition: u64,
}

/// What follows from a provider's answer.
#[derive(Debug)]
pub(super) enum Judgement {
    /// It is the verdict.
    Final(Result<PushAccepted, PushError>),
    /// The credentials are too old; once renewed they may be good. The verdict if they are not.
    Renew(PushError),
    /// This connection is of no use any more. The verdict if the next one is not either.
    Reconnect(PushError),
    /// The provider is failing; it may recover within the push's time. The verdict if not.
    Again(PushError),
}

/// A push service's dialect.
pub(super) trait Provider {
    /// Its connection.
    fn transport(&self) -> &Arc<Transport>;

    /// Its credentials of this moment; `None` if the connection proves who we are.
    async fn authorization(&self) -> Result<Option<Authorization>, PushError>;

    /// Replaces the credentials that were refused; the error is the verdict.
    async fn renew(&self, refused: u64, verdict: PushError) -> Result<(), PushError>;

    /// Reads an answer.
    fn judge(&self, answer: &Answer) -> Judgement;
}

/// Sends a push and returns its verdict within [`BUDGET`].
pub(super) async fn deliver<P: Provider>(
    provider: &P,
    parcel: &Parcel,
    withdrawal: &Withdrawal,
) -> Result<PushAccepted, PushError> {
    let deadline = Instant::now() + BUDGET;
    let mut last = None;
    let attempts = attempts(provider, parcel, withdrawal, deadline, &mut last);
    match tokio::time::timeout_at(deadline, attempts).await {
        Ok(verdict) => verdict,
        Err(_) => Err(last.unwrap_or_else(|| PushError::Unavailable {
            retry_after: None,
            reason: Reason::new("no verdict in time"),
        })),
    }
}

/// Attempts until there is a verdict; `last` is the verdict if time runs out.
async fn attempts<P: Provider>(
    provider: &P,
    parcel: &Parcel,
    withdrawal: &Withdrawal,
    deadline: Instant,
    last: &mut Option<PushError>,
) -> Result<PushAccepted, PushError> {
    let mut tries = Tries::default();
    loop {
        let (edition, request, connected) = tokio::select! {
            biased;
            () = withdrawal.due() => return Err(PushError::Withdrawn),
            prepared = prepare(provider, parcel) => prepared?,
        };
        let exchanged = match connected {
            Ok(()) => provider.transport().exchange(request, parcel.urgency).await,
            Err(error) => Err(error),
        };
        let error = match exchanged {
            Ok(answer) => match provider.judge(&answer) {
                Judgement::Final(verdict) => return verdict,
                Judgement::Renew(error) => {
                    // The old connection goes with the old credentials: APNs keeps refusing on it.
                    provider.transport().retire(answer.connection);
                    if std::mem::replace(&mut tries.renewed, true) {
                        return Err(error);
                    }
                    provider.renew(edition, error.clone()).await?;
                    error
                }
                Judgement::Reconnect(error) => {
                    provider.transport().retire(answer.connection);
                    if std::mem::replace(&mut tries.reconnected, true) {
                        return Err(error);
                    }
                    error
                }
                Judgement::Again(error) => {
                    provider.transport().retire_if_seasoned(answer.connection);
                    if std::mem::replace(&mut tries.again, true) {
                        return Err(error);
                    }
                    tokio::select! {
                        () = withdrawal.due() => return Err(PushError::Withdrawn),
                        paused = pause(&error, deadline) => paused?,
                    }
                    error
                }
            },
            Err(error) => tries.after(provider.transport(), &error)?,
        };
        tracing::debug!(reason = %error, "push is sent again");
        *last = Some(error);
    }
}

/// Has everything ready, so that the request has left as soon as it is handed on.
async fn prepare<P: Provider>(
    provider: &P,
    parcel: &Parcel,
) -> Result<(u64, Request<Full<Bytes>>, Result<(), TransportError>), PushError> {
    let authorization = provider.authorization().await?;
    let edition = authorization.as_ref().map_or(0, |a| a.edition);
    let request = request(provider.transport(), parcel, authorization)?;
    let connected = provider.transport().ready(parcel.urgency).await;
    Ok((edition, request, connected))
}

/// What has been tried.
#[derive(Debug, Default)]
struct Tries {
    resent: u8,
    renewed: bool,
    reconnected: bool,
    again: bool,
}

impl Tries {
    /// Decides after a request without an answer: again (the error to report if time runs out), or
    /// the verdict.
    fn after(
        &mut self,
        transport: &Transport,
        error: &TransportError,
    ) -> Result<PushError, PushError> {
        let verdict = PushError::Unavailable {
            retry_after: match error.fault {
                Fault::BackingOff(pause) => Some(pause),
                Fault::Connect | Fault::NotProcessed | Fault::Broken | Fault::TimedOut => None,
            },
            reason: Reason::new(&error.detail),
        };
        let again = match error.fault {
            Fault::BackingOff(_) => false,
            Fault::NotProcessed => {
                self.resent += 1;
                self.resent <= RESENDS
            }
            Fault::Connect | Fault::Broken | Fault::TimedOut => {
                !std::mem::replace(&mut self.reconnected, true)
            }
        };
        // A refused stream says nothing against its connection; everything else does.
        if error.fault != Fault::NotProcessed || self.resent > 1 {
            error.connection.inspect(|number| transport.retire(*number));
        }
        if again { Ok(verdict) } else { Err(verdict) }
    }
}

/// Waits before a failing provider is asked again; the error is the verdict if it asked for more
/// patience than this push has.
async fn pause(error: &PushError, deadline: Instant) -> Result<(), PushError> {
    let asked = match error {
        PushError::Unavailable { retry_after, .. } => *retry_after,
        PushError::Unregistered { .. }
        | PushError::WrongToken { .. }
        | PushError::BadCredentials { .. }
        | PushError::Throttled { .. }
        | PushError::Refused { .. }
        | PushError::NotConfigured { .. }
        | PushError::Withdrawn => None,
    };
    let pause = asked.unwrap_or_default().max(Duration::from_millis(
        rand::rng().random_range(QUICK_RETRY_MS),
    ));
    let left = deadline.saturating_duration_since(Instant::now());
    if pause > PATIENCE || pause >= left {
        return Err(error.clone());
    }
    tokio::time::sleep(pause).await;
    Ok(())
}

/// Puts a request together.
fn request(
    transport: &Transport,
    parcel: &Parcel,
    authorization: Option<Authorization>,
) -> Result<Request<Full<Bytes>>, PushError> {
    let origin = transport.origin();
    let ours = |error: http::Error| PushError::Refused {
        reason: Reason::new(&error.to_string()),
    };
    let uri = Uri::builder()
        .scheme("https")
        .authority(origin.authority.as_str())
        .path_and_query(format!("{}{}", origin.base, parcel.uri))
        .build()
        .map_err(ours)?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .body(Full::new(parcel.body.clone()))
        .map_err(ours)?;
    request.headers_mut().clone_from(&parcel.headers);
    if let Some(authorization) = authorization {
        request
            .headers_mut()
            .insert(AUTHORIZATION, authorization.value);
    }
    Ok(request)
}

/// Reads Retry-After, in seconds or as a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, unix_now: u64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date::parse(text)?;
    Some(Duration::from_secs(at.saturating_sub(unix_now)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    use super::retry_after;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, 784_111_700)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(77))
        );
        assert_eq!(read("Sun, 06 Nov 1990 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), 0), None);
    }
}
