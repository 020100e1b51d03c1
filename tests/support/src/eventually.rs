//! Waiting for a condition, with a deadline.
//!
//! Owns: polling and the time factor of slow machines. Must never know: the condition.

use std::env;
use std::time::{Duration, Instant};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// By how much this machine is slower than the one the limits were written for (`RBEE_TEST_TIME_FACTOR`, default 1).
pub fn time_factor() -> u32 {
    env::var("RBEE_TEST_TIME_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// A time limit, scaled to this machine.
pub fn within(limit: Duration) -> Duration {
    limit * time_factor()
}

/// Looks until `look` gives something, for at most `limit` (scaled), and gives that.
///
/// # Panics
/// When the limit has passed; `what` names what was awaited.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    match poll(limit, look) {
        Some(found) => found,
        None => panic!("not within {:?}: {what}", within(limit)),
    }
}

/// The same, with nothing when the limit has passed.
#[expect(clippy::disallowed_methods, reason = "this is the one place where tests poll; it ends with the condition or the deadline")]
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within(limit);
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_returned() {
        let mut looks = 0;
        let found = eventually("three looks", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "never true")]
    fn the_deadline_fails_the_test_and_names_what_was_awaited() {
        eventually("never true", Duration::from_millis(20), || None::<()>);
    }
}
