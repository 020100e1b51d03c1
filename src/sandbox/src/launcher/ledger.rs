//! What policy cannot say: which workers there are, and which device nodes are taken.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rbee_hive_policy::{DeviceKind, DeviceNode, LimitKey, Limits, OnHiveExit, SandboxPlan, WorkerId};

use crate::protocol::{LaunchError, LaunchErrorKind};

/// The number of an exclusively leased device.
pub(super) type DeviceNumber = (DeviceKind, u32, u32);

/// A worker whose init lives, or whose cgroups are still being removed.
pub(super) struct Entry {
    /// The init.
    pub(super) pidfd: OwnedFd,
    /// Devices that nobody else gets meanwhile.
    pub(super) exclusive: Vec<DeviceNumber>,
    /// Whether it ends with the hive, so that its leaves can still be removed.
    pub(super) on_hive_exit: OnHiveExit,
    /// The port that nobody else gets meanwhile.
    pub(super) port: Option<u16>,
    /// Its `memory_max`, bytes; counted against the configured total.
    pub(super) memory: u64,
    /// What it was made from, with the limits as they are now.
    pub(super) plan: Box<SandboxPlan>,
    /// Its leaf, relative to each hierarchy's mount.
    pub(super) cgroup: Option<String>,
    /// The kernel's number of the device program on its v2 leaf.
    pub(super) device_program: Option<u32>,
    /// Keeps the uid locked until the last trace of the worker is gone.
    pub(super) _uid: Option<OwnedFd>,
    /// Set once the init is reaped.
    pub(super) ended: Option<Ended>,
}

/// An init that is reaped.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) since: Instant,
}

/// All workers.
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<WorkerId, Entry>,
    max_workers: usize,
    memory_total: Option<u64>,
}

impl Ledger {
    pub(super) fn new(max_workers: usize, memory_total: Option<u64>) -> Self {
        Self { entries: BTreeMap::new(), max_workers, memory_total }
    }

    /// What the worker counts for, if it fits into the configured total. Without a total limits may be overcommitted.
    /// `id` itself is not counted: its memory is what is asked about.
    pub(super) fn admit_memory(&self, id: &WorkerId, limits: &Limits) -> Result<u64, LaunchError> {
        let asked = limits.get(&LimitKey::MemoryMax).and_then(|l| l.value.count());
        let Some(total) = self.memory_total else { return Ok(asked.unwrap_or(0)) };
        let used: u64 = self.entries.iter().filter(|(other, _)| *other != id).map(|(_, e)| e.memory).sum();
        match asked {
            Some(asked) if used.saturating_add(asked) <= total => Ok(asked),
            Some(asked) => {
                let text =
                    format!("memory_max {asked} does not fit: {used} of the {total} bytes that the configuration allows are given away");
                Err(LaunchError::new(LaunchErrorKind::AtCapacity, text))
            }
            None => {
                let text = "the configuration sets memory_total, so every worker needs a memory_max";
                Err(LaunchError::new(LaunchErrorKind::AtCapacity, text).with_hint("set memory_max in the policy or in the request"))
            }
        }
    }

    /// Whether a worker of this name may be started now.
    pub(super) fn admit(&self, id: &WorkerId) -> Result<(), LaunchError> {
        if self.entries.contains_key(id) {
            let text = format!("worker {id} has not been taken down yet");
            return Err(LaunchError::new(LaunchErrorKind::AlreadyExists, text));
        }
        if self.entries.len() >= self.max_workers {
            let text = format!("{} workers are running, the most that the configuration allows", self.entries.len());
            return Err(LaunchError::new(LaunchErrorKind::AtCapacity, text));
        }
        Ok(())
    }

    /// Whether this port may be a worker's, and is nobody's now.
    pub(super) fn admit_port(&self, port: u16, range: &RangeInclusive<u16>) -> Result<(), LaunchError> {
        if !range.contains(&port) {
            let text = format!("port {port} is none of the workers' ports {}-{}", range.start(), range.end());
            return Err(LaunchError::new(LaunchErrorKind::PolicyViolation, text));
        }
        match self.entries.iter().find(|(_, entry)| entry.port == Some(port)) {
            Some((id, _)) => Err(LaunchError::new(LaunchErrorKind::AlreadyExists, format!("port {port} is worker {id}'s"))),
            None => Ok(()),
        }
    }

    /// Whether these devices are free; their numbers.
    pub(super) fn reserve(&self, nodes: &[DeviceNode]) -> Result<Vec<DeviceNumber>, LaunchError> {
        let wanted: Vec<DeviceNumber> = nodes.iter().map(|n| (n.kind, n.major, n.minor)).collect();
        for (id, entry) in &self.entries {
            if let Some(at) = wanted.iter().position(|n| entry.exclusive.contains(n)) {
                let text = format!("{} is held by worker {id}", nodes[at].path.display());
                return Err(LaunchError::new(LaunchErrorKind::DeviceBusy, text));
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::{Enforce, LimitValue, PlannedLimit};

    use super::*;

    fn limits(bytes: u64) -> Limits {
        Limits::from([(LimitKey::MemoryMax, PlannedLimit { value: LimitValue::Count(bytes), enforce: Enforce::Required })])
    }

    #[test]
    fn a_port_outside_of_the_range_is_no_workers() {
        let ledger = Ledger::new(9, None);
        assert!(ledger.admit_port(9100, &(9100..=9199)).is_ok());
        for port in [0, 22, 9099, 9200, u16::MAX] {
            assert_eq!(ledger.admit_port(port, &(9100..=9199)).err().map(|e| e.kind), Some(LaunchErrorKind::PolicyViolation), "{port}");
        }
    }

    #[test]
    fn memory_is_refused_only_where_a_total_is_set() {
        let free = Ledger::new(9, None);
        let id = WorkerId::parse("w").unwrap();
        assert_eq!(free.admit_memory(&id, &limits(u64::MAX)).ok(), Some(u64::MAX));
        assert_eq!(free.admit_memory(&id, &Limits::new()).ok(), Some(0));
        let bounded = Ledger::new(9, Some(100));
        assert_eq!(bounded.admit_memory(&id, &limits(100)).ok(), Some(100));
        for refused in [limits(101), Limits::new()] {
            assert_eq!(bounded.admit_memory(&id, &refused).err().map(|e| e.kind), Some(LaunchErrorKind::AtCapacity));
        }
    }
}
