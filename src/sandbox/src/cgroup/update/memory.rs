//! Memory and swap. On v1 the bound of both together is never below the one of memory alone, which decides the order; on either a bound
//! below the present use is refused, or the kernel reclaims first.
//!
//! v2 would kill where `memory.max` is written below what can't be reclaimed (memory_max_write in mm/memcontrol.c): `memory.high`, which
//! kills nobody, brings the use down before, and holds it there during the write.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rbee_hive_policy::{LimitKey, Limits};
use rustix::event::{Timespec, poll};

use super::super::counters;
use super::super::detect::Version;
use super::super::error::CgroupError;
use super::super::interface::{read, write, write_once};
use super::super::limits::{self, page};
use super::super::values;
use super::{BelowUse, Cause, Failed, Run};

/// What one write asks the kernel to reclaim, bytes: small enough that none of them lasts.
const STEP: u64 = 64 << 20;
/// Writes in a row that may gain nothing: what is being read or written back at the moment is to be had a moment later.
const IN_VAIN: usize = 12;
/// Pause after one that did.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 25_000_000 };

/// Bounds of v1; `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    /// Of memory.
    memory: Option<u64>,
    /// Of memory and swap together.
    both: Option<u64>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Memory,
    Both,
}

impl Pair {
    fn of(limits: &Limits) -> Self {
        let count = |key: LimitKey| limits.get(&key).and_then(|l| l.value.count());
        let memory = count(LimitKey::MemoryMax);
        Self { memory, both: memory.zip(count(LimitKey::SwapMax)).map(|(memory, swap)| memory.saturating_add(swap)) }
    }
}

/// What is to be written, in an order in which both together never bound less than memory alone.
fn order(old: Pair, new: Pair) -> Vec<Step> {
    let raises = match (old.both, new.both) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(old), Some(new)) => new >= old,
    };
    let steps = if raises { [Step::Both, Step::Memory] } else { [Step::Memory, Step::Both] };
    let differs = |step: &Step| match step {
        Step::Memory => old.memory != new.memory,
        Step::Both => old.both != new.both,
    };
    steps.into_iter().filter(differs).collect()
}

/// The order on v2, where swap has a bound of its own: what is to go there must fit when memory is lowered, so more room comes first and less
/// of it last.
fn order_v2(old: Option<u64>, new: Option<u64>) -> [LimitKey; 3] {
    let raises = match (old, new) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(old), Some(new)) => new >= old,
    };
    match raises {
        true => [LimitKey::SwapMax, LimitKey::MemoryMax, LimitKey::MemoryHigh],
        false => [LimitKey::MemoryMax, LimitKey::MemoryHigh, LimitKey::SwapMax],
    }
}

/// The file of a bound on v2, and the one that tells what is used of it.
fn files_v2(key: LimitKey) -> (&'static str, &'static str) {
    match key {
        LimitKey::SwapMax => ("memory.swap.max", "memory.swap.current"),
        LimitKey::MemoryHigh => ("memory.high", "memory.current"),
        _ => ("memory.max", "memory.current"),
    }
}

/// A bound with the file that tells what is used of it.
struct Bound {
    key: LimitKey,
    file: PathBuf,
    usage: PathBuf,
    target: Option<u64>,
}

impl Run<'_> {
    pub(super) fn memory(&mut self) -> Result<(), Failed> {
        match self.home(LimitKey::MemoryMax) {
            Some((Version::V1, dir)) => self.memory_v1(&dir),
            Some((Version::V2, dir)) => self.memory_v2(&dir),
            None => Ok(()),
        }
    }

    fn memory_v1(&mut self, dir: &Path) -> Result<(), Failed> {
        let (old, new) = (Pair::of(self.change.old), Pair::of(self.change.new));
        // Whoever reads the error has asked for one of them.
        let asked = if self.differs(LimitKey::MemoryMax).is_some() { LimitKey::MemoryMax } else { LimitKey::SwapMax };
        for step in order(old, new) {
            let (kind, target) = match step {
                Step::Memory => ("memory", new.memory),
                Step::Both => ("memory.memsw", new.both),
            };
            let bound = Bound {
                key: asked,
                file: dir.join(format!("{kind}.limit_in_bytes")),
                usage: dir.join(format!("{kind}.usage_in_bytes")),
                target,
            };
            // A kernel that does not count swap has no file for it.
            if bound.file.exists() {
                let squeezed = bound.file.clone();
                self.lower(&bound, &squeezed).and_then(|()| self.set_v1(&bound)).map_err(|cause| (bound.key, cause))?;
            }
        }
        Ok(())
    }

    fn set_v1(&mut self, bound: &Bound) -> Result<(), Cause> {
        self.journal.keep(&bound.file)?;
        let text = bound.target.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1).to_string();
        match write_once(&bound.file, &text) {
            // It has grown since it was looked at, or keeps growing while the kernel reclaims.
            Err(e) if matches!(e.errno(), Some(libc::EBUSY | libc::EINTR)) => {
                Err(Cause::BelowUse { of: None, used: used(bound)?, reclaimed: None })
            }
            Err(e) => Err(e.into()),
            Ok(()) => {
                let got = read(&bound.file)?;
                if values::same_bytes(bound.target, &got, page()) {
                    return Ok(());
                }
                Err(CgroupError::ReadBack { path: bound.file.clone(), wanted: text, got }.into())
            }
        }
    }

    fn memory_v2(&mut self, dir: &Path) -> Result<(), Failed> {
        let high = dir.join("memory.high");
        let swap = |limits: &Limits| limits.get(&LimitKey::SwapMax).and_then(|l| l.value.count());
        for key in order_v2(swap(self.change.old), swap(self.change.new)) {
            let Some(value) = self.differs(key).cloned() else { continue };
            let (file, usage) = files_v2(key);
            let bound = Bound { key, file: dir.join(file), usage: dir.join(usage), target: value.count() };
            if !bound.file.exists() {
                continue;
            }
            let failed = |cause: Cause| (key, cause);
            self.lower(&bound, &high).map_err(failed)?;
            self.journal.keep(&bound.file).map_err(|e| failed(e.into()))?;
            if key == LimitKey::MemoryMax {
                self.hold(&bound, &high).map_err(failed)?;
            }
            limits::write_one(self.tree, &self.leaf, (key, &value), self.change.new).map_err(|e| failed(e.into()))?;
            // What has held the use down is no limit of the worker's.
            if key == LimitKey::MemoryMax
                && let Some(text) = self.journal.first(&high)
            {
                write(&high, text).map_err(|e| failed(e.into()))?;
            }
        }
        Ok(())
    }

    /// Keeps the use from growing above a lower maximum before that is written, which would kill for it.
    fn hold(&mut self, bound: &Bound, high: &Path) -> Result<(), Cause> {
        let (Some(target), true) = (bound.target, high.exists()) else { return Ok(()) };
        let count = |text: &str| text.trim().parse::<u64>().unwrap_or(u64::MAX);
        if target >= count(self.journal.first(&bound.file).unwrap_or_default()) {
            return Ok(());
        }
        if target < count(&read(high)?) {
            self.journal.keep(high)?;
            write_once(high, &target.to_string())?;
        }
        match used(bound)? {
            grown if grown > target => Err(Cause::BelowUse { of: None, used: grown, reclaimed: None }),
            _ => Ok(()),
        }
    }

    /// Makes room for a bound that is below the present use, by writing lower and lower values to `squeezed`.
    fn lower(&mut self, bound: &Bound, squeezed: &Path) -> Result<(), Cause> {
        let Some(target) = bound.target else { return Ok(()) };
        let first = used(bound)?;
        if first <= target {
            return Ok(());
        }
        // What lies in swap is not given back by the kernel.
        let swap_alone = bound.usage.ends_with("memory.swap.current");
        if self.change.below_use == BelowUse::Refuse || swap_alone {
            return Err(Cause::BelowUse { of: None, used: first, reclaimed: None });
        }
        self.journal.keep(squeezed)?;
        let (mut now, mut in_vain) = (first, 0);
        while now > target {
            if in_vain == IN_VAIN || Instant::now() >= self.deadline {
                return Err(Cause::BelowUse { of: None, used: now, reclaimed: Some(first.saturating_sub(now)) });
            }
            let next = now.saturating_sub(STEP).max(target);
            match write_once(squeezed, &next.to_string()) {
                // v1 has tried, and not got so far (mem_cgroup_resize_max), or was told to stop trying.
                Err(e) if matches!(e.errno(), Some(libc::EBUSY | libc::EINTR)) => {}
                other => other?,
            }
            let after = used(bound)?;
            if after < now {
                in_vain = 0;
            } else {
                in_vain += 1;
                // No file tells when there is more to be had.
                let _ = poll(&mut [], Some(&MOMENT));
            }
            now = after;
        }
        Ok(())
    }
}

fn used(bound: &Bound) -> Result<u64, CgroupError> {
    let text = read(&bound.usage)?;
    counters::count(&text).ok_or(CgroupError::ReadBack { path: bound.usage.clone(), wanted: "a number".into(), got: text })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = u64::MAX;

    /// The kernel's rule, step by step (mem_cgroup_resize_max).
    fn holds(old: Pair, new: Pair) -> bool {
        let (mut memory, mut both) = (old.memory.unwrap_or(MAX), old.both.unwrap_or(MAX));
        for step in order(old, new) {
            match step {
                Step::Memory => memory = new.memory.unwrap_or(MAX),
                Step::Both => both = new.both.unwrap_or(MAX),
            }
            if memory > both {
                return false;
            }
        }
        (memory, both) == (new.memory.unwrap_or(MAX), new.both.unwrap_or(MAX))
    }

    #[test]
    fn raising_begins_with_both_and_lowering_with_memory() {
        let pair = |memory, swap| Pair { memory: Some(memory), both: Some(memory + swap) };
        assert_eq!(order(pair(64, 0), pair(128, 0)), [Step::Both, Step::Memory]);
        assert_eq!(order(pair(128, 0), pair(64, 0)), [Step::Memory, Step::Both]);
        assert_eq!(order(pair(64, 64), pair(128, 0)), [Step::Memory], "the sum is the same");
        assert_eq!(order(pair(64, 0), pair(64, 10)), [Step::Both]);
        assert_eq!(order(pair(64, 0), Pair::default()), [Step::Both, Step::Memory]);
        assert_eq!(order(Pair::default(), pair(64, 0)), [Step::Memory, Step::Both]);
    }

    #[test]
    fn on_v2_more_swap_comes_first_and_less_of_it_last() {
        let at = |old, new| order_v2(old, new).iter().position(|key| *key == LimitKey::SwapMax);
        for (old, new) in [(Some(0), Some(64)), (Some(64), None), (Some(64), Some(64))] {
            assert_eq!(at(old, new), Some(0), "{old:?} {new:?}");
        }
        for (old, new) in [(Some(64), Some(0)), (None, Some(64))] {
            assert_eq!(at(old, new), Some(2), "{old:?} {new:?}");
        }
    }

    fn pairs() -> impl Strategy<Value = Pair> {
        (proptest::option::of(0u64..100), proptest::option::of(0u64..100))
            .prop_map(|(memory, swap)| Pair { memory, both: memory.zip(swap).map(|(memory, swap)| memory + swap) })
    }

    proptest! {
        #[test]
        fn from_any_limits_to_any_others_every_write_is_one_that_the_kernel_takes(old in pairs(), new in pairs()) {
            prop_assert!(holds(old, new), "{old:?} {new:?} {:?}", order(old, new));
            prop_assert!(holds(new, old), "and back");
        }

        #[test]
        fn on_v2_memory_is_lowered_while_there_is_as_much_swap_as_ever(old in proptest::option::of(0u64..100), new in proptest::option::of(0u64..100)) {
            let order = order_v2(old, new);
            let at = |key| order.iter().position(|k| *k == key);
            let there = if at(LimitKey::SwapMax) < at(LimitKey::MemoryMax) { new } else { old };
            prop_assert_eq!(there.unwrap_or(MAX), old.unwrap_or(MAX).max(new.unwrap_or(MAX)));
        }
    }
}
