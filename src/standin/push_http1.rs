//! The HTTP/1.1 side of a push stand-in: Google's token endpoint is asked that way.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::standin::push::{Peer, Received, Reply, Service};

/// A token request is a form with one JWT.
const BODY_LIMIT: usize = 64 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    peer: Arc<Peer>,
    service: Arc<S>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let requests = service_fn(|request| answer(&peer, &*service, request));
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), requests)
        .await?;
    Ok(())
}

async fn answer<S: Service>(
    peer: &Peer,
    service: &S,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Hangup> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Err(Hangup);
    };
    let received = Received {
        request: Request::from_parts(parts, ()),
        body: body.to_bytes(),
    };
    match service.answer(peer, received).await {
        Reply::Answer(response) | Reply::AnswerThenGoAway(response) => Ok(response.map(Full::new)),
        Reply::Reset(_) | Reply::GoAway | Reply::Hangup => Err(Hangup),
        Reply::Silence => {
            std::future::pending::<Infallible>().await;
            Err(Hangup)
        }
    }
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hung up, as scripted")]
struct Hangup;
