//! When `/health` says 200.
//!
//! Owns: the moment of readiness. Must never know: HTTP.

use std::time::{Duration, Instant};

use crate::options::Options;

/// Readiness as the flags ask for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Readiness {
    /// Ready from this moment on.
    At(Instant),
    /// Never ready.
    Never,
}

impl Readiness {
    /// What the flags say, counted from now.
    pub(crate) fn from_options(options: &Options) -> Self {
        if options.never_ready {
            return Self::Never;
        }
        Self::At(Instant::now() + Duration::from_millis(options.start_delay_ms))
    }

    /// Whether the mock would answer a prompt now.
    pub(crate) fn is_ready(self) -> bool {
        match self {
            Self::At(moment) => Instant::now() >= moment,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_at_once_without_a_delay_and_never_when_told_so() {
        assert!(Readiness::from_options(&Options::default()).is_ready());
        assert!(!Readiness::from_options(&Options { never_ready: true, ..Options::default() }).is_ready());
        assert!(!Readiness::from_options(&Options { start_delay_ms: 60_000, ..Options::default() }).is_ready());
    }
}
