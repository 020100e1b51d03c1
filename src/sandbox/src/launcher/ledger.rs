//! What policy cannot say: which workers there are, and who has which part of which device node.
//!
//! The hive keeps leases, too, and waits and chooses by them; this is what holds when the hive is no longer itself.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rbee_hive_devices::Share;
use rbee_hive_policy::{Command, DeviceKind, DeviceNode, LimitKey, Limits, OnHiveExit, SandboxPlan, WorkerId, WorkerRequest};

use super::gpu_locks::Locked;
use crate::protocol::{LaunchError, LaunchErrorKind};

/// The number of a leased device.
pub(super) type DeviceNumber = (DeviceKind, u32, u32);

/// A worker's part of one node of a GPU.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) number: DeviceNumber,
    pub(super) share: Share,
}

/// A node that is asked for.
pub(super) struct Asked<'a> {
    pub(super) node: &'a DeviceNode,
    /// Bytes of its GPU's memory, if known.
    pub(super) memory: Option<u64>,
}

/// A worker whose init lives, or whose cgroups are still being removed.
pub(super) struct Entry {
    /// The init.
    pub(super) pidfd: OwnedFd,
    /// Its parts of GPUs.
    pub(super) gpus: Vec<Claim>,
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
    /// GPUs that it serves, for an MPS daemon: it is no holder, and goes before somebody gets them alone.
    pub(super) serves: Vec<DeviceNumber>,
    /// Keep other hives and `run`s off what it is on, as holder or as daemon.
    pub(super) locks: Vec<Locked>,
    /// Keeps the uid locked until the last trace of the worker is gone.
    pub(super) uid: Option<OwnedFd>,
    /// Set once the init is reaped.
    pub(super) ended: Option<Ended>,
}

/// An init that is reaped.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) since: Instant,
}

/// What is counted among what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Worker,
    MpsDaemon,
}

impl Seat {
    pub(super) fn of(request: &WorkerRequest) -> Self {
        if matches!(request.command, Command::Mps { .. }) { Self::MpsDaemon } else { Self::Worker }
    }
}

/// All workers.
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<WorkerId, Entry>,
    /// Nodes that something of a worker which has ended is still on, because it does not die: nobody gets them any more.
    pub(super) stuck: BTreeMap<DeviceNumber, WorkerId>,
    max_workers: usize,
    memory_total: Option<u64>,
}

impl Ledger {
    pub(super) fn new(max_workers: usize, memory_total: Option<u64>) -> Self {
        Self { entries: BTreeMap::new(), stuck: BTreeMap::new(), max_workers, memory_total }
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
    pub(super) fn admit(&self, id: &WorkerId, seat: Seat) -> Result<(), LaunchError> {
        if self.entries.contains_key(id) {
            let text = format!("worker {id} has not been taken down yet");
            return Err(LaunchError::new(LaunchErrorKind::AlreadyExists, text));
        }
        // Each has as many seats: a daemon is there for workers, and there are never more daemons than those.
        let seated = self.entries.values().filter(|e| e.is_mps_daemon() == (seat == Seat::MpsDaemon)).count();
        if seated >= self.max_workers {
            let text = format!("{seated} workers are running, the most that the configuration allows");
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

    /// A worker's claims, or what an MPS daemon serves, which holds nothing.
    pub(super) fn claim(&self, nodes: &[Asked<'_>], (share, seat): (Share, Seat)) -> Result<(Vec<Claim>, Vec<DeviceNumber>), LaunchError> {
        if let Some((node, id)) = nodes.iter().find_map(|asked| Some((asked.node, self.stuck.get(&number(asked.node))?))) {
            let text = format!(
                "{} is still in use by something of worker {id}, which has ended: it was killed and does not die",
                node.path.display()
            );
            return Err(LaunchError::new(LaunchErrorKind::DeviceBusy, text)
                .with_hint("choose another GPU; this one can be had again once that process is gone and the hive has been restarted"));
        }
        match seat {
            Seat::Worker => Ok((self.reserve(nodes, share)?, vec![])),
            Seat::MpsDaemon => Ok((vec![], self.serve(nodes)?)),
        }
    }

    /// Whether there is such a share of each of these nodes; the claims. Where nobody tells how much memory a GPU has, the sum of shares has
    /// no bound here: NVIDIA's driver tells it only to NVML, which the launcher does not wait for. Modes do not mix there either.
    fn reserve(&self, nodes: &[Asked<'_>], share: Share) -> Result<Vec<Claim>, LaunchError> {
        let mut claims = Vec::new();
        for Asked { node, memory } in nodes {
            let number = number(node);
            let on = |entry: &Entry| entry.gpus.iter().filter(|c| c.number == number).map(|c| c.share).collect::<Vec<_>>();
            // A GPU that lists one device by two names has it once.
            if claims.iter().any(|c: &Claim| c.number == number) {
                continue;
            }
            let held: Vec<Share> = self.entries.values().flat_map(on).collect();
            if !share.fits(&held, memory.or(Some(u64::MAX))) {
                let holders: Vec<&str> = self.entries.iter().filter(|(_, e)| !on(e).is_empty()).map(|(id, _)| id.as_str()).collect();
                let by = if holders.is_empty() { "nobody, and is too small".to_owned() } else { format!("worker {}", holders.join(", ")) };
                let text = format!("{} is asked for {share}, and is held by {by}", node.path.display());
                return Err(LaunchError::new(LaunchErrorKind::DeviceBusy, text));
            }
            if let (Share::Exclusive, Some((id, _))) = (share, self.entries.iter().find(|(_, e)| e.serves.contains(&number))) {
                let text = format!("{} is asked for {share}, and the MPS daemon {id} is still on it", node.path.display());
                return Err(LaunchError::new(LaunchErrorKind::DeviceBusy, text));
            }
            claims.push(Claim { number, share });
        }
        Ok(claims)
    }

    /// The numbers of nodes that an MPS daemon may serve: nobody has one of them alone.
    fn serve(&self, nodes: &[Asked<'_>]) -> Result<Vec<DeviceNumber>, LaunchError> {
        let mut numbers = Vec::new();
        for Asked { node, .. } in nodes {
            let number = number(node);
            let alone = |entry: &Entry| entry.gpus.iter().any(|c| c.number == number && c.share == Share::Exclusive);
            if let Some((id, _)) = self.entries.iter().find(|(_, e)| alone(e)) {
                let text = format!("an MPS daemon is asked for on {}, which worker {id} has alone", node.path.display());
                return Err(LaunchError::new(LaunchErrorKind::DeviceBusy, text));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

fn number(node: &DeviceNode) -> DeviceNumber {
    (node.kind, node.major, node.minor)
}

#[cfg(test)]
pub(super) mod tests {
    use rbee_hive_policy::{DeviceAccess, Enforce, LimitValue, PlannedLimit};

    use super::*;

    fn node(minor: u32) -> DeviceNode {
        let access = DeviceAccess { read: true, write: true, mknod: false };
        DeviceNode { path: format!("/dev/gpu{minor}").into(), kind: DeviceKind::Char, major: 195, minor, access }
    }

    /// A ledger in which workers have these shares of node 0.
    pub(in super::super) fn shared(shares: &[Share]) -> Ledger {
        let mut ledger = Ledger::new(99, None);
        for (n, share) in shares.iter().enumerate() {
            let gpus = vec![Claim { number: (DeviceKind::Char, 195, 0), share: *share }];
            let pidfd = std::fs::File::open("/dev/null").unwrap().into();
            let plan = Box::new(crate::verify::tests::plan());
            let entry = Entry {
                pidfd,
                gpus,
                on_hive_exit: OnHiveExit::Kill,
                port: None,
                memory: 0,
                plan,
                cgroup: None,
                device_program: None,
                serves: vec![],
                locks: vec![],
                uid: None,
                ended: None,
            };
            ledger.entries.insert(WorkerId::parse(&format!("w{n}")).unwrap(), entry);
        }
        ledger
    }

    fn fits(held: &[Share], share: Share, memory: Option<u64>) -> bool {
        let nodes = [node(0), node(1)];
        let asked: Vec<Asked<'_>> = nodes.iter().map(|node| Asked { node, memory }).collect();
        let outcome = shared(held).reserve(&asked, share);
        assert_eq!(outcome.as_ref().map_or(2, Vec::len), 2, "all of it or nothing");
        assert!(outcome.as_ref().err().is_none_or(|e| e.kind == LaunchErrorKind::DeviceBusy));
        outcome.is_ok()
    }

    #[test]
    fn a_node_is_one_workers_or_is_shared_in_one_way_alone() {
        use Share::{Exclusive, Memory, Ways};
        assert!(fits(&[], Exclusive, None) && fits(&[Ways(3), Ways(3)], Ways(3), None) && fits(&[Memory(5)], Memory(5), Some(10)));
        for (held, asked) in [
            (vec![Exclusive], Exclusive),
            (vec![Exclusive], Ways(2)),
            (vec![Ways(2)], Exclusive),
            (vec![Ways(2)], Ways(3)),
            (vec![Ways(2); 2], Ways(2)),
            (vec![Memory(1)], Ways(2)),
            (vec![Memory(5)], Memory(6)),
        ] {
            assert!(!fits(&held, asked, Some(10)), "{asked} beside {held:?}");
        }
        assert!(!fits(&[], Memory(11), Some(10)), "more than there is");
        assert!(fits(&[Memory(u64::MAX - 1)], Memory(1), None) && !fits(&[Exclusive], Memory(1), None), "unknown memory, known modes");
    }

    #[test]
    fn an_mps_daemon_is_on_no_gpu_that_somebody_has_alone_and_no_one_gets_a_gpu_alone_that_it_is_on() {
        use Share::{Exclusive, Ways};
        let nodes = [node(0)];
        let asked = [Asked { node: &nodes[0], memory: None }];
        let daemon = |ledger: &Ledger| ledger.claim(&asked, (Exclusive, Seat::MpsDaemon)).map_err(|e| e.kind);
        assert_eq!(daemon(&shared(&[Exclusive])).err(), Some(LaunchErrorKind::DeviceBusy));
        let mut ledger = shared(&[Ways(2)]);
        let (claims, serves) = daemon(&ledger).unwrap();
        assert_eq!((claims.len(), serves.len()), (0, 1), "it holds nothing");
        ledger.entries.values_mut().for_each(|e| (e.gpus, e.serves) = (vec![], serves.clone()));
        assert!(ledger.reserve(&asked, Ways(2)).is_ok());
        let refused = ledger.reserve(&asked, Exclusive).unwrap_err();
        assert!(refused.kind == LaunchErrorKind::DeviceBusy && refused.message.contains("the MPS daemon w0"), "{}", refused.message);
    }

    #[test]
    fn what_something_that_does_not_die_is_on_is_nobodys_and_it_is_said_whose_that_was() {
        let mut ledger = shared(&[Share::Ways(2)]);
        ledger.stuck.insert((DeviceKind::Char, 195, 0), WorkerId::parse("gone").unwrap());
        let (stuck, other) = (node(0), node(1));
        let ask = |node, share, seat| ledger.claim(&[Asked { node, memory: None }], (share, seat)).map(drop);
        for (share, seat) in [(Share::Exclusive, Seat::Worker), (Share::Ways(2), Seat::Worker), (Share::Exclusive, Seat::MpsDaemon)] {
            let refused = ask(&stuck, share, seat).unwrap_err();
            assert!(refused.kind == LaunchErrorKind::DeviceBusy && refused.message.contains("worker gone"), "{}", refused.message);
            assert!(ask(&other, share, seat).is_ok());
        }
    }

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
