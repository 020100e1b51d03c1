//! Which worker makes room for another one of its policy.

use std::time::Duration;

/// A worker of the policy that is up, or about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Warm<W> {
    /// Which.
    pub(crate) worker: W,
    /// For how long it has been idle, by its policy's measure; `None`: it is not.
    pub(crate) idle: Option<Duration>,
}

/// What becomes of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice<W> {
    /// There is room.
    Room,
    /// This one makes room.
    Evict(W),
    /// Nobody can.
    Full,
}

/// Whether another one fits beside `warm` where `most` may be up: if not, the idle one goes that was used last the longest ago.
pub(crate) fn choose<W>(warm: Vec<Warm<W>>, most: usize) -> Choice<W> {
    if warm.len() < most {
        return Choice::Room;
    }
    let idle = warm.into_iter().filter_map(|w| w.idle.map(|time| (time, w.worker)));
    idle.max_by_key(|(time, _)| *time).map_or(Choice::Full, |(_, worker)| Choice::Evict(worker))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn warm(idle: &[Option<u64>]) -> Vec<Warm<usize>> {
        idle.iter().enumerate().map(|(worker, idle)| Warm { worker, idle: idle.map(Duration::from_secs) }).collect()
    }

    #[test]
    fn the_least_recently_used_idle_one_goes_and_none_that_is_in_use() {
        assert_eq!(choose(warm(&[None, None]), 3), Choice::Room);
        assert_eq!(choose(warm(&[None, None]), 2), Choice::Full);
        assert_eq!(choose(warm(&[Some(5), None, Some(9), Some(7)]), 4), Choice::Evict(2));
        assert_eq!(choose(warm(&[]), 1), Choice::Room);
    }

    proptest! {
        #[test]
        fn nobody_goes_while_there_is_room_and_who_goes_was_idle_the_longest(
            idle in proptest::collection::vec(proptest::option::of(0u64..100), 0..12), most in 1usize..12
        ) {
            match choose(warm(&idle), most) {
                Choice::Room => prop_assert!(idle.len() < most),
                Choice::Full => prop_assert!(idle.len() >= most && idle.iter().all(Option::is_none)),
                Choice::Evict(worker) => {
                    prop_assert!(idle.len() >= most);
                    prop_assert!(idle[worker].is_some() && idle.iter().all(|other| *other <= idle[worker]));
                }
            }
        }
    }
}
