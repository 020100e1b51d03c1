//! Limits by name, and their values in the kernel's units.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Enforce;
use crate::units::{NumberList, parse_duration_ms, parse_size};

/// A limit's name, as in policies, requests and status objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKey {
    /// Hard memory limit, bytes (`memory.max`).
    MemoryMax,
    /// Throttling threshold, bytes (`memory.high`, v2 only).
    MemoryHigh,
    /// Memory protected from reclaim, bytes (`memory.low`, v2 only).
    MemoryLow,
    /// Swap on top of memory, bytes (`memory.swap.max`; v1: memsw minus memory).
    SwapMax,
    /// Kill the whole leaf on out-of-memory, 0 or 1 (`memory.oom.group`, v2 only).
    OomGroup,
    /// CPU time, in CPUs (`cpu.max`; v1: `cpu.cfs_quota_us`).
    Cpus,
    /// Relative share of CPU time, 1 to 10000, 100 is the default (`cpu.weight`; v1: `cpu.shares`).
    CpuWeight,
    /// CPUs that may be used, in list format (`cpuset.cpus`).
    Cpuset,
    /// NUMA nodes that memory may come from, in list format (`cpuset.mems`).
    Mems,
    /// Tasks (`pids.max`).
    PidsMax,
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

/// A limit's value. In JSON: `"max"`, an integer, a number, or a list such as `"0-3,8"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LimitValue {
    /// Bytes or a count.
    Count(u64),
    /// A decimal, for `cpus` only.
    Decimal(f64),
    /// `"max"` (no limit), or a list of CPUs or nodes.
    Text(String),
}

/// A limit's value that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}{}{problem}", if problem.starts_with(char::is_alphabetic) { " " } else { ": " })]
pub struct InvalidLimit {
    /// The limit's name as given.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

enum Kind {
    Bytes,
    Count,
    Seconds,
    Switch,
    Cpus,
    List,
}

impl LimitKey {
    /// Every limit.
    pub const ALL: [Self; 19] = [
        Self::MemoryMax,
        Self::MemoryHigh,
        Self::MemoryLow,
        Self::SwapMax,
        Self::OomGroup,
        Self::Cpus,
        Self::CpuWeight,
        Self::Cpuset,
        Self::Mems,
        Self::PidsMax,
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
            Self::CpuWeight => "cpu_weight",
            Self::Cpuset => "cpuset",
            Self::Mems => "mems",
            Self::PidsMax => "pids_max",
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

    fn kind(self) -> Kind {
        match self {
            Self::MemoryMax | Self::MemoryHigh | Self::MemoryLow | Self::SwapMax => Kind::Bytes,
            Self::CoreSize | Self::FileSize | Self::StackSize | Self::LockedMemory | Self::MessageQueues => Kind::Bytes,
            Self::CpuWeight | Self::PidsMax | Self::OpenFiles | Self::PendingSignals | Self::UserTasks => Kind::Count,
            Self::CpuTime => Kind::Seconds,
            Self::OomGroup => Kind::Switch,
            Self::Cpus => Kind::Cpus,
            Self::Cpuset | Self::Mems => Kind::List,
        }
    }

    /// A value from JSON: integers are bytes or counts, texts carry a unit, `"max"` is no limit. Negative values are refused, and 0
    /// where it would leave nothing to run with.
    pub fn parse_value(self, value: &Value) -> Result<LimitValue, InvalidLimit> {
        match value {
            Value::String(text) => self.parse_value_text(text),
            Value::Number(number) => self.parse_number(number.as_u64(), number.as_f64()),
            Value::Bool(on) if matches!(self, Self::OomGroup) => Ok(LimitValue::Count(u64::from(*on))),
            _ => Err(self.invalid("takes a number or a text with a unit")),
        }
    }

    /// A limit from the command line: `memory_max=64MiB`, `cpus=1.5`, `pids_max=64`.
    pub fn parse_assignment(text: &str) -> Result<(Self, LimitValue), InvalidLimit> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| InvalidLimit { key: text.chars().take(64).collect(), problem: "is not of the form KEY=VALUE".into() })?;
        let key = Self::from_name(name.trim())?;
        Ok((key, key.parse_value_text(value)?))
    }

    fn parse_value_text(self, text: &str) -> Result<LimitValue, InvalidLimit> {
        let text = text.trim();
        if text == "max" && !matches!(self.kind(), Kind::Switch | Kind::List) && self != Self::CpuWeight {
            return Ok(LimitValue::max());
        }
        if let Kind::List = self.kind() {
            let list = text.parse::<NumberList>().map_err(|e| self.invalid(e.to_string()))?;
            return Ok(LimitValue::Text(list.to_string()));
        }
        if let Ok(number) = text.parse::<u64>() {
            return self.parse_number(Some(number), Some(number as f64));
        }
        match self.kind() {
            Kind::Bytes => {
                let bytes = parse_size(text).map_err(|e| self.invalid(e.to_string()))?;
                self.parse_number(Some(bytes), None)
            }
            Kind::Seconds => {
                let ms = parse_duration_ms(text).map_err(|e| self.invalid(e.to_string()))?;
                self.parse_number(Some(ms.div_ceil(1000)), None)
            }
            Kind::Cpus => {
                let number = text.parse::<f64>().map_err(|_| self.invalid("is a number of CPUs, such as 1.5"))?;
                self.parse_number(None, Some(number))
            }
            _ => Err(self.invalid("is a whole number")),
        }
    }

    fn parse_number(self, whole: Option<u64>, decimal: Option<f64>) -> Result<LimitValue, InvalidLimit> {
        match self.kind() {
            Kind::Cpus => match decimal {
                // 0.01 CPU is the kernel's smallest quota: 1 ms in a period of 100 ms.
                Some(n) if (0.01..=8192.0).contains(&n) => Ok(LimitValue::Decimal(n)),
                _ => Err(self.invalid("is a number of CPUs between 0.01 and 8192")),
            },
            Kind::List => Err(self.invalid("is a list such as \"0-3,8\"")),
            Kind::Switch => whole.filter(|n| *n <= 1).map(LimitValue::Count).ok_or_else(|| self.invalid("is 0 or 1")),
            Kind::Bytes | Kind::Count | Kind::Seconds => {
                let whole =
                    whole.filter(|n| *n <= i64::MAX as u64).ok_or_else(|| self.invalid("is a whole number that is not negative"))?;
                self.check_range(whole).map(LimitValue::Count)
            }
        }
    }

    fn check_range(self, value: u64) -> Result<u64, InvalidLimit> {
        match (self, value) {
            (Self::CpuWeight, 1..=10_000) => Ok(value),
            (Self::CpuWeight, _) => Err(self.invalid("is between 1 and 10000")),
            (Self::SwapMax | Self::CoreSize | Self::LockedMemory | Self::MessageQueues | Self::PendingSignals, _) => Ok(value),
            (_, 0) => Err(self.invalid("must not be 0")),
            _ => Ok(value),
        }
    }

    fn invalid(self, problem: impl Into<String>) -> InvalidLimit {
        InvalidLimit { key: self.name().into(), problem: problem.into() }
    }
}

impl LimitValue {
    /// "No limit".
    pub fn max() -> Self {
        Self::Text("max".into())
    }

    /// Whether this says "no limit".
    pub fn is_max(&self) -> bool {
        matches!(self, Self::Text(t) if t == "max")
    }

    /// The value as a count, where it is one.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Count(n) => Some(*n),
            _ => None,
        }
    }

    /// Whether `self` allows no more than `other`.
    pub fn within(&self, other: &Self) -> bool {
        let number = |v: &Self| match v {
            Self::Count(n) => Some(*n as f64),
            Self::Decimal(n) => Some(*n),
            Self::Text(_) => None,
        };
        match (self, other) {
            (_, max) if max.is_max() => true,
            (max, _) if max.is_max() => false,
            (Self::Text(a), Self::Text(b)) => match (a.parse::<NumberList>(), b.parse::<NumberList>()) {
                (Ok(a), Ok(b)) => a.without(&b).is_empty(),
                _ => false,
            },
            (Self::Count(a), Self::Count(b)) => a <= b,
            (a, b) => number(a).zip(number(b)).is_some_and(|(a, b)| a <= b),
        }
    }
}

/// A limit as planned: what it is, and what happens where the host can't enforce it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedLimit {
    /// The value in the kernel's units.
    pub value: LimitValue,
    /// Refuse, or report in `not_in_force`.
    pub enforce: Enforce,
}

/// All limits of a sandbox; an absent key means that nothing is set.
pub type Limits = BTreeMap<LimitKey, PlannedLimit>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_in_the_kernels_units_or_refused() {
        use LimitKey::*;
        let ok = [
            (MemoryMax, json!("64MiB"), LimitValue::Count(64 << 20)),
            (MemoryMax, json!(4096), LimitValue::Count(4096)),
            (MemoryMax, json!("max"), LimitValue::max()),
            (SwapMax, json!(0), LimitValue::Count(0)),
            (Cpus, json!(1.5), LimitValue::Decimal(1.5)),
            (Cpuset, json!("0,1,2"), LimitValue::Text("0-2".into())),
            (CoreSize, json!(0), LimitValue::Count(0)),
            (CpuTime, json!("1min"), LimitValue::Count(60)),
        ];
        for (key, given, want) in ok {
            assert_eq!(key.parse_value(&given), Ok(want), "{given}");
        }
        let bad = [
            (MemoryMax, json!(-1)),
            (MemoryMax, json!(0)),
            (PidsMax, json!(0)),
            (PidsMax, json!(1.5)),
            (PidsMax, json!("64MiB")),
            (Cpus, json!(0)),
            (Cpus, json!(-2)),
            (Cpuset, json!(3)),
            (Cpuset, json!("x")),
            (MemoryMax, json!(null)),
            (MemoryMax, json!([1])),
            (CpuWeight, json!(20000)),
            (CpuTime, json!("1 parsec")),
            (StackSize, json!(0)),
        ];
        for (key, given) in bad {
            assert!(key.parse_value(&given).is_err(), "{} {given} was accepted", key.name());
        }
        assert_eq!(LimitKey::parse_assignment("cpus=1.5"), Ok((Cpus, LimitValue::Decimal(1.5))));
        assert!(LimitKey::parse_assignment("address_space=1GiB").is_err_and(|e| e.to_string().contains("memory_max bounds what is used")));
        assert!(LimitKey::parse_assignment("memory_maks=1").is_err_and(|e| e.to_string().contains("memory_max")));
    }

    #[test]
    fn less_is_within_more() {
        assert!(LimitValue::Count(1).within(&LimitValue::max()) && !LimitValue::max().within(&LimitValue::Count(1)));
        assert!(LimitValue::Text("1".into()).within(&LimitValue::Text("0-3".into())));
        assert!(!LimitValue::Text("4".into()).within(&LimitValue::Text("0-3".into())));
    }
}
