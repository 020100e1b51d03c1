//! What changes about a simulated GPU.

use serde::Deserialize;

use super::size;
use crate::{GpuObservation, GpuProcess, Xid};

/// Processes and faults of one GPU.
const MAX: usize = 1024;

/// The keys of a GPU that tell what becomes of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProcess {
    pid: i32,
    memory: Option<String>,
}

/// A fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawXid {
    code: u32,
    pid: Option<i32>,
    id: String,
}

/// What is told of a GPU at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) memory_used_bytes: Option<u64>,
    pub(crate) processes: Option<Vec<GpuProcess>>,
    /// All that the file lists: who reads it knows which of them are new.
    pub(crate) xids: Vec<Xid>,
    pub(crate) hangs: bool,
    pub(crate) gone: bool,
}

impl Facts {
    pub(super) fn of(memory_used: Option<&str>, processes: Option<Vec<RawProcess>>, xids: Vec<RawXid>) -> Result<Self, String> {
        if processes.as_ref().map_or(0, Vec::len).max(xids.len()) > MAX {
            return Err(format!("there are more than {MAX} processes or faults"));
        }
        let memory_used_bytes = memory_used.map(size_or_none).transpose()?;
        let process = |raw: RawProcess| match raw.pid {
            ..1 => Err(format!("{} is no process", raw.pid)),
            pid => Ok(GpuProcess { pid, memory_bytes: raw.memory.as_deref().map(size_or_none).transpose()? }),
        };
        let processes = processes.map(|list| list.into_iter().map(process).collect::<Result<_, _>>()).transpose()?;
        if let Some(bad) = xids.iter().find(|x| x.id.is_empty() || x.id.len() > 200 || x.id.chars().any(char::is_control)) {
            return Err(format!("{:?} is no id of a fault", bad.id));
        }
        let xids = xids.into_iter().map(|x| Xid { code: x.code, pid: x.pid, id: x.id }).collect();
        Ok(Self { memory_used_bytes, processes, xids, ..Self::default() })
    }

    /// Why it does not answer.
    pub(crate) fn silent(&self) -> Option<String> {
        match (self.gone, self.hangs) {
            (true, _) => Some("it is gone (simulated)".into()),
            (false, true) => Some("its driver hangs (simulated)".into()),
            (false, false) => None,
        }
    }

    /// As an observer sees it; of one that does not answer nothing is known but that. Its faults are told by the kernel's log, so that they
    /// are there all the same.
    pub(crate) fn seen(&self) -> GpuObservation {
        let silent = self.silent();
        let known = silent.is_none();
        GpuObservation {
            silent,
            memory_used_bytes: self.memory_used_bytes.filter(|_| known),
            processes: self.processes.clone().filter(|_| known),
            xids: self.xids.clone(),
        }
    }
}

/// A size, or `"0"`: there is none yet.
fn size_or_none(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { size(text) }
}
