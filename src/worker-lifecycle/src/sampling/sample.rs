//! One moment of a worker, as compact as a plot needs it: 26 numbers of four bytes.
//!
//! Figures that count up are kept as what they gained a second. What was not measured is NaN here, and `null` where it is told.

use rbee_hive_sandbox::protocol::{IoBytes, Resources};

/// What a column is.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    /// A figure as it is.
    Gauge(fn(&Resources) -> Option<u64>),
    /// What a figure that counts up gained a second, by a factor.
    Rate(fn(&Resources) -> Option<u64>, f64),
    /// The same of one of block I/O, which may have been counted at another time.
    IoRate(fn(&Resources) -> Option<u64>),
    /// The limit on memory that was in force.
    MemoryLimit,
}

/// One column of a history.
pub(crate) struct Column {
    /// Its name in `worker_history`, with the unit.
    pub(crate) name: &'static str,
    /// The figure of `resources` that it is made from.
    pub(crate) figure: &'static str,
    /// How.
    pub(crate) of: Of,
}

const fn gauge(name: &'static str, figure: &'static str, of: fn(&Resources) -> Option<u64>) -> Column {
    Column { name, figure, of: Of::Gauge(of) }
}

const fn rate(name: &'static str, figure: &'static str, (of, factor): (fn(&Resources) -> Option<u64>, f64)) -> Column {
    Column { name, figure, of: Of::Rate(of, factor) }
}

const fn io(name: &'static str, figure: &'static str, of: fn(&Resources) -> Option<u64>) -> Column {
    Column { name, figure, of: Of::IoRate(of) }
}

/// Microseconds a second as a number of CPUs, and as percent of the time.
const CPUS: f64 = 1e-6;
const PERCENT: f64 = 1e-4;

/// All columns. Names are the contract of `worker_history`.
pub(crate) const COLUMNS: [Column; 26] = [
    gauge("memory_bytes", "memory_current", |r| r.memory_current),
    Column { name: "memory_limit_bytes", figure: "limits.memory_max", of: Of::MemoryLimit },
    gauge("memory_peak_bytes", "memory_peak", |r| r.memory_peak),
    gauge("memory_anon_bytes", "memory_by_kind.anon", |r| r.memory_by_kind.anon),
    gauge("memory_file_bytes", "memory_by_kind.file", |r| r.memory_by_kind.file),
    gauge("memory_shmem_bytes", "memory_by_kind.shmem", |r| r.memory_by_kind.shmem),
    gauge("memory_kernel_bytes", "memory_by_kind.kernel", |r| r.memory_by_kind.kernel),
    gauge("oom_kills", "oom_kills", |r| r.oom_kills),
    gauge("swap_bytes", "swap_current", |r| r.swap_current),
    rate("minor_faults_per_s", "page_faults.minor", (|r| r.page_faults.minor, 1.0)),
    rate("major_faults_per_s", "page_faults.major", (|r| r.page_faults.major, 1.0)),
    rate("cpus", "cpu_usage_usec", (|r| r.cpu_usage_usec, CPUS)),
    rate("cpus_user", "cpu_user_usec", (|r| r.cpu_user_usec, CPUS)),
    rate("cpus_system", "cpu_system_usec", (|r| r.cpu_system_usec, CPUS)),
    rate("cpu_throttled_percent", "cpu_throttled.usec", (|r| r.cpu_throttled.usec, PERCENT)),
    io("io_read_bytes_per_s", "io_read_bytes", |r| r.io_read_bytes),
    io("io_write_bytes_per_s", "io_write_bytes", |r| r.io_write_bytes),
    io("io_read_ops_per_s", "io_read_ops", |r| r.io_read_ops),
    io("io_write_ops_per_s", "io_write_ops", |r| r.io_write_ops),
    gauge("pids", "pids_current", |r| r.pids_current),
    rate("pressure_cpu_some_percent", "pressure.cpu.some", (|r| Some(r.pressure.cpu.some?.total_usec), PERCENT)),
    rate("pressure_cpu_full_percent", "pressure.cpu.full", (|r| Some(r.pressure.cpu.full?.total_usec), PERCENT)),
    rate("pressure_memory_some_percent", "pressure.memory.some", (|r| Some(r.pressure.memory.some?.total_usec), PERCENT)),
    rate("pressure_memory_full_percent", "pressure.memory.full", (|r| Some(r.pressure.memory.full?.total_usec), PERCENT)),
    rate("pressure_io_some_percent", "pressure.io.some", (|r| Some(r.pressure.io.some?.total_usec), PERCENT)),
    rate("pressure_io_full_percent", "pressure.io.full", (|r| Some(r.pressure.io.full?.total_usec), PERCENT)),
];

/// A moment, 112 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Milliseconds on the sampler's own clock, which nobody sets.
    pub(super) at_ms: u64,
    /// A value a column; NaN where nothing was measured.
    pub(super) values: [f32; COLUMNS.len()],
}

/// What was read, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at_ms: u64,
    /// When what went to block devices was counted.
    pub(super) io_at_ms: u64,
    /// Whether no cgroup counts that.
    pub(super) io_by_process: bool,
    pub(super) resources: Resources,
}

impl Reading {
    /// What a cgroup has counted.
    pub(super) fn new(at_ms: u64, resources: Resources) -> Self {
        Self { at_ms, io_at_ms: at_ms, io_by_process: resources.lacks_io(), resources }
    }

    /// With what its init has counted at that time, where no cgroup does.
    pub(super) fn with_io(self, counted: Option<(u64, IoBytes)>) -> Self {
        match counted.filter(|_| self.io_by_process) {
            Some((io_at_ms, bytes)) => Self { io_at_ms, resources: self.resources.or_io(Some(bytes)), ..self },
            None => self,
        }
    }
}

impl Sample {
    /// From two readings; the first has nothing before it, and then no rate is known.
    pub(super) fn of(now: &Reading, before: Option<&Reading>, memory_limit: Option<u64>) -> Self {
        let value = |column: &Column| match column.of {
            Of::Gauge(of) => of(&now.resources).map(|figure| figure as f64),
            Of::MemoryLimit => memory_limit.map(|limit| limit as f64),
            Of::Rate(of, factor) => {
                before.and_then(|before| gained(of, (before, before.at_ms), (now, now.at_ms))).map(|a_second| a_second * factor)
            }
            Of::IoRate(of) => before.and_then(|before| gained(of, (before, before.io_at_ms), (now, now.io_at_ms))),
        };
        // To 24 binary digits: pages are exact up to 64 GiB.
        Self { at_ms: now.at_ms, values: std::array::from_fn(|column| value(&COLUMNS[column]).map_or(f32::NAN, |v| v as f32)) }
    }

    /// The later of two moments that become one: of each column the larger value, so that no peak is lost.
    pub(super) fn merge(&mut self, later: &Self) {
        self.at_ms = self.at_ms.max(later.at_ms);
        for (mine, other) in self.values.iter_mut().zip(later.values) {
            // f32::max prefers a number to NaN.
            *mine = mine.max(other);
        }
    }
}

/// A second's gain. `None` where one of them was not measured, where no time has passed, and where the figure has begun anew.
fn gained(of: fn(&Resources) -> Option<u64>, (before, then_ms): (&Reading, u64), (now, now_ms): (&Reading, u64)) -> Option<f64> {
    let gained = of(&now.resources)?.checked_sub(of(&before.resources)?)?;
    let millis = now_ms.checked_sub(then_ms).filter(|millis| *millis > 0)?;
    Some(gained as f64 * 1000.0 / millis as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::sampling) fn column(name: &str) -> usize {
        COLUMNS.iter().position(|c| c.name == name).unwrap()
    }

    fn reading(at_ms: u64, cpu: Option<u64>) -> Reading {
        Reading::new(at_ms, Resources { cpu_usage_usec: cpu, memory_current: Some(4096), ..Resources::default() })
    }

    #[test]
    fn rates_are_gains_a_second_and_unknown_without_two_measurements() {
        let cpus = |before: Option<&Reading>, now: &Reading| Sample::of(now, before, None).values[column("cpus")];
        assert!((cpus(Some(&reading(1000, Some(5))), &reading(3000, Some(3_000_005))) - 1.5).abs() < 1e-6);
        assert_eq!(cpus(Some(&reading(1000, Some(5))), &reading(3000, Some(5))), 0.0, "measured, and nothing");
        let now = reading(3000, Some(7));
        for before in [None, Some(&reading(1000, None)), Some(&reading(1000, Some(9))), Some(&reading(3000, Some(1)))] {
            assert!(cpus(before, &now).is_nan(), "{before:?}");
        }
        assert!(cpus(Some(&reading(1000, Some(1))), &reading(3000, None)).is_nan());
    }

    #[test]
    fn a_sample_is_as_small_as_its_documentation_says() {
        assert_eq!(size_of::<Sample>(), 112);
    }

    #[test]
    fn what_an_init_counts_is_a_rate_over_its_own_times_and_told_once() {
        let at = |at_ms, counted: Option<(u64, u64)>| {
            reading(at_ms, None).with_io(counted.map(|(when, written)| (when, IoBytes { read: 0, written })))
        };
        let written = |before: &Reading, now: &Reading| Sample::of(now, Some(before), None).values[column("io_write_bytes_per_s")];
        let (first, second) = (at(1000, Some((900, 5))), at(2000, Some((1400, 2005))));
        assert_eq!(written(&first, &second), 4000.0, "in half a second");
        assert!(written(&second, &at(3000, Some((1400, 2005)))).is_nan(), "nobody has counted since");
        assert!(written(&at(500, None), &first).is_nan() && written(&second, &at(3000, Some((2900, 7)))).is_nan());
        let counted = Reading::new(1000, Resources { io_write_bytes: Some(1), ..Resources::default() });
        assert_eq!(counted.with_io(Some((1, IoBytes { read: 9, written: 9 }))).resources, counted.resources, "a cgroup counts it");
    }

    #[test]
    fn pages_are_exact_up_to_64_gib() {
        let bytes = (64_u64 << 30) - 4096;
        let now = Reading::new(1, Resources { memory_current: Some(bytes), ..Resources::default() });
        assert_eq!(Sample::of(&now, None, None).values[column("memory_bytes")] as u64, bytes);
    }

    #[test]
    fn two_moments_become_one_with_the_larger_values_and_what_one_of_them_measured() {
        let mut merged = Sample::of(&reading(1000, None), None, Some(9));
        let other = Reading::new(2000, Resources { memory_current: Some(8192), swap_current: Some(1), ..Resources::default() });
        merged.merge(&Sample::of(&other, None, None));
        let of = |name| merged.values[column(name)];
        assert_eq!((merged.at_ms, of("memory_bytes"), of("memory_limit_bytes"), of("swap_bytes")), (2000, 8192.0, 9.0, 1.0));
        assert!(of("cpus").is_nan());
    }
}
