//! The record of changes: one line for each, with who asked, from where, and what came of it.
//!
//! Lines go to the hive's log under the target `audit`, whatever `RUST_LOG` says. They hold names and kinds of errors, never parameters: those
//! may be secrets. Must never know what a method does.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Identity;

/// Most lines about refused callers in one [`WINDOW`]: whoever may not call must not be able to fill the disk.
const MAX_DENIALS: u32 = 10;
/// How long one count lasts.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest text from outside in a line, characters.
const MAX_TEXT: usize = 160;

/// A change that is under way. What drops it without an outcome has been cut.
#[derive(Debug)]
pub(crate) struct Change {
    by: Identity,
    method: &'static str,
    worker_id: Option<String>,
    told: bool,
}

impl Change {
    /// `worker_id` is a parsed name.
    pub(crate) fn begin(by: &Identity, method: &'static str, worker_id: Option<String>) -> Self {
        Self { by: by.clone(), method, worker_id, told: false }
    }

    /// Names the worker where the request did not.
    pub(crate) fn about(&mut self, worker_id: Option<String>) {
        self.worker_id = self.worker_id.take().or(worker_id);
    }

    /// Tells what came of it: `ok`, or the kind of the error.
    pub(crate) fn ended(mut self, outcome: &str) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: &str) {
        self.told = true;
        let (by, outcome) = (&self.by, short(outcome));
        let worker_id = self.worker_id.as_deref();
        tracing::info!(target: "audit", who = by.who, from = by.from, role = by.role.name(), method = self.method, worker_id, outcome, "audit: change");
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.told {
            self.tell("cut");
        }
    }
}

/// Refused callers, told within a bound.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    count: Mutex<Count>,
}

#[derive(Debug, Default)]
struct Count {
    since: Option<Instant>,
    told: u32,
    suppressed: u64,
}

impl Denials {
    /// Tells of one, or counts it for the next line.
    pub(crate) fn tell(&self, from: &str, why: &str) {
        if let Some(suppressed) = self.admit(Instant::now()) {
            tracing::warn!(target: "audit", from, why = short(why), suppressed, "audit: refused");
        }
    }

    /// How many went untold before this one; `None`: this one does, too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            (count.since, count.told) = (Some(now), 0);
        }
        if count.told >= MAX_DENIALS {
            count.suppressed += 1;
            return None;
        }
        count.told += 1;
        Some(std::mem::take(&mut count.suppressed))
    }
}

/// A text within its bound, without what could forge a line.
fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_callers_are_told_within_a_bound_and_the_rest_is_counted() {
        let denials = Denials::default();
        let begun = Instant::now();
        let told = (0..1000).filter(|_| denials.admit(begun).is_some()).count();
        assert_eq!(told, MAX_DENIALS as usize);
        assert_eq!(denials.admit(begun + WINDOW), Some(1000 - u64::from(MAX_DENIALS)), "the next line says how many went untold");
        assert_eq!(denials.admit(begun + WINDOW), Some(0));
    }

    #[test]
    fn a_text_from_outside_is_short_and_one_line() {
        assert_eq!(short("a\nb"), "a b");
        assert_eq!(short(&"x".repeat(1000)).len(), MAX_TEXT);
    }
}
