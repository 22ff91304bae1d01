//! What an operator sees: log lines, metrics, and the one place that maps an event to both.
//!
//! Levels: TRACE is every message; DEBUG a condition or an early exit; INFO one line per thing that
//! an operator would name; WARN is to be looked at today; ERROR means that we stop. Personal data is
//! redacted at INFO and above ([`redact::Pii`]). Raw SIP goes to the target `sip::wire` at TRACE and
//! nowhere else.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

use crate::config::{LogConfig, LogFormat};

mod events;
pub mod metrics;
pub mod redact;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("[log] filter is not valid: {0}")]
    Filter(#[from] ParseError),
    /// Somebody has set up logging already.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Sets up logging to standard error, once per process.
///
/// # Errors
///
/// Fails if the filter is not valid or logging is set up already.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt;

    // The store's engine tells its own story at INFO; whoever wants it names it in the filter.
    let filter = EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{}", config.filter))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => lines.finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}
