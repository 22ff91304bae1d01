//! One request to a push service without HTTP/2, on a connection of its own: an operator's webhook.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::io::pns::dial;
use crate::io::pns::origin::Origin;
use crate::io::pns::transport::{
    Answer, CONNECT_TIMEOUT, Fault, REQUEST_TIMEOUT, TransportError, chain, failed,
};

/// Connects, sends a request that was written for HTTP/2, and reads its answer.
pub(super) async fn exchange(
    origin: &Origin,
    tls: &Arc<rustls::ClientConfig>,
    mut request: Request<Full<Bytes>>,
) -> Result<Answer, TransportError> {
    let late = |_| failed(Fault::TimedOut, "no answer in time", None);
    let attempt = dial::connect_tls(&origin.endpoint, &origin.name, tls);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, attempt)
        .await
        .map_err(|_| failed(Fault::Connect, "no connection in time", None))?
        .map_err(|error| failed(Fault::Connect, &error.to_string(), None))?;
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = Uri::try_from(path.to_owned()).unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Ok(host) = HeaderValue::try_from(&origin.authority) {
        headers.insert(HOST, host);
    }
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer: it is asked to close.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = chain(&error), "push connection ended");
            }
        });
        let response = sender.send_request(request).await?;
        Ok(Answer::read(response, 0).await)
    };
    tokio::time::timeout(REQUEST_TIMEOUT, exchange)
        .await
        .map_err(late)?
        .map_err(|error: hyper::Error| failed(Fault::Broken, &chain(&error), None))
}
