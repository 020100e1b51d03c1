//! The hive's own log: to stderr, as text or JSON, filtered by `RUST_LOG` (default `info`).
//!
//! Must never know what is logged.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Installs the subscriber; a second call changes nothing.
pub(crate) fn install(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Colour is for people: a file or a journal gets plain text.
    let builder = builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // An error means that one is installed already, which then stays.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
