//! A worker that stands still: told to the kernel at once, answered when every process does, given up and undone at a deadline.
//!
//! ```text
//!  runs ──freeze──► freezing ──all stand still──► frozen
//!   ▲                  │ too late, a stop, thaw      │ thaw, a stop, SIGKILL, the hive's end
//!   └──────────────────┴─────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

use super::Supervisor;
use crate::protocol::FromInit;

/// How long the processes may take to stand still. One in state D does not until its call in the kernel returns.
const WITHIN: Duration = Duration::from_secs(2);
/// Between two looks; the first look is at once, and mostly enough.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether the worker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Freezer {
    #[default]
    Runs,
    Freezing {
        /// Whom to answer.
        seq: u64,
        look_at: Instant,
        give_up_at: Instant,
    },
    Frozen,
}

impl Freezer {
    /// When it has to be looked at.
    pub(super) fn due(self) -> Option<Instant> {
        match self {
            Self::Freezing { look_at, .. } => Some(look_at),
            Self::Runs | Self::Frozen => None,
        }
    }
}

impl Supervisor {
    pub(super) fn freeze(&mut self, seq: u64) {
        let errno = match self.freezer {
            Freezer::Frozen => return self.say(FromInit::Settled { seq }, vec![]),
            Freezer::Freezing { .. } => libc::EALREADY,
            // It is to end, and that needs it running.
            Freezer::Runs if self.stopping.is_some() || self.main_exit.is_some() => libc::EALREADY,
            Freezer::Runs => match self.leaf().freeze() {
                Ok(()) => {
                    let now = Instant::now();
                    self.freezer = Freezer::Freezing { seq, look_at: now, give_up_at: now + WITHIN };
                    return self.look_at_freezer();
                }
                Err(e) => errno_of(&e),
            },
        };
        self.say(FromInit::NotDone { seq, errno }, vec![]);
    }

    pub(super) fn thaw(&mut self, seq: u64) {
        let answer = match self.run_again() {
            Ok(()) => FromInit::Settled { seq },
            Err(e) => FromInit::NotDone { seq, errno: errno_of(&e) },
        };
        self.say(answer, vec![]);
    }

    /// Answers a freeze that has come to its end, the one way or the other.
    pub(super) fn look_at_freezer(&mut self) {
        let Freezer::Freezing { seq, look_at, give_up_at } = self.freezer else { return };
        let now = Instant::now();
        if now < look_at {
            return;
        }
        let errno = match self.leaf().frozen() {
            Ok(true) => {
                self.freezer = Freezer::Frozen;
                return self.say(FromInit::Settled { seq }, vec![]);
            }
            Ok(false) if now < give_up_at => {
                self.freezer = Freezer::Freezing { seq, look_at: now + LOOK_AGAIN, give_up_at };
                return;
            }
            Ok(false) => libc::EBUSY,
            Err(e) => errno_of(&e),
        };
        // Half of it standing still is what nobody has asked for.
        let _ = self.leaf().thaw();
        self.freezer = Freezer::Runs;
        self.say(FromInit::NotDone { seq, errno }, vec![]);
    }

    /// Lets it run, whoever wanted it frozen.
    ///
    /// Errors: the kernel's; it may still be frozen then.
    pub(super) fn run_again(&mut self) -> std::io::Result<()> {
        let before = self.freezer;
        if before == Freezer::Runs {
            return Ok(());
        }
        self.leaf().thaw()?;
        self.freezer = Freezer::Runs;
        if let Freezer::Freezing { seq, .. } = before {
            self.say(FromInit::NotDone { seq, errno: libc::ECANCELED }, vec![]);
        }
        Ok(())
    }
}

pub(super) fn errno_of(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
