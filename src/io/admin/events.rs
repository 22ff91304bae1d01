//! The stream of events (server-sent events): what happens, as it happens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::operator::Operator;
use super::view::Live;

/// How often a quiet stream says that it lives.
const QUIET: Duration = Duration::from_secs(15);

/// One who follows.
struct Follower {
    operator: Arc<dyn Operator>,
    events: Receiver<Arc<Live>>,
    agent: Option<String>,
    is_open: bool,
    has_begun: bool,
}

/// Answers with the events from now on.
pub(super) fn answer(
    operator: Arc<dyn Operator>,
    events: Receiver<Arc<Live>>,
    agent: Option<String>,
) -> Response {
    let follower = Follower {
        operator,
        events,
        agent,
        is_open: true,
        has_begun: false,
    };
    let chunks = stream::unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        Some((Ok::<Bytes, Infallible>(chunk), follower))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Answers with a file that grows as long as somebody reads it.
pub(super) fn file(packets: mpsc::Receiver<Bytes>) -> Response {
    let chunks = stream::unfold(packets, |mut packets| async move {
        let chunk = packets.recv().await?;
        Some((Ok::<Bytes, Infallible>(chunk), packets))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/x-pcapng");
    headers.insert(header::CONTENT_TYPE, kind);
    let name = HeaderValue::from_static("attachment; filename=\"rouse.pcapng\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    response
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.has_begun {
            self.has_begun = true;
            // The headers go out with the first bytes: whoever follows knows that it does.
            return Some(Bytes::from_static(b": follow\n\n"));
        }
        while self.is_open {
            match tokio::time::timeout(QUIET, self.events.recv()).await {
                Ok(Ok(live)) if self.wants(&live) => return Some(line(&live)),
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(count))) => {
                    // Too slow: it comes again, and begins with what is true then.
                    self.is_open = false;
                    self.operator.lost_follower();
                    return Some(format!("event: lost\ndata: {{\"count\":{count}}}\n\n").into());
                }
                Err(_) => return Some(Bytes::from_static(b": quiet\n\n")),
            }
        }
        None
    }

    fn wants(&self, live: &Live) -> bool {
        let Some(wanted) = &self.agent else {
            return true;
        };
        let agent = match live {
            Live::Call { call, .. } => Some(&call.agent),
            Live::Device { agent, .. } => agent.as_ref(),
        };
        agent.is_some_and(|agent| agent.contains(wanted))
    }
}

fn line(live: &Live) -> Bytes {
    let name = match live {
        Live::Call { .. } => "call",
        Live::Device { .. } => "device",
    };
    let data = serde_json::to_string(live).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
