//! The one place that prints: results to standard output, complaints to standard error.
//!
//! A reader that has gone away (`rouse check | head`) is no error of ours.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints a line of what was asked for.
pub(super) fn line(text: impl Display) {
    // dropped: nobody reads it any more.
    writeln!(io::stdout().lock(), "{text}").ok();
}

/// Says on standard error how far something is.
pub(super) fn progress(text: impl Display) {
    // dropped: nobody reads it any more.
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Prints a complaint; each of its lines begins with `rouse: `.
pub(super) fn complain(text: impl Display) {
    let mut stderr = io::stderr().lock();
    for line in text.to_string().lines() {
        // dropped: nobody reads it any more.
        writeln!(stderr, "rouse: {line}").ok();
    }
}
