//! Every refusal in the operator's log: one line, no faster than a disk stands.
//!
//! A hive that is somebody else's by now can ask without end. Its questions are answered all the same; of the lines that are too many
//! the next one tells how many there were. Must never know: why something is refused.

use std::time::{Duration, Instant};

use crate::protocol::{LaunchError, LaunchErrorKind};

/// Lines that may come at once.
const BURST: u32 = 64;
/// One more for each of these: 10 lines of less than a kilobyte a second, less than a gigabyte a day.
const EVERY: Duration = Duration::from_millis(100);
/// Longest reason in a line, bytes.
const MAX_WHY: usize = 512;

/// What was refused.
pub(super) struct Refusal<'a> {
    /// The message's `op`, or what stood in its place.
    pub(super) op: &'a str,
    /// Whom it was about.
    pub(super) worker: Option<&'a str>,
    /// Kind, as the hive is told.
    pub(super) kind: LaunchErrorKind,
    /// Reason, as the hive is told.
    pub(super) why: &'a str,
}

impl<'a> Refusal<'a> {
    pub(super) fn of(op: &'a str, worker: Option<&'a str>, error: &'a LaunchError) -> Self {
        Self { op, worker, kind: error.kind, why: &error.message }
    }
}

/// Counts what may still be said.
pub(super) struct Audit {
    left: u32,
    since: Instant,
    unsaid: u64,
}

impl Audit {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, unsaid: 0 }
    }

    /// Logs a refusal, under the target `audit`.
    pub(super) fn refused(&mut self, refusal: &Refusal<'_>) {
        let Some(unsaid) = self.may_speak(Instant::now()) else { return };
        let (op, worker, kind) = (refusal.op, refusal.worker.unwrap_or("-"), kind(refusal.kind));
        // Texts, not `%`: what comes from outside is quoted, and can't look like a line of ours.
        let why = clipped(refusal.why, MAX_WHY);
        tracing::warn!(target: "audit", op, worker, kind, why, unsaid, "audit: refused");
    }

    /// Whether a line may be written now; how many were not since the last one.
    fn may_speak(&mut self, now: Instant) -> Option<u64> {
        let earned = now.saturating_duration_since(self.since).as_millis() / EVERY.as_millis();
        if let Ok(earned @ 1..) = u32::try_from(earned) {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.unsaid))
            }
            None => {
                self.unsaid += 1;
                None
            }
        }
    }
}

fn kind(kind: LaunchErrorKind) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The first `most` bytes of a text, and a sign that there was more.
pub(super) fn clipped(text: &str, most: usize) -> String {
    match text.len() > most {
        true => format!("{}…", &text[..text.floor_char_boundary(most)]),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_fast_is_counted_and_told_later() {
        let start = Instant::now();
        let mut audit = Audit::new(start);
        assert!((0..BURST).all(|_| audit.may_speak(start) == Some(0)));
        assert!((0..1000).all(|_| audit.may_speak(start).is_none()));
        assert_eq!(audit.may_speak(start + EVERY), Some(1000));
        assert_eq!(audit.may_speak(start + EVERY), None);
        assert_eq!(audit.may_speak(start + 2 * EVERY), Some(1));
    }

    #[test]
    fn a_clipped_text_ends_at_a_whole_character() {
        assert_eq!(clipped("aä", 2), "a…");
        assert_eq!(clipped("aä", 3), "aä");
    }
}
