//! Other limits for a leaf in which a worker runs: all of them, or none.
//!
//! ```text
//!  old and new limits ──► memory and swap, in the order that v1 wants ──► CPU ──► the rest
//!                             │ below the present use: refused, or reclaimed first
//!                             └ each file's text is kept before it is written: what fails puts everything back
//! ```
//! Must never know: policies, who asked.

#[cfg(test)]
mod hold_tests;
mod journal;
mod memory;
#[cfg(test)]
mod undo_tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rbee_hive_policy::{LimitKey, LimitValue, Limits, NotInForce, WorkerId};
use serde::{Deserialize, Serialize};

use super::detect::Version;
use super::error::CgroupError;
use super::files::{CGROUP_LIMITS, files, holder, home};
use super::tree::Tree;
use super::{counters, interface, limits, named, protection, values};
use journal::Journal;

/// How long reclaim may take, all of an update's together: the launcher does nothing else meanwhile.
const RECLAIM: Duration = Duration::from_secs(3);
/// When a write that still goes on is given up, seconds.
const ALARM: u32 = 4;

/// What becomes of a limit that is below the present use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BelowUse {
    /// It is refused.
    #[default]
    Refuse,
    /// The kernel is asked to reclaim what is too much; where that does not suffice it is refused.
    Reclaim,
}

/// From which limits to which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) old: &'a Limits,
    pub(crate) new: &'a Limits,
    pub(crate) below_use: BelowUse,
}

/// Limits that were changed; they can still be put back.
#[derive(Debug)]
pub(crate) struct Changed {
    journal: Journal,
    /// Limits of the leaf that can't be in force with the others as they are.
    pub(crate) notes: Vec<NotInForce>,
}

impl Changed {
    /// Undoes everything, the last write first. A line for each file that does not take its old text.
    pub(crate) fn put_back(self) -> Vec<String> {
        self.journal.put_back()
    }
}

/// Why a change failed. Nothing of it is left, but for what could not be put back.
#[derive(Debug)]
pub(crate) struct ChangeError {
    /// The limit.
    pub(crate) key: LimitKey,
    /// Why.
    pub(crate) cause: Cause,
    /// Files that did not take their old text.
    pub(crate) left: Vec<String>,
}

/// Why one limit could not be changed.
#[derive(Debug)]
pub(crate) enum Cause {
    /// More is in use than it would allow.
    BelowUse {
        /// What is used, where it is one of several.
        of: Option<String>,
        /// In use, after reclaim.
        used: u64,
        /// What reclaim gave back; `None` where none was tried.
        reclaimed: Option<u64>,
    },
    /// It can't be enforced here.
    NotEnforceable(String),
    /// A file could not be written.
    Write(CgroupError),
}

impl From<CgroupError> for Cause {
    fn from(error: CgroupError) -> Self {
        Self::Write(error)
    }
}

/// A change under way.
struct Run<'a> {
    tree: &'a Tree,
    leaf: String,
    change: Change<'a>,
    journal: Journal,
    deadline: Instant,
}

impl Tree {
    /// Writes what differs between the limits of `change` to the worker's leaf.
    ///
    /// Errors: the limit that failed; everything that was written before it is put back then. Takes a few seconds at most.
    pub(crate) fn change_limits(&self, id: &WorkerId, change: Change<'_>) -> Result<Changed, ChangeError> {
        let leaf = format!("{}/worker", self.group(id));
        let mut run = Run { tree: self, leaf, change, journal: Journal::default(), deadline: Instant::now() + RECLAIM };
        // On v1 one write goes on for as long as each pass reclaims a page, and a worker can see to it that it does (mem_cgroup_resize_max): only
        // a signal ends it, and the deadline is looked at between writes alone.
        if let Err(source) = rbee_hive_sys::signals::interrupt_by_alarm() {
            let source = CgroupError::Write { path: "SIGALRM".into(), value: "interrupt".into(), source };
            return Err(ChangeError { key: LimitKey::MemoryMax, cause: source.into(), left: vec![] });
        }
        nix::unistd::alarm::set(ALARM);
        let done = run.all();
        nix::unistd::alarm::cancel();
        match done {
            Ok(notes) => Ok(Changed { journal: run.journal, notes }),
            Err((key, cause)) => Err(ChangeError { key, cause, left: run.journal.put_back() }),
        }
    }

    /// Pids of a worker's leaf and of what is below it.
    pub(crate) fn worker_pids(&self, id: &WorkerId) -> Result<Vec<i32>, CgroupError> {
        let leaf = super::leaf::WorkerLeaf::open(&self.layout.hierarchies, &format!("{}/worker", self.group(id)))?;
        Ok(leaf.pids())
    }
}

type Failed = (LimitKey, Cause);

impl<'a> Run<'a> {
    fn all(&mut self) -> Result<Vec<NotInForce>, Failed> {
        let notes = self.alone()?;
        self.memory()?;
        self.cpu()?;
        for key in CGROUP_LIMITS.into_iter().filter(|key| !written_elsewhere(*key)) {
            if let Some(value) = self.differs(key) {
                self.one(key, value).map_err(|cause| (key, cause))?;
            }
        }
        Ok(notes)
    }

    /// The new value of a limit that is another than before. One that is planned and not among the new ones keeps its file.
    fn differs(&self, key: LimitKey) -> Option<&'a LimitValue> {
        let value = &self.change.new.get(&key)?.value;
        (self.change.old.get(&key).map(|l| &l.value) != Some(value)).then_some(value)
    }

    /// Swap without memory, on v1: a wish is given up, what is required is refused.
    fn alone(&self) -> Result<Vec<NotInForce>, Failed> {
        let key = LimitKey::SwapMax;
        let Some(why) = limits::alone(self.tree, key, self.change.new) else { return Ok(vec![]) };
        match self.change.new.get(&key).map(|l| l.enforce) {
            Some(rbee_hive_policy::Enforce::Required) => Err((key, Cause::NotEnforceable(why))),
            _ => Ok(vec![NotInForce { setting: key.name().to_owned(), why }]),
        }
    }

    fn home(&self, key: LimitKey) -> Option<(Version, PathBuf)> {
        home(self.tree, &files(key)?, holder(key, &self.leaf))
    }

    /// No burst is ever larger than its quota: it goes first and comes back last.
    fn cpu(&mut self) -> Result<(), Failed> {
        let keys = [LimitKey::Cpus, LimitKey::CpuBurst];
        let Some(first) = keys.into_iter().find(|key| self.differs(*key).is_some()) else { return Ok(()) };
        let Some((version, dir)) = self.home(first) else { return Ok(()) };
        let files: &[&str] = match version {
            Version::V1 => &["cpu.cfs_period_us", "cpu.cfs_quota_us"],
            Version::V2 => &["cpu.max"],
        };
        let burst = dir.join(if version == Version::V1 { "cpu.cfs_burst_us" } else { "cpu.max.burst" });
        let failed = |cause: CgroupError| (first, cause.into());
        let bursts = burst.exists();
        if bursts {
            self.journal.keep(&burst).map_err(failed)?;
            interface::write(&burst, "0").map_err(failed)?;
        }
        for file in files {
            self.journal.keep(&dir.join(file)).map_err(failed)?;
        }
        if bursts {
            // Put back, it goes first, too.
            self.journal.add(&burst, "0");
        }
        let (tree, leaf, new) = (self.tree, self.leaf.clone(), self.change.new);
        let write = |key| match new.get(&key) {
            Some(limit) => limits::write_one(tree, &leaf, (key, &limit.value), new).map_err(|e| (key, e.into())),
            None => Ok(()),
        };
        write(LimitKey::Cpus)?;
        if bursts { write(LimitKey::CpuBurst) } else { Ok(()) }
    }

    fn one(&mut self, key: LimitKey, value: &LimitValue) -> Result<(), Cause> {
        let (Some(files), Some((version, dir))) = (files(key), self.home(key)) else { return Ok(()) };
        if let Some(beyond) = beyond(key, version, (&dir, value)) {
            return Err(beyond);
        }
        if let Some(why) = limits::unprotected(self.tree, &self.leaf, (key, value)) {
            return Err(Cause::NotEnforceable(why));
        }
        if key.is_named() {
            self.journal.keep_named(key, version, &dir)?;
        } else if key == LimitKey::MemoryLow {
            protection::shared(self.tree).into_iter().rev().for_each(|dir| self.journal.add_sum(dir));
            protection::files(self.tree, &self.leaf).iter().try_for_each(|file| self.journal.keep(file))?;
        } else {
            files.in_dir(version, &dir).into_iter().try_for_each(|file| self.journal.keep(&dir.join(file)))?;
        }
        Ok(limits::write_one(self.tree, &self.leaf, (key, value), self.change.new)?)
    }
}

/// Those that have an order of their own.
fn written_elsewhere(key: LimitKey) -> bool {
    matches!(key, LimitKey::MemoryMax | LimitKey::MemoryHigh | LimitKey::SwapMax | LimitKey::Cpus | LimitKey::CpuBurst)
}

/// What is used of a thing that can't be taken back from who has it.
fn beyond(key: LimitKey, version: Version, (dir, value): (&Path, &LimitValue)) -> Option<Cause> {
    let used = match key {
        LimitKey::PidsMax => read_count(&dir.join("pids.current"))?,
        LimitKey::CgroupDescendants => counters::keyed(&interface::read(&dir.join("cgroup.stat")).ok()?, "nr_descendants")?,
        _ => {
            let (of, used, _) = named::beyond(key, version, (dir, value))?;
            return Some(Cause::BelowUse { of: Some(of), used, reclaimed: None });
        }
    };
    let wanted = values::count_or_max(value)??;
    (used > wanted).then_some(Cause::BelowUse { of: None, used, reclaimed: None })
}

fn read_count(file: &Path) -> Option<u64> {
    counters::count(&interface::read(file).ok()?)
}
