//! What the tests stand on: processes and addresses as in tests/live, Rouse, stand-ins around it.

#[path = "../../live/rig/certificates.rs"]
pub(crate) mod certificates;
pub(crate) mod dns;
#[path = "../../live/rig/home.rs"]
pub(crate) mod home;
#[path = "../../live/rig/loopback.rs"]
pub(crate) mod loopback;
#[path = "../../live/rig/process.rs"]
pub(crate) mod process;
pub(crate) mod rouse;
pub(crate) mod scene;
#[path = "../../live/rig/sipp.rs"]
pub(crate) mod sipp;

use std::time::{Duration, Instant};

/// How long a test waits for what should come at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < SOON, "waited {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
