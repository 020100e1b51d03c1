//! The spawn rate: what comes too fast waits its turn, and what comes in flocks is refused.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A queue that gives its entries out no faster than one an interval.
pub(super) struct Pace<T> {
    interval: Duration,
    most: usize,
    next: Instant,
    waiting: VecDeque<T>,
}

impl<T> Pace<T> {
    /// At most `most` entries wait.
    pub(super) fn new(interval: Duration, most: usize) -> Self {
        Self { interval, most, next: Instant::now(), waiting: VecDeque::new() }
    }

    /// Queues an entry; gives it back where there is no room.
    pub(super) fn push(&mut self, entry: T) -> Result<(), T> {
        if self.waiting.len() >= self.most {
            return Err(entry);
        }
        self.waiting.push_back(entry);
        Ok(())
    }

    /// The next entry, if its time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        if now < self.next {
            return None;
        }
        let entry = self.waiting.pop_front()?;
        self.next = now + self.interval;
        Some(entry)
    }

    /// Everything that still waits, whose time will not come.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        std::mem::take(&mut self.waiting).into_iter()
    }

    /// When the next entry's time comes; `None` with nothing waiting.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_fast_waits_and_nothing_is_lost() {
        let mut pace = Pace::new(Duration::from_millis(10), 2);
        let start = Instant::now();
        assert_eq!((pace.push(1), pace.push(2)), (Ok(()), Ok(())));
        assert_eq!(pace.push(3), Err(3), "there is no room for a third");
        assert_eq!((pace.pop(start), pace.pop(start)), (Some(1), None));
        assert_eq!(pace.due(), Some(start + Duration::from_millis(10)));
        assert_eq!(pace.pop(start + Duration::from_millis(10)), Some(2));
        assert_eq!(pace.due(), None);
        assert_eq!(pace.push(4), Ok(()));
        assert_eq!(pace.drain().collect::<Vec<_>>(), [4]);
    }
}
