//! What the API asks of the gateway behind it; the driver answers.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::{broadcast, mpsc};

use super::view::{
    CallBrief, CallQuery, CallStory, DevicePage, DeviceQuery, DeviceStory, EnteredDevice, History,
    Live, NewDevice, PushReport, Readiness, Summary, Watched,
};

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the gateway does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unable {
    /// It makes no sense here: what is wrong, and what helps.
    Senseless(String),
    /// It cannot be made durable.
    NotDurable,
}

/// The gateway as its operator sees it.
pub trait Operator: Send + Sync + 'static {
    /// The counters at a glance.
    fn summary(&self) -> Summary;

    /// The counters of the last quarter of an hour.
    fn history(&self) -> History;

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

    /// Enters a device, or another token for it; whether it was not there before.
    fn enter(&self, device: NewDevice) -> Later<'_, Result<(EnteredDevice, bool), Unable>>;

    /// The devices that were entered for agents whose name contains this.
    fn entered(&self, agent: Option<&str>) -> Vec<EnteredDevice>;

    /// Removes a device that was entered; whether it was there.
    fn withdraw(&self, name: u64) -> Later<'_, Result<bool, Unable>>;

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

    /// A capture file of an agent's messages from now on, piece by piece; `None` if enough others
    /// capture already.
    fn capture(&self, agent: &str) -> Option<mpsc::Receiver<Bytes>>;

    /// Logs an agent's messages and steps for so many minutes; `None` if enough others are watched.
    fn watch(&self, agent: &str, minutes: u16) -> Option<Watched>;

    /// Logs an agent no more; whether it was watched.
    fn unwatch(&self, agent: &str) -> bool;

    /// The agents that are watched.
    fn watched(&self) -> Vec<Watched>;

    /// One who followed was too slow and was let go.
    fn lost_follower(&self);
}
