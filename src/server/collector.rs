//! Those who take the calls that are over: a bounded queue, and a task that hands them on in batches.

use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::io::admin::view::CallStory;

/// Calls that may wait.
const QUEUE: usize = 1024;
/// Calls that are handed on at once.
const BATCH: usize = 64;
/// How long the process waits for the last of them before it ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// One who takes them; `None` in the queue is the end of it.
#[derive(Debug)]
pub(super) struct Collector {
    queue: mpsc::Sender<Option<CallStory>>,
    task: Mutex<Option<JoinHandle<()>>>,
    dropped: Counter,
}

impl Collector {
    /// Begins; `take` says why it could not take a batch.
    pub(super) fn start<F>(
        name: &'static str,
        dropped: Counter,
        take: impl FnMut(Vec<CallStory>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (queue, calls) = mpsc::channel(QUEUE);
        let task = tokio::spawn(hand_on(name, calls, dropped.clone(), take));
        Self {
            queue,
            task: Mutex::new(Some(task)),
            dropped,
        }
    }

    /// Hands a call on, or counts that too many wait.
    pub(super) fn add(&self, call: CallStory) {
        if self.queue.try_send(Some(call)).is_err() {
            self.dropped.inc();
        }
    }

    /// Hands these on too, then nothing any more.
    pub(super) async fn finish(&self, calls: Vec<CallStory>) {
        let Some(mut task) = self.task.lock().take() else {
            return;
        };
        let ending = async {
            for call in calls {
                if self.queue.send(Some(call)).await.is_err() {
                    self.dropped.inc();
                }
            }
            // dropped: the task has ended already.
            self.queue.send(None).await.ok();
            (&mut task).await.ok();
        };
        if tokio::time::timeout(PATIENCE, ending).await.is_err() {
            tracing::warn!("the last calls were not taken in time");
            task.abort();
        }
    }
}

async fn hand_on<F>(
    name: &'static str,
    mut calls: mpsc::Receiver<Option<CallStory>>,
    dropped: Counter,
    mut take: impl FnMut(Vec<CallStory>) -> F,
) where
    F: Future<Output = Result<(), String>>,
{
    let mut batch = Vec::with_capacity(BATCH);
    let (mut is_broken, mut is_over) = (false, false);
    while !is_over && calls.recv_many(&mut batch, BATCH).await > 0 {
        is_over = batch.iter().any(Option::is_none);
        let stories: Vec<CallStory> = batch.drain(..).flatten().collect();
        if stories.is_empty() {
            continue;
        }
        let count = u64::try_from(stories.len()).unwrap_or(u64::MAX);
        let taken = take(stories).await;
        if let Err(error) = &taken {
            dropped.inc_by(count);
            // Said once, until it works again.
            if !is_broken {
                tracing::error!(name, error, "calls that are over are not taken");
            }
        }
        is_broken = taken.is_err();
    }
}
