//! Word that a push is of no use any more: its call is over, or its device has come by itself.
//!
//! It stops what has not left. What has left cannot be called back, and gets its verdict.

use tokio::sync::watch;

/// Whether a push was withdrawn.
#[derive(Clone, Debug)]
pub struct Withdrawal(Option<watch::Receiver<bool>>);

impl Withdrawal {
    /// One that happens when `true` is sent.
    #[must_use]
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(Some(receiver)))
    }

    /// One that never happens.
    #[must_use]
    pub const fn never() -> Self {
        Self(None)
    }

    /// Waits until the push is withdrawn.
    pub(super) async fn due(&self) {
        if let Some(receiver) = &self.0
            && receiver.clone().wait_for(|due| *due).await.is_ok()
        {
            return;
        }
        // Nobody can withdraw it any more.
        std::future::pending::<()>().await;
    }
}
