//! A worker's history as clients see it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rbee_hive_sandbox::cgroup::{Unmeasured, unmeasured};
use rbee_hive_sandbox::protocol::{CgroupFacts, Resources};
use serde::{Deserialize, Serialize};

use super::sample::{COLUMNS, Column, Of, Sample};
use super::worker::Kept;

/// The last ten minutes of a worker, as columns over common times, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerHistory {
    /// Whose.
    pub worker_id: String,
    /// How far apart points are meant to be, milliseconds. Where two are much farther apart, nothing was sampled in between.
    pub interval_ms: u64,
    /// RFC 3339 in UTC, by the clock as it is now: a clock that was set meanwhile shifts all of them and changes no distance.
    pub times: Vec<String>,
    /// By name, a value a time; `null` where nothing was measured. Names have their unit: `_per_s` is a rate since the point before,
    /// `cpus` a number of CPUs, `_percent` a share of that time.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
    /// The columns in which nothing was measured, and why.
    pub unmeasured: Vec<Unmeasured>,
}

/// Which part of it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryRange {
    /// Only what is later.
    pub since: Option<Timestamp>,
    /// At most as many points; where there are more, each is the largest of its part of the time.
    pub max_points: Option<usize>,
}

/// What the sampler's clock and the host's say at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) now_ms: u64,
    pub(super) wall: Timestamp,
}

impl Clocks {
    /// The sampler's time of a moment by the host's clock; 0 for all that was before its beginning.
    pub(super) fn own(self, wall: Timestamp) -> u64 {
        let ago = self.wall.duration_since(wall).as_millis();
        let own = i128::from(self.now_ms) - ago;
        u64::try_from(own.max(0)).unwrap_or(u64::MAX)
    }

    fn wall(self, own_ms: u64) -> String {
        let ago = SignedDuration::from_millis(i64::try_from(self.now_ms.saturating_sub(own_ms)).unwrap_or(i64::MAX));
        format!("{:.3}", self.wall.checked_sub(ago).unwrap_or(Timestamp::MIN))
    }
}

/// Tells what is kept.
pub(super) fn tell(worker_id: &str, kept: &Kept, (clocks, interval_ms): (Clocks, u64), facts: &CgroupFacts) -> WorkerHistory {
    let column = |index: usize| kept.samples.iter().map(|s| shown(s.values[index])).collect::<Vec<_>>();
    let columns: BTreeMap<String, Vec<Option<f64>>> = COLUMNS.iter().enumerate().map(|(i, c)| (c.name.to_owned(), column(i))).collect();
    let missing = COLUMNS.iter().filter(|c| columns.get(c.name).is_none_or(|values| values.iter().all(Option::is_none)));
    let reasons = unmeasured(&kept.last.unwrap_or_default(), facts);
    let unmeasured = missing.map(|c| Unmeasured { figure: c.name.to_owned(), why: why(c, kept.last.as_ref(), &reasons) }).collect();
    let times = kept.samples.iter().map(|s| clocks.wall(s.at_ms)).collect();
    WorkerHistory { worker_id: worker_id.to_owned(), interval_ms, times, columns, unmeasured }
}

fn why(column: &Column, last: Option<&Resources>, reasons: &[Unmeasured]) -> String {
    if last.is_none() {
        return "no sample was taken: the worker has no cgroup that can be read, or has lived for less than the interval".into();
    }
    let covers =
        |u: &&Unmeasured| column.figure.strip_prefix(u.figure.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    match (column.of, reasons.iter().find(covers)) {
        (_, Some(reason)) => reason.why.clone(),
        (Of::MemoryLimit, _) => "no memory_max is set".into(),
        (Of::Rate(..) | Of::IoRate(_), _) => "a rate takes two samples".into(),
        (Of::Gauge(_), _) => "nothing was sampled in this time".into(),
    }
}

/// To a thousandth: more is noise.
fn shown(value: f32) -> Option<f64> {
    value.is_finite().then(|| (f64::from(value) * 1000.0).round() / 1000.0)
}

/// At most `most` samples of the same span, each the largest of its part of it; and how long such a part is, milliseconds.
pub(super) fn thin(samples: Vec<Sample>, most: usize) -> (Vec<Sample>, u64) {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return (samples, 0) };
    if samples.len() <= most {
        return (samples, 0);
    }
    let (start, span) = (first.at_ms, last.at_ms - first.at_ms + 1);
    let part = span.div_ceil(most.max(1) as u64).max(1);
    let mut thinned: Vec<Sample> = Vec::with_capacity(most);
    let mut number = None;
    for sample in samples {
        let of = (sample.at_ms - start) / part;
        match thinned.last_mut() {
            Some(newest) if number == Some(of) => newest.merge(&sample),
            _ => thinned.push(sample),
        }
        number = Some(of);
    }
    (thinned, part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rbee_hive_sandbox::protocol::CgroupMode;

    use super::*;

    fn sample(at_ms: u64, value: f32) -> Sample {
        Sample { at_ms, values: [value; COLUMNS.len()] }
    }

    fn facts(keys: &[&str]) -> CgroupFacts {
        let mounts = keys.iter().map(|key| ((*key).to_owned(), "/none".to_owned())).collect();
        CgroupFacts { mode: CgroupMode::Hybrid, root: "/r".into(), mounts, notes: vec![] }
    }

    fn clocks(now_ms: u64) -> Clocks {
        Clocks { now_ms, wall: "2026-01-01T00:10:00Z".parse().unwrap() }
    }

    #[test]
    fn times_are_the_hosts_as_its_clock_is_now_and_both_ways_agree() {
        let clocks = clocks(60_000);
        assert_eq!(clocks.wall(60_000), "2026-01-01T00:10:00.000Z");
        assert_eq!(clocks.wall(58_750), "2026-01-01T00:09:58.750Z");
        assert_eq!(clocks.own("2026-01-01T00:09:58.750Z".parse().unwrap()), 58_750);
        assert_eq!(clocks.own("1970-01-01T00:00:00Z".parse().unwrap()), 0);
        assert_eq!(clocks.own("2026-01-01T00:10:01Z".parse().unwrap()), 61_000);
    }

    #[test]
    fn a_clock_that_was_set_shifts_all_times_and_no_distance() {
        let set = Clocks { wall: "2020-05-05T00:00:00Z".parse().unwrap(), ..clocks(60_000) };
        assert_eq!((set.wall(59_000), set.wall(60_000)), ("2020-05-04T23:59:59.000Z".into(), "2020-05-05T00:00:00.000Z".into()));
    }

    #[test]
    fn a_column_without_a_value_says_why() {
        let mut one = sample(1000, f32::NAN);
        one.values[0] = 4096.0;
        let kept = Kept { samples: vec![one], last: Some(Resources { memory_current: Some(4096), ..Resources::default() }) };
        let told = tell("w", &kept, (clocks(2000), 1000), &facts(&["memory", "blkio", "unified"]));
        assert_eq!((told.columns["memory_bytes"].as_slice(), told.times.len()), (&[Some(4096.0)][..], 1));
        assert_eq!(told.columns["cpus"], [None], "not 0");
        assert_eq!(told.columns.len(), COLUMNS.len());
        let why = |name: &str| told.unmeasured.iter().find(|u| u.figure == name).map(|u| u.why.as_str());
        assert_eq!(why("memory_bytes"), None);
        assert_eq!(why("memory_limit_bytes"), Some("no memory_max is set"));
        assert!(why("io_read_bytes_per_s").unwrap().contains("throttles"));
        assert_eq!(told.unmeasured.len(), COLUMNS.len() - 1);
        let never = tell("w", &Kept { samples: vec![], last: None }, (clocks(2000), 1000), &facts(&[]));
        assert_eq!((never.times.len(), never.unmeasured.len()), (0, COLUMNS.len()));
    }

    proptest! {
        #[test]
        fn a_thinned_history_has_at_most_as_many_points_and_every_maximum(
            steps in proptest::collection::vec((1u64..5000, 0f32..1e6), 1..700), most in 1usize..700
        ) {
            let mut at_ms = 7;
            let samples: Vec<Sample> = steps.into_iter().map(|(step, value)| { at_ms += step; sample(at_ms, value) }).collect();
            let largest = |samples: &[Sample]| samples.iter().map(|s| s.values[3]).fold(0.0, f32::max);
            let (thinned, part) = thin(samples.clone(), most);
            prop_assert!(thinned.len() <= most && largest(&thinned) == largest(&samples));
            prop_assert_eq!(thinned.last().unwrap().at_ms, samples.last().unwrap().at_ms);
            prop_assert!(thinned.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
            prop_assert_eq!(part == 0, samples.len() <= most);
        }
    }
}
