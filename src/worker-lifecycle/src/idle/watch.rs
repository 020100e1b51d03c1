//! Since when a worker has done nothing.

use std::time::Duration;

/// CPU time a second that counts as work, microseconds: a server that only waits uses less.
const WORK_USEC: u64 = 20_000;

/// One look; times are since the worker was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// When.
    pub(crate) now: Duration,
    /// Its CPU time, microseconds; `None` where nobody counts it.
    pub(crate) cpu_usec: Option<u64>,
}

/// What was seen at the looks before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    last: Option<(Duration, u64)>,
    worked: Option<Duration>,
}

impl Watch {
    /// The last time that it was at work; `None` where that is not known: what was not measured is not idle.
    pub(crate) fn look(&mut self, Look { now, cpu_usec }: Look) -> Option<Duration> {
        let Some(cpu) = cpu_usec else {
            *self = Self::default();
            return None;
        };
        let since_last = self.last.map(|(then, before)| (now.saturating_sub(then), cpu.saturating_sub(before)));
        // Nothing is known of the time before the first look.
        let at_work = since_last.is_none_or(|(time, used)| is_work(time, used));
        self.last = Some((now, cpu));
        if at_work {
            self.worked = Some(now);
        }
        self.worked
    }
}

fn is_work(time: Duration, used_usec: u64) -> bool {
    u128::from(used_usec) * 1_000_000 > time.as_micros() * u128::from(WORK_USEC)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: u64, cpu_usec: u64) -> Look {
        Look { now: Duration::from_secs(second), cpu_usec: Some(cpu_usec) }
    }

    #[test]
    fn work_is_more_than_two_hundredths_of_a_cpu() {
        let mut watch = Watch::default();
        let seconds = Duration::from_secs;
        assert_eq!(watch.look(at(1, 500_000)), Some(seconds(1)), "the first look");
        assert_eq!(watch.look(at(2, 520_000)), Some(seconds(1)));
        assert_eq!(watch.look(at(3, 540_001)), Some(seconds(3)));
        assert_eq!(watch.look(at(13, 740_001)), Some(seconds(3)));
        assert_eq!(watch.look(Look { now: seconds(14), cpu_usec: None }), None, "not measured");
        assert_eq!(watch.look(at(15, 740_001)), Some(seconds(15)), "and nothing is known of what was before");
    }

    proptest! {
        #[test]
        fn the_last_work_is_never_later_than_now_and_never_goes_back(
            looks in proptest::collection::vec((0u64..1000, 0u64..10_000_000, any::<bool>()), 1..40)
        ) {
            let (mut watch, mut now, mut cpu, mut last) = (Watch::default(), 0, 0, Duration::ZERO);
            for (pause, used, measured) in looks {
                now += pause;
                cpu += used;
                let look = Look { now: Duration::from_millis(now), cpu_usec: measured.then_some(cpu) };
                let worked = watch.look(look);
                prop_assert_eq!(worked.is_some(), measured);
                if let Some(worked) = worked {
                    prop_assert!(worked <= look.now && worked >= last);
                    last = worked;
                }
            }
        }
    }
}
