//! What a turn of the supervision waits for, and what of it was ready.

use std::time::Instant;

use nix::poll::PollTimeout;

/// What is waited for.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Signal,
    Control,
    Door,
    Output,
    Notify,
    Violation,
    Memory,
}

/// What has something to say.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) signal: bool,
    pub(super) control: bool,
    pub(super) door: bool,
    pub(super) output: bool,
    pub(super) notify: bool,
    pub(super) violation: bool,
    pub(super) memory: bool,
}

impl Ready {
    pub(super) fn mark(&mut self, source: Source) {
        match source {
            Source::Signal => self.signal = true,
            Source::Control => self.control = true,
            Source::Door => self.door = true,
            Source::Output => self.output = true,
            Source::Notify => self.notify = true,
            Source::Violation => self.violation = true,
            Source::Memory => self.memory = true,
        }
    }
}

/// poll(2)'s timeout for a deadline; an hour at most.
pub(super) fn timeout_until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    // Rounded up, so that the deadline has passed when poll returns.
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
    PollTimeout::try_from(left.min(3_600_000) as i32).unwrap_or(PollTimeout::ZERO)
}
