//! `[calls] file`: the calls that are over, one line of JSON each.
//!
//! It is opened anew for each batch, so that whoever moves it away (logrotate) need tell nobody.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use prometheus_client::metrics::counter::Counter;

use crate::io::admin::view::CallStory;
use crate::server::collector::Collector;

/// Begins to write.
pub(super) fn start(path: PathBuf, dropped: Counter) -> Collector {
    Collector::start("[calls] file", dropped, move |stories| {
        let file = path.clone();
        async move {
            let named = file.display().to_string();
            let written = tokio::task::spawn_blocking(move || write(&file, &stories)).await;
            match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("{named}: {error}")),
                Err(error) => Err(error.to_string()),
            }
        }
    })
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
