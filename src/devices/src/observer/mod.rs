//! Looking at the GPUs: what they do now, and which of them do not answer.
//!
//! Owns what must be remembered from one look to the next: faults that were told already, and helpers that a hung driver holds. Blocks for
//! as long as its deadline: never call it where anything else waits. Must never know who may be on a GPU.

mod cache;
mod drivers;
mod kernel_log;
mod kmsg;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::inventory::HOST;
use crate::simulation::Simulated;
use crate::{GpuObservation, Inventory, Observation, Xid};

pub use cache::ObserverCache;
use drivers::Drivers;
pub use kernel_log::LoggedXid;
pub use kmsg::KernelLog;

/// Faults of one GPU whose ids are remembered, and that wait to be told.
const MAX_FAULTS: usize = 1024;
/// Longest simulation that is read again, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where the facts come from.
enum Source {
    /// Helper processes.
    Drivers(Drivers),
    /// `--devices FILE`.
    File(PathBuf),
}

/// One who looks.
pub struct Observer {
    inventory: Inventory,
    source: Source,
    /// Ids of faults that were told or wait to be told, by GPU, the oldest first.
    known: BTreeMap<u32, VecDeque<String>>,
    /// Faults from the kernel's log that the next observation tells.
    waiting: BTreeMap<u32, Vec<Xid>>,
    /// Why the last look saw nothing.
    blind: Option<String>,
    /// Where the kernel's log is read before each look.
    log: Option<KernelLog>,
}

impl Observer {
    /// Looks at the GPUs of `inventory`: at a simulated one in its file, at a real one by `helper`, a command that calls
    /// [`nvml_helper_main`](crate::nvml_helper_main) with further arguments, one process for each GPU, killed at `deadline`.
    pub fn new(inventory: Inventory, helper: Vec<OsString>, deadline: Duration) -> Self {
        let source = match inventory.source.as_str() {
            HOST => Source::Drivers(Drivers::new(helper, deadline)),
            file => Source::File(file.into()),
        };
        Self { inventory, source, known: BTreeMap::new(), waiting: BTreeMap::new(), blind: None, log: None }
    }

    /// Reads the kernel's log itself before each look; without one only [`Observer::kernel_log`] tells of faults.
    #[must_use]
    pub fn with_kernel_log(self, log: Option<KernelLog>) -> Self {
        Self { log, ..self }
    }

    /// All GPUs now. Takes as long as the deadline where one hangs, and never much longer.
    ///
    /// A simulation that can't be read any more is no observation: no GPU is in it, and [`Observer::blind`] says why.
    pub fn observe(&mut self) -> Observation {
        let logged = self.log.as_mut().map(KernelLog::new_lines).unwrap_or_default();
        self.kernel_log(&logged);
        let mut gpus = match &mut self.source {
            Source::Drivers(drivers) => drivers.observe(&self.inventory),
            Source::File(file) => match simulated(file, &self.inventory) {
                Ok(gpus) => gpus,
                Err(why) => {
                    self.blind = Some(why);
                    return Observation::default();
                }
            },
        };
        self.blind = None;
        for (index, seen) in &mut gpus {
            let told = std::mem::take(&mut seen.xids);
            seen.xids = self.waiting.remove(index).unwrap_or_default();
            let known = self.known.entry(*index).or_default();
            seen.xids.extend(told.into_iter().filter(|xid| remember(known, &xid.id)));
        }
        Observation { gpus }
    }

    /// Lines of the kernel's log: their faults are told by the next observation, each once. The one source of faults of a real machine:
    /// NVML tells them only to who waits, and a disposable helper does not.
    pub fn kernel_log(&mut self, text: &str) {
        for logged in LoggedXid::parse(text) {
            let whole = self.inventory.gpus.iter().filter(|g| g.mig.is_none() && g.pci.as_ref().is_some_and(|pci| logged.is_at(pci)));
            for gpu in whole {
                // A fault of a part is its tenants' and not the neighbours'; one that names no part is everybody's.
                let parts = self.inventory.gpus.iter().filter(|g| {
                    g.mig.as_ref().is_some_and(|m| m.parent == gpu.index && logged.gpu_instance.is_none_or(|gi| gi == m.gpu_instance))
                });
                for index in std::iter::once(gpu.index).chain(parts.map(|p| p.index)) {
                    let waiting = self.waiting.entry(index).or_default();
                    if waiting.len() < MAX_FAULTS && remember(self.known.entry(index).or_default(), &logged.xid.id) {
                        waiting.push(logged.xid.clone());
                    }
                }
            }
        }
    }

    /// Helpers that hang in a driver and can't be ended: at most one for each GPU, nobody waits for them.
    pub fn left_behind(&self) -> usize {
        match &self.source {
            Source::Drivers(drivers) => drivers.left_behind(),
            Source::File(_) => 0,
        }
    }

    /// Why the last look saw nothing at all.
    pub fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }
}

/// Whether `id` is new; it is not any more.
fn remember(known: &mut VecDeque<String>, id: &str) -> bool {
    if known.iter().any(|k| k == id) {
        return false;
    }
    if known.len() >= MAX_FAULTS {
        known.pop_front();
    }
    known.push_back(id.to_owned());
    true
}

/// What the file says now of the GPUs that were there at the start.
fn simulated(file: &PathBuf, inventory: &Inventory) -> Result<BTreeMap<u32, GpuObservation>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("the simulation {} is not read again: {why}", file.display());
    let length = std::fs::metadata(file).map_err(|e| wrong(&e))?.len();
    if length > MAX_FILE {
        return Err(wrong(&format!("it is longer than {MAX_FILE} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| wrong(&e))?;
    let facts = Simulated::parse(&text, &file.display().to_string()).map_err(|e| wrong(&e.message))?.facts;
    let gone = || GpuObservation {
        silent: Some("it is gone: the simulation lists it no more".into()),
        memory_used_bytes: None,
        processes: None,
        xids: vec![],
    };
    Ok(inventory.gpus.iter().map(|g| (g.index, facts.get(&g.index).map_or_else(gone, |f| f.seen()))).collect())
}

#[cfg(test)]
mod tests;
