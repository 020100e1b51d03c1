//! Which of the kills that a cgroup has counted cannot have been of the worker's own process, where no log tells.
//!
//! A process that is killed ends in a moment; one that goes on for a second after a count was read was not the one that was counted.

use std::time::{Duration, Instant};

/// How long a killed process may take to be seen as ended.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// The counts that were read while the worker's own process went on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    others: u64,
    seen: u64,
    since: Instant,
}

impl Settled {
    /// Before any kill.
    pub(crate) fn new(now: Instant) -> Self {
        Self { others: 0, seen: 0, since: now }
    }

    /// `kills` are counted, and the worker's own process has not been seen to end.
    pub(crate) fn count(&mut self, kills: u64, now: Instant) {
        if kills > self.seen {
            self.others = self.others(now);
            (self.seen, self.since) = (kills, now);
        }
    }

    /// Kills of others, if the worker's own process was seen to end at `ended`.
    pub(crate) fn others(&self, ended: Instant) -> u64 {
        if ended.saturating_duration_since(self.since) > ENDS_WITHIN { self.seen } else { self.others }
    }
}

/// Kills that stay counted when the group that counted them is removed: on v1 one below a leaf takes its count along.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    gone: u64,
    last: u64,
}

impl Kept {
    /// All kills so far, where `counted` are counted now.
    pub(crate) fn in_all(&mut self, counted: u64) -> u64 {
        self.gone += self.last.saturating_sub(counted);
        self.last = counted;
        self.gone.saturating_add(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_once_stays_counted() {
        let mut kept = Kept::default();
        let all: Vec<u64> = [0, 2, 2, 0, 1, 4, 3].map(|counted| kept.in_all(counted)).into();
        assert_eq!(all, [0, 2, 2, 2, 3, 6, 6]);
    }

    #[test]
    fn only_what_was_counted_long_before_the_end_was_others() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settled = Settled::new(start);
        assert_eq!(settled.others(at(5_000)), 0);
        settled.count(1, at(5_000));
        assert_eq!((settled.others(at(5_500)), settled.others(at(6_001))), (0, 1));
        settled.count(1, at(7_000));
        assert_eq!(settled.others(at(7_001)), 1, "the same count once more is no news");
        settled.count(3, at(8_000));
        assert_eq!((settled.others(at(8_001)), settled.others(at(9_001))), (1, 3));
    }
}
