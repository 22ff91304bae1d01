//! The file of calls that are over: one line of JSON each.
//!
//! It is opened anew for each batch, so that whoever moves it away (logrotate) need tell nobody.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use crate::io::admin::view::CallStory;

/// Calls that may wait to be written.
const QUEUE: usize = 1024;
/// Calls that are written at once.
const BATCH: usize = 64;

/// Begins to write; ends when nobody can send any more.
pub(super) fn start(path: PathBuf) -> mpsc::Sender<CallStory> {
    let (sender, mut calls) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        let mut is_broken = false;
        while calls.recv_many(&mut batch, BATCH).await > 0 {
            let stories = std::mem::take(&mut batch);
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
    });
    sender
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
