//! The launcher's own limit on open files: it has a few for each worker, and more while it hands adopted ones over. A sandbox is born with the
//! limit as it was: what a worker inherits is not to be more than whoever started the hive would give it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    soft: u64,
    hard: u64,
}

impl OpenFiles {
    /// Raises it as far as it goes. Where it can't be, it stays as it is, which is then the bound.
    pub(super) fn raise() -> Option<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
        Some(Self { soft, hard })
    }

    /// Makes it what it was, for this process and all that comes from it.
    pub(crate) fn put_back(self) -> nix::Result<()> {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)
    }
}
