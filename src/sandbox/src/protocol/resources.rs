//! What is measured of a worker. What was not measured is `None`, never 0; [`crate::cgroup::unmeasured`] says why.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Figures of a worker's cgroup: by the hive while it lives, by the init after it is empty and before it is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes in use.
    pub memory_current: Option<u64>,
    /// Highest use, bytes.
    pub memory_peak: Option<u64>,
    /// Bytes in swap.
    pub swap_current: Option<u64>,
    /// Most bytes in swap.
    pub swap_peak: Option<u64>,
    /// Bytes in use by what they are for.
    pub memory_by_kind: MemoryKinds,
    /// How often memory was short.
    pub memory_events: MemoryEvents,
    /// Page faults.
    pub page_faults: PageFaults,
    /// CPU time, microseconds.
    pub cpu_usage_usec: Option<u64>,
    /// Of it in user mode.
    pub cpu_user_usec: Option<u64>,
    /// Of it in the kernel.
    pub cpu_system_usec: Option<u64>,
    /// Time without a CPU because of the limit on them.
    pub cpu_throttled: Throttled,
    /// Tasks.
    pub pids_current: Option<u64>,
    /// Most tasks.
    pub pids_peak: Option<u64>,
    /// Out-of-memory kills.
    pub oom_kills: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_write_bytes: Option<u64>,
    /// Reads from block devices.
    pub io_read_ops: Option<u64>,
    /// Writes to block devices.
    pub io_write_ops: Option<u64>,
    /// Time lost for want of something.
    pub pressure: Pressure,
}

/// Bytes by kind. `mapped` and `shmem` are parts of `file`; `slab`, `kernel_stack` and `page_tables` are parts of `kernel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryKinds {
    /// Anonymous.
    pub anon: Option<u64>,
    /// Page cache, shared memory and tmpfs among it.
    pub file: Option<u64>,
    /// Mapped files.
    pub mapped: Option<u64>,
    /// Shared memory and tmpfs.
    pub shmem: Option<u64>,
    /// The kernel's own, for the worker.
    pub kernel: Option<u64>,
    /// Its objects.
    pub slab: Option<u64>,
    /// Stacks of the worker's threads in the kernel.
    pub kernel_stack: Option<u64>,
    /// Page tables.
    pub page_tables: Option<u64>,
    /// Network buffers.
    pub sock: Option<u64>,
}

/// How often memory was short, of the leaf and what is below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryEvents {
    /// Reclaimed below `memory_low`.
    pub low: Option<u64>,
    /// Throttled above `memory_high`.
    pub high: Option<u64>,
    /// Use was about to go over `memory_max`.
    pub max: Option<u64>,
    /// Nothing could be reclaimed at the limit.
    pub oom: Option<u64>,
    /// Processes killed for it.
    pub oom_kill: Option<u64>,
    /// Whole groups killed for it.
    pub oom_group_kill: Option<u64>,
}

/// Page faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageFaults {
    /// Without reading.
    pub minor: Option<u64>,
    /// With reading from a device.
    pub major: Option<u64>,
}

/// What the CPU limit took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttled {
    /// Periods in which the limit applied.
    pub periods: Option<u64>,
    /// Of them those in which it was reached.
    pub throttled_periods: Option<u64>,
    /// Microseconds without a CPU.
    pub usec: Option<u64>,
}

/// Pressure stall information by resource (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// For want of a CPU.
    pub cpu: Stalls,
    /// For want of memory.
    pub memory: Stalls,
    /// For want of block devices.
    pub io: Stalls,
}

/// Stalls for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stalls {
    /// Some task waited.
    pub some: Option<Stall>,
    /// All of them waited.
    pub full: Option<Stall>,
}

/// Share of time that was lost, and how much in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: Percent,
    /// Percent of the last minute.
    pub avg60: Percent,
    /// Percent of the last five minutes.
    pub avg300: Percent,
    /// Microseconds since the cgroup was made.
    pub total_usec: u64,
}

/// Hundredths of a percent, which is as exact as the kernel says it. In JSON a number of percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u32);

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 100.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `as` keeps within the bounds of u32, whatever stands there.
        f64::deserialize(deserializer).map(|percent| Self((percent * 100.0).round() as u32))
    }
}

impl Resources {
    /// Whether no cgroup counted what goes to block devices.
    pub fn lacks_io(&self) -> bool {
        self.io_read_bytes.is_none() && self.io_write_bytes.is_none()
    }

    /// With what was counted by process where no cgroup counted it.
    #[must_use]
    pub fn or_io(self, bytes: Option<IoBytes>) -> Self {
        match bytes.filter(|_| self.lacks_io()) {
            Some(bytes) => Self { io_read_bytes: Some(bytes.read), io_write_bytes: Some(bytes.written), ..self },
            None => self,
        }
    }
}

/// Bytes read from and written to block devices, counted by process (`/proc/<pid>/io`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoBytes {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// The same of one process of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIo {
    /// Its pid, as the init sees it.
    pub pid: i32,
    /// When it was started, clock ticks after boot: the number may be another process's by the time this is read.
    pub start_ticks: u64,
    /// What it has read and written, its ended children that it has reaped included.
    pub bytes: IoBytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_read_back_as_they_were_written() {
        for hundredths in [0, 1, 15, 9_999, 10_000] {
            let text = serde_json::to_string(&Percent(hundredths)).unwrap();
            assert_eq!(serde_json::from_str::<Percent>(&text).unwrap(), Percent(hundredths), "{text}");
        }
    }

    #[test]
    fn what_an_older_init_says_is_read_and_the_rest_is_unmeasured() {
        let old = r#"{"memory_current": 1, "memory_peak": null, "cpu_usage_usec": 2, "cpu_user_usec": null, "cpu_system_usec": null,
            "pids_current": 0, "oom_kills": 0, "io_read_bytes": null, "io_write_bytes": null}"#;
        let want = Resources {
            memory_current: Some(1),
            cpu_usage_usec: Some(2),
            pids_current: Some(0),
            oom_kills: Some(0),
            ..Resources::default()
        };
        assert_eq!(serde_json::from_str::<Resources>(old).unwrap(), want);
    }
}
