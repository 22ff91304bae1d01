//! What is shipped beside the program agrees with it: dashboards and alerts name metrics and
//! labels that exist. `deb.sh` beside this file installs and runs the package (`make test-package`).

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test crate: what cannot be read must stop the test"
)]

mod deb;
mod image;
mod monitoring;

use std::fs;
use std::path::Path;

/// A file of the project, by its path from the top.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).expect("a file of the project")
}
