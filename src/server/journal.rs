//! The file of calls that are over: one line of JSON each.
//!
//! It is opened anew for each batch, so that whoever moves it away (logrotate) need tell nobody.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::io::admin::view::CallStory;

/// Calls that may wait to be written.
const QUEUE: usize = 1024;
/// Calls that are written at once.
const BATCH: usize = 64;
/// How long the process waits for the last of them before it ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who writes; `None` in the queue is the end of it.
#[derive(Debug)]
pub(super) struct Journal {
    queue: mpsc::Sender<Option<CallStory>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Begins to write.
    pub(super) fn start(path: PathBuf) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE);
        let task = tokio::spawn(write_all(path, calls));
        Self {
            queue,
            task: Mutex::new(Some(task)),
        }
    }

    /// Has a call written; `false` if too many wait.
    pub(super) fn add(&self, call: CallStory) -> bool {
        self.queue.try_send(Some(call)).is_ok()
    }

    /// Writes these too, then nothing any more. Returns how many were not written.
    pub(super) async fn finish(&self, calls: Vec<CallStory>) -> usize {
        let mut left = calls.len();
        let Some(task) = self.task.lock().take() else {
            return left;
        };
        let writing = async {
            for call in calls {
                if self.queue.send(Some(call)).await.is_ok() {
                    left -= 1;
                }
            }
            // dropped: who writes has ended already.
            self.queue.send(None).await.ok();
            task.await.ok();
        };
        if tokio::time::timeout(PATIENCE, writing).await.is_err() {
            tracing::warn!(left, "the last calls are not in [calls] file");
        }
        left
    }
}

async fn write_all(path: PathBuf, mut calls: mpsc::Receiver<Option<CallStory>>) {
    let mut batch = Vec::with_capacity(BATCH);
    let (mut is_broken, mut is_over) = (false, false);
    while !is_over && calls.recv_many(&mut batch, BATCH).await > 0 {
        is_over = batch.iter().any(Option::is_none);
        let stories: Vec<CallStory> = batch.drain(..).flatten().collect();
        let file = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&file, &stories)).await;
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        // Said once, until it works again.
        if let (Some(error), false) = (&error, is_broken) {
            let file = path.display();
            tracing::error!(%file, error, "calls are not written to [calls] file");
        }
        is_broken = error.is_some();
    }
}

fn write(path: &Path, stories: &[CallStory]) -> io::Result<()> {
    let mut lines = Vec::new();
    for story in stories {
        serde_json::to_writer(&mut lines, story)?;
        lines.push(b'\n');
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&lines)
}
