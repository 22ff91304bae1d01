//! A provider, how many pushes may be under way to it, and which of its apps are left alone.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::io::pns::breaker::Breaker;
use crate::proto::push::{PushAccepted, PushError};

/// Pushes under way at once, per provider: 5 s at 800 pushes a second.
const IN_FLIGHT: usize = 4096;

/// A provider and how many pushes may be under way to it.
pub(super) struct Lane<P> {
    pub(super) provider: P,
    pub(super) permits: Semaphore,
    /// By app, of those that are configured.
    breakers: Mutex<HashMap<Box<str>, Arc<Breaker>>>,
}

impl<P> Lane<P> {
    /// A lane that nobody is on.
    pub(super) fn new(provider: P) -> Self {
        Self {
            provider,
            permits: Semaphore::new(IN_FLIGHT),
            breakers: Mutex::default(),
        }
    }

    /// Sends a push for an app, unless it would fail as those before it.
    pub(super) async fn guarded<F>(&self, app: &str, send: impl FnOnce() -> F) -> F::Output
    where
        F: Future<Output = Result<PushAccepted, PushError>>,
    {
        let breaker = self.breaker(app);
        breaker.admit(Instant::now())?;
        let verdict = send().await;
        breaker.settle(Instant::now(), &verdict);
        verdict
    }

    /// The breaker of an app.
    pub(super) fn breaker(&self, app: &str) -> Arc<Breaker> {
        Arc::clone(self.breakers.lock().entry(app.into()).or_default())
    }
}
