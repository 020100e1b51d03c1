//! The hive's own log: to stderr, as text or JSON, filtered by `RUST_LOG` (default `info`). The audit's lines are never filtered out.
//!
//! Must never know what is logged.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// What was changed by whom is kept whatever else is not.
const AUDIT: &str = "audit=info";

/// Installs the subscriber; a second call changes nothing.
pub(crate) fn install(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // It is stronger than what `RUST_LOG` says of everything, and takes the place of what it says of the audit. It parses: a test shows it.
    let filter = match AUDIT.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Colour is for people: a file or a journal gets plain text.
    let builder = builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // An error means that one is installed already, which then stays.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_has_a_directive_that_the_filter_takes() {
        let filter = EnvFilter::new("off,audit=off").add_directive(AUDIT.parse().unwrap());
        assert_eq!(filter.to_string(), "audit=info,off");
    }
}
