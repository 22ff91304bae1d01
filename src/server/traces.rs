//! `[otlp]`: the calls that are over, as traces to a collector of OpenTelemetry.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;

use crate::config::OtlpConfig;
use crate::io::export::otlp::{Post, PostError};
use crate::server::collector::Collector;
use crate::telemetry::spans;

/// A collector that is away for a moment is asked again so often,
const TRIES: u32 = 3;
/// and after so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins to post.
pub(super) fn start(config: &OtlpConfig, dropped: Counter) -> Result<Collector, PostError> {
    let header = config.header.as_ref().map(|header| header.expose().clone());
    let post = Arc::new(Post::new(config.url.clone(), header)?);
    let numbers = config.numbers;
    let collector = Collector::start("[otlp]", dropped, move |stories| {
        let post = Arc::clone(&post);
        let body = Bytes::from(spans::encode(&stories, numbers));
        async move { send(&post, body).await.map_err(|error| error.to_string()) }
    });
    Ok(collector)
}

async fn send(post: &Post, body: Bytes) -> Result<(), PostError> {
    let mut tries = 1;
    loop {
        match post.send(body.clone()).await {
            Err(error) if error.may_pass() && tries < TRIES => {
                tokio::time::sleep(PAUSE * tries).await;
                tries += 1;
            }
            result => return result,
        }
    }
}
