//! What the API asks of the gateway behind it; the driver answers.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::view::{
    CallBrief, CallQuery, CallStory, DevicePage, DeviceQuery, DeviceStory, Live, PushReport,
    Readiness, Summary,
};

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The gateway as its operator sees it.
pub trait Operator: Send + Sync + 'static {
    /// The counters at a glance.
    fn summary(&self) -> Summary;

    /// The calls asked for before the one named, the latest first.
    fn calls(&self, query: &CallQuery, before: u64, limit: usize) -> Vec<CallBrief>;

    /// A call with its steps.
    fn call(&self, id: u64) -> Option<CallStory>;

    /// The devices asked for.
    fn devices(&self, query: DeviceQuery) -> Later<'_, DevicePage>;

    /// A device and what it did lately; `None` if nothing is known of it.
    fn device<'a>(&'a self, id: &'a str) -> Later<'a, Option<DeviceStory>>;

    /// Takes a device out; whether it was there.
    fn remove_device<'a>(&'a self, id: &'a str) -> Later<'a, bool>;

    /// Pushes an agent's devices for a test; `None` if there is no such agent.
    fn push<'a>(&'a self, agent: &'a str) -> Later<'a, Option<PushReport>>;

    /// Has the configuration read again.
    fn reload(&self);

    /// Refuses new calls from now on.
    fn drain(&self) -> Later<'_, ()>;

    /// Whether calls should be sent here, and why not.
    fn readiness(&self) -> Later<'_, Readiness>;

    /// All metrics in the OpenMetrics text format.
    fn metrics(&self) -> String;

    /// What happens from now on; `None` if enough others follow already.
    fn follow(&self) -> Option<broadcast::Receiver<Arc<Live>>>;

    /// One who followed was too slow and was let go.
    fn lost_follower(&self);
}
