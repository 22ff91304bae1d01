//! What the live tests stand on: processes that die with the test binary, addresses of their own,
//! the two Asterisks, Rouse itself, SIPp.

pub(crate) mod asterisk;
pub(crate) mod certificates;
pub(crate) mod handset;
pub(crate) mod home;
pub(crate) mod loopback;
pub(crate) mod process;
pub(crate) mod push;
pub(crate) mod rouse;
pub(crate) mod sipp;
pub(crate) mod stage;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
