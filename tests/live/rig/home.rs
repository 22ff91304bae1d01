//! Directories of a run, under cargo's directory for the output of tests.
//!
//! They are not removed at once, because they hold the logs of a failed test; those whose process
//! is gone are swept by a later run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static SWEPT: Once = Once::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Makes a new directory.
pub(crate) fn directory(name: &str) -> PathBuf {
    let runs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live");
    SWEPT.call_once(|| sweep(&runs));
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let home = runs.join(format!("{}/{number}-{name}", std::process::id()));
    fs::create_dir_all(&home)
        .unwrap_or_else(|error| panic!("{} cannot be made: {error}", home.display()));
    home
}

/// Writes a file, making its directory first.
pub(crate) fn write(path: &Path, text: &str) {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text));
    written.unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}

fn sweep(runs: &Path) {
    for run in fs::read_dir(runs).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(run.file_name()).exists() {
            // dropped: another run may be sweeping the same directory.
            drop(fs::remove_dir_all(run.path()));
        }
    }
}
