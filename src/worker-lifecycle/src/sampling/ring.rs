//! The last ten minutes of a worker.
//!
//! At most [`MOST`] samples of 112 bytes, 67 KB; where many workers share the memory they are merged to fewer. Times are the sampler's own:
//! milliseconds that only grow, whatever is done to the host's clock. Must never know: what a sample says.

use std::collections::VecDeque;

use super::sample::Sample;

/// How far back it goes.
pub(super) const WINDOW_MS: u64 = 10 * 60 * 1000;
/// Samples of one worker: one a second.
pub(super) const MOST: usize = 601;

/// Samples of one worker, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    samples: VecDeque<Sample>,
    /// When the newest one was begun: others that come soon are merged into it.
    begun_ms: u64,
    slot_ms: u64,
}

impl Ring {
    /// Adds a sample, not more than one in `slot_ms`: what comes sooner is merged into the newest.
    pub(super) fn push(&mut self, sample: Sample, slot_ms: u64) {
        self.coarsen(slot_ms);
        match self.samples.back_mut() {
            // Nearly a slot: ticks come a little early and a little late. The newest may have been merged from several, and be later than begun.
            Some(newest) if sample.at_ms <= newest.at_ms || sample.at_ms < self.begun_ms.saturating_add(slot_ms - slot_ms / 8) => {
                newest.merge(&sample);
            }
            _ => {
                self.begun_ms = sample.at_ms;
                self.make_room();
                self.samples.push_back(sample);
            }
        }
        while self.samples.front().is_some_and(|oldest| oldest.at_ms.saturating_add(WINDOW_MS) < sample.at_ms) {
            self.samples.pop_front();
        }
    }

    /// Merges samples that are closer to each other than `slot_ms`, if that is more than before.
    pub(super) fn coarsen(&mut self, slot_ms: u64) {
        let before = std::mem::replace(&mut self.slot_ms, slot_ms);
        if slot_ms <= before || self.samples.len() < 2 {
            return;
        }
        let mut merged: VecDeque<Sample> = VecDeque::new();
        let mut begun_ms = 0;
        for sample in self.samples.drain(..) {
            match merged.back_mut() {
                Some(newest) if sample.at_ms < begun_ms + (slot_ms - slot_ms / 8) => newest.merge(&sample),
                _ => {
                    begun_ms = sample.at_ms;
                    merged.push_back(sample);
                }
            }
        }
        merged.shrink_to_fit();
        (self.samples, self.begun_ms) = (merged, begun_ms);
    }

    /// Those later than `after_ms`, oldest first.
    pub(super) fn after(&self, after_ms: Option<u64>) -> Vec<Sample> {
        self.samples.iter().filter(|sample| after_ms.is_none_or(|after| sample.at_ms > after)).copied().collect()
    }

    /// Bytes that its samples take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.samples.capacity() * size_of::<Sample>()
    }

    /// Doubles up to what it may hold, and not to the next power of two.
    fn make_room(&mut self) {
        if self.samples.len() >= MOST {
            self.samples.pop_front();
        }
        if self.samples.len() == self.samples.capacity() {
            let more = self.samples.len().clamp(8, 256).min(MOST - self.samples.len());
            self.samples.reserve_exact(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sampling::sample::COLUMNS;

    fn sample(at_ms: u64, value: f32) -> Sample {
        Sample { at_ms, values: [value; COLUMNS.len()] }
    }

    fn times(ring: &Ring) -> Vec<u64> {
        ring.after(None).iter().map(|s| s.at_ms).collect()
    }

    #[test]
    fn it_holds_ten_minutes_of_seconds_in_67_kb_and_forgets_the_oldest() {
        let mut ring = Ring::default();
        for second in 0..2000 {
            ring.push(sample(second * 1000 + second % 3, second as f32), 1000);
        }
        let all = ring.after(None);
        assert_eq!((all.len(), all[0].at_ms / 1000, all.last().unwrap().at_ms / 1000), (MOST, 1399, 1999));
        assert!(ring.bytes() <= 67_312, "{}", ring.bytes());
        assert_eq!(ring.after(Some(all[599].at_ms)).len(), 1);
    }

    #[test]
    fn a_gap_stays_a_gap_and_what_is_older_than_ten_minutes_goes_with_it() {
        let mut ring = Ring::default();
        for at in [0, 1000, 5000, 6000] {
            ring.push(sample(at, 1.0), 1000);
        }
        assert_eq!(times(&ring), [0, 1000, 5000, 6000]);
        ring.push(sample(6000 + WINDOW_MS, 1.0), 1000);
        assert_eq!(times(&ring), [6000, 6000 + WINDOW_MS]);
        ring.push(sample(10 * WINDOW_MS, 1.0), 1000);
        assert_eq!(times(&ring), [10 * WINDOW_MS]);
    }

    #[test]
    fn samples_within_a_slot_are_one_with_their_largest_value() {
        let mut ring = Ring::default();
        for (at, value) in [(0, 1.0), (100, 9.0), (200, 2.0), (950, 3.0), (1900, 4.0)] {
            ring.push(sample(at, value), 1000);
        }
        let all = ring.after(None);
        assert_eq!(all.iter().map(|s| (s.at_ms, s.values[0])).collect::<Vec<_>>(), [(200, 9.0), (950, 3.0), (1900, 4.0)]);
    }

    #[test]
    fn a_coarser_ring_keeps_its_peaks_and_goes_back_as_far() {
        let mut ring = Ring::default();
        for second in 0..600 {
            ring.push(sample(second * 1000, if second == 77 { 50.0 } else { 1.0 }), 1000);
        }
        ring.coarsen(4000);
        let all = ring.after(None);
        assert_eq!(all.len(), 150);
        assert_eq!(all.iter().map(|s| s.values[0]).fold(0.0, f32::max), 50.0);
        assert!(ring.bytes() < 20_000, "{}", ring.bytes());
        ring.push(sample(600_000, 1.0), 4000);
        assert_eq!(ring.after(None).len(), 151);
    }

    #[test]
    fn a_moment_that_is_not_later_is_merged_and_never_turns_the_time_back() {
        let mut ring = Ring::default();
        for at in [5000, 5000, 4000] {
            ring.push(sample(at, at as f32), 1000);
        }
        assert_eq!(times(&ring), [5000]);
    }

    proptest! {
        #[test]
        fn times_only_grow_and_the_bound_holds(steps in proptest::collection::vec((0u64..400_000, 0u32..4), 0..800)) {
            let (mut ring, mut now) = (Ring::default(), 0);
            for (step, shift) in steps {
                now += if step % 5 == 0 { step } else { step % 1500 };
                ring.push(sample(now, 1.0), 1000 << shift);
                let all = times(&ring);
                prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
                prop_assert!(all.len() <= MOST && all[0] + WINDOW_MS >= now && *all.last().unwrap() == now);
            }
        }
    }
}
