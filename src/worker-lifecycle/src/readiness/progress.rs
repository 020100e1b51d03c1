//! Signs that a worker which does not answer yet is getting somewhere: it writes to its log, uses CPU, reads, grows.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::cgroup::read_resources;
use rbee_hive_sandbox::protocol::CgroupFacts;

use super::Signs;
use crate::logs;

/// CPU time a second that counts as work rather than as waiting, microseconds.
const WORK_USEC: u64 = 20_000;

/// What was seen at the last look.
pub(crate) struct Progress {
    cgroup: Arc<CgroupFacts>,
    leaf: Option<String>,
    logs: Arc<OwnedFd>,
    id: WorkerId,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    log: u64,
    cpu: u64,
    memory_peak: u64,
    read: u64,
}

impl Progress {
    pub(crate) fn new(cgroup: Arc<CgroupFacts>, leaf: Option<String>, (logs, id): (Arc<OwnedFd>, WorkerId)) -> Self {
        Self { cgroup, leaf, logs, id, seen: Seen::default() }
    }
}

impl Signs for Progress {
    fn moved(&mut self) -> bool {
        let resources = self.leaf.as_deref().map(|leaf| read_resources(&self.cgroup, leaf)).unwrap_or_default();
        let now = Seen {
            log: logs::size(&self.logs, &self.id),
            cpu: resources.cpu_usage_usec.unwrap_or(0),
            memory_peak: resources.memory_peak.or(resources.memory_current).unwrap_or(0),
            read: resources.io_read_bytes.unwrap_or(0),
        };
        let before = std::mem::replace(&mut self.seen, now);
        now.log != before.log || now.cpu > before.cpu + WORK_USEC || now.memory_peak > before.memory_peak || now.read > before.read
    }
}
