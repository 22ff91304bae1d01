//! What an operator sees: log lines, metrics, and the one place that maps an event to both.
//!
//! Levels: TRACE is every message; DEBUG a condition or an early exit; INFO one line per thing that
//! an operator would name; WARN is to be looked at today; ERROR means that we stop. Personal data is
//! redacted at INFO and above ([`redact::Pii`]). Raw SIP goes to the target `sip::wire` at TRACE,
//! and at INFO for an agent whom an operator has watched for a while; nowhere else. Lines leave for standard error within 50 ms, WARN and ERROR at once.

use std::io::{IsTerminal as _, Stderr};
use std::sync::LazyLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload::Error as ReloadError;
use tracing_subscriber::util::TryInitError;

use crate::config::{LogConfig, LogFormat};
use crate::telemetry::lines::{Batched, Plain};

mod events;
mod lines;
pub mod metrics;
pub mod redact;
mod series;
#[cfg(feature = "otlp")]
pub mod spans;
pub mod timeline;

/// What is logged and has not left yet.
static LINES: LazyLock<Batched<Stderr>> = LazyLock::new(|| Batched::new(std::io::stderr()));

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("[log] filter is not valid: {0}")]
    Filter(#[from] ParseError),
    /// The filter cannot be changed any more.
    #[error("the log filter cannot be changed: {0}")]
    Reload(#[from] ReloadError),
    /// Somebody has set up logging already.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Sets up logging to standard error, once per process.
///
/// # Errors
///
/// Fails if the filter is not valid or logging is set up already.
pub fn init(config: &LogConfig) -> Result<Filter, LogError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = filter(&config.filter)?;
    let is_seen = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_ansi(is_seen)
        .with_writer(&*LINES);
    LINES.start();
    match config.format {
        LogFormat::Text if !is_seen => {
            let lines = lines.event_format(Plain::default());
            let lines = lines.with_env_filter(filter).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            Ok(Filter(Box::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Text => {
            let lines = lines.with_env_filter(filter).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            Ok(Filter(Box::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_env_filter(filter).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().try_init()?;
            Ok(Filter(Box::new(move |filter| handle.reload(filter))))
        }
    }
}

/// What is logged, to change it while the process runs.
pub struct Filter(Box<dyn Fn(EnvFilter) -> Result<(), ReloadError> + Send + Sync>);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter")
    }
}

impl Filter {
    /// Logs by another `[log] filter` from now on.
    ///
    /// # Errors
    ///
    /// Fails if the filter is not valid.
    pub fn change(&self, text: &str) -> Result<(), LogError> {
        Ok((self.0)(filter(text)?)?)
    }
}

/// The store's engine tells its own story at INFO; whoever wants it names it in the filter.
fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{text}"))
}

/// Writes the lines that wait for others: before the process ends.
pub fn flush() {
    LINES.flush();
}
