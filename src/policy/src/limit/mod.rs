//! Limits by name, and their values in the kernel's units.

mod named;
mod parse;
mod value;

use serde::{Deserialize, Serialize};

pub use named::{BlockLimits, InvalidNamed, IoBounds, PageLimits, RegionLimits};
pub use parse::InvalidLimit;
pub use value::{LimitValue, Limits, PlannedLimit};

/// A limit's name, as in policies, requests and status objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKey {
    /// Hard memory limit, bytes (`memory.max`).
    MemoryMax,
    /// Throttling threshold, bytes (`memory.high`, v2 only).
    MemoryHigh,
    /// Memory protected from reclaim, bytes, 0 is none (`memory.low`, v2 only).
    MemoryLow,
    /// Swap on top of memory, bytes (`memory.swap.max`; v1: memsw minus memory).
    SwapMax,
    /// Kill the whole leaf on out-of-memory, 0 or 1 (`memory.oom.group`, v2 only).
    OomGroup,
    /// CPU time, in CPUs (`cpu.max`; v1: `cpu.cfs_quota_us`).
    Cpus,
    /// CPU time saved up in quiet periods and used beyond `cpus` later, microseconds a period (`cpu.max.burst`; v1: `cpu.cfs_burst_us`).
    CpuBurst,
    /// Relative share of CPU time, 1 to 10000, 100 is the default (`cpu.weight`; v1: `cpu.shares`).
    CpuWeight,
    /// CPUs that may be used, in list format (`cpuset.cpus`).
    Cpuset,
    /// NUMA nodes that memory may come from, in list format (`cpuset.mems`).
    Mems,
    /// Tasks (`pids.max`).
    PidsMax,
    /// Relative share of block I/O, 1 to 10000, 100 is the default (`io.weight`, `io.bfq.weight`; v1: `blkio.bfq.weight`, `blkio.weight`).
    IoWeight,
    /// Block I/O by device, as [`BlockLimits`] (`io.max`; v1: `blkio.throttle.*`).
    IoMax,
    /// Huge pages by their size, as [`PageLimits`] (`hugetlb.<size>.max`; v1: `hugetlb.<size>.limit_in_bytes`).
    Hugetlb,
    /// Device memory by region, as [`RegionLimits`] (`dmem.max`, Linux 6.14, v2 only).
    Dmem,
    /// Cgroups that may be made below the worker's (`cgroup.max.descendants`, v2; on a hybrid host in its v2 leaf).
    CgroupDescendants,
    /// How deep they may be nested (`cgroup.max.depth`, likewise).
    CgroupDepth,
    /// Open files a process (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Largest core dump, bytes; 0 is none at all, not even by way of a program (`RLIMIT_CORE`, core(5)).
    CoreSize,
    /// Largest file that can be written, bytes (`RLIMIT_FSIZE`).
    FileSize,
    /// Stack of a process's first thread, bytes (`RLIMIT_STACK`).
    StackSize,
    /// Memory that can be locked, bytes (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// POSIX message queues, bytes (`RLIMIT_MSGQUEUE`).
    MessageQueues,
    /// Queued signals (`RLIMIT_SIGPENDING`).
    PendingSignals,
    /// Tasks of the worker's user (`RLIMIT_NPROC`).
    UserTasks,
    /// CPU time of each process, seconds (`RLIMIT_CPU`).
    CpuTime,
}

enum Kind {
    Bytes,
    Count,
    Seconds,
    Switch,
    Cpus,
    List,
    Micros,
    Blocks,
    Pages,
    Regions,
}

impl LimitKey {
    /// Every limit.
    pub const ALL: [Self; 26] = [
        Self::MemoryMax,
        Self::MemoryHigh,
        Self::MemoryLow,
        Self::SwapMax,
        Self::OomGroup,
        Self::Cpus,
        Self::CpuBurst,
        Self::CpuWeight,
        Self::Cpuset,
        Self::Mems,
        Self::PidsMax,
        Self::IoWeight,
        Self::IoMax,
        Self::Hugetlb,
        Self::Dmem,
        Self::CgroupDescendants,
        Self::CgroupDepth,
        Self::OpenFiles,
        Self::CoreSize,
        Self::FileSize,
        Self::StackSize,
        Self::LockedMemory,
        Self::MessageQueues,
        Self::PendingSignals,
        Self::UserTasks,
        Self::CpuTime,
    ];

    /// Those that each process has for itself (getrlimit(2)), not its cgroup.
    pub const OF_A_PROCESS: [Self; 9] = [
        Self::OpenFiles,
        Self::CoreSize,
        Self::FileSize,
        Self::StackSize,
        Self::LockedMemory,
        Self::MessageQueues,
        Self::PendingSignals,
        Self::UserTasks,
        Self::CpuTime,
    ];

    /// The name in policies and requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryMax => "memory_max",
            Self::MemoryHigh => "memory_high",
            Self::MemoryLow => "memory_low",
            Self::SwapMax => "swap_max",
            Self::OomGroup => "oom_group",
            Self::Cpus => "cpus",
            Self::CpuBurst => "cpu_burst",
            Self::CpuWeight => "cpu_weight",
            Self::Cpuset => "cpuset",
            Self::Mems => "mems",
            Self::PidsMax => "pids_max",
            Self::IoWeight => "io_weight",
            Self::IoMax => "io_max",
            Self::Hugetlb => "hugetlb",
            Self::Dmem => "dmem",
            Self::CgroupDescendants => "cgroup_descendants",
            Self::CgroupDepth => "cgroup_depth",
            Self::OpenFiles => "open_files",
            Self::CoreSize => "core_size",
            Self::FileSize => "file_size",
            Self::StackSize => "stack_size",
            Self::LockedMemory => "locked_memory",
            Self::MessageQueues => "message_queues",
            Self::PendingSignals => "pending_signals",
            Self::UserTasks => "user_tasks",
            Self::CpuTime => "cpu_time",
        }
    }

    /// The limit of this name.
    pub fn from_name(name: &str) -> Result<Self, InvalidLimit> {
        if ["address_space", "virtual_memory", "rlimit_as"].contains(&name) {
            let problem =
                "is no limit here: CUDA and mapped models reserve far more addresses than they use; memory_max bounds what is used";
            return Err(InvalidLimit { key: name.into(), problem: problem.into() });
        }
        Self::ALL.into_iter().find(|k| k.name() == name).ok_or_else(|| InvalidLimit {
            key: name.chars().take(64).collect(),
            problem: format!("is no limit; there are {}", Self::ALL.map(Self::name).join(", ")),
        })
    }

    /// Whether it counts bytes, which a policy writes with a unit.
    pub fn is_bytes(self) -> bool {
        matches!(self.kind(), Kind::Bytes)
    }

    /// Whether a policy writes it with a unit.
    pub fn has_unit(self) -> bool {
        matches!(self.kind(), Kind::Bytes | Kind::Micros)
    }

    /// Whether it bounds several things by name, which only the host knows.
    pub fn is_named(self) -> bool {
        matches!(self.kind(), Kind::Blocks | Kind::Pages | Kind::Regions)
    }

    /// Whether `value` asks for nothing that a host without this limit lacks: no bound, or none of what it would give.
    pub fn asks_nothing(self, value: &LimitValue) -> bool {
        value.is_max() || (matches!(self, Self::MemoryLow | Self::CpuBurst) && *value == LimitValue::Count(0))
    }

    /// What the kernel has where nothing is set and more would be a gain: a request can't ask for more of its own accord.
    pub(crate) fn unset(self) -> LimitValue {
        match self {
            Self::CpuWeight | Self::IoWeight => LimitValue::Count(100),
            Self::CpuBurst | Self::MemoryLow => LimitValue::Count(0),
            _ => LimitValue::max(),
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::MemoryMax | Self::MemoryHigh | Self::MemoryLow | Self::SwapMax => Kind::Bytes,
            Self::CoreSize | Self::FileSize | Self::StackSize | Self::LockedMemory | Self::MessageQueues => Kind::Bytes,
            Self::CpuWeight | Self::PidsMax | Self::OpenFiles | Self::PendingSignals | Self::UserTasks => Kind::Count,
            Self::IoWeight | Self::CgroupDescendants | Self::CgroupDepth => Kind::Count,
            Self::CpuTime => Kind::Seconds,
            Self::CpuBurst => Kind::Micros,
            Self::IoMax => Kind::Blocks,
            Self::Hugetlb => Kind::Pages,
            Self::Dmem => Kind::Regions,
            Self::OomGroup => Kind::Switch,
            Self::Cpus => Kind::Cpus,
            Self::Cpuset | Self::Mems => Kind::List,
        }
    }
}

#[cfg(test)]
mod tests;
