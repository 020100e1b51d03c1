//! Defaults filled in, and numbers looked at.

use super::{Affinity, DevicesSection, GpuMemoryAction, GpuShare, Gpus, Mps, RawMemory, RawShare};
use crate::file::scalar::Size;
use crate::file::{ListedNode, Setting};
use crate::plan::Enforce;

const MAX_COUNT: u32 = 64;

/// What the file says, without its nodes.
#[derive(Clone, Copy, Debug)]
pub(in crate::file) struct Given {
    pub(in crate::file) gpus: Option<Gpus>,
    pub(in crate::file) count: Option<u32>,
    pub(in crate::file) share: Option<RawShare>,
    pub(in crate::file) affinity: Option<Affinity>,
    pub(in crate::file) vram_min: Option<Size>,
    pub(in crate::file) gpu_memory_max: Option<RawMemory>,
    pub(in crate::file) gpu_memory_action: Option<GpuMemoryAction>,
    pub(in crate::file) mps: Option<Mps>,
    pub(in crate::file) mps_active_threads: Option<u32>,
}

/// The section. Errors: a key with what is wrong with it.
pub(in crate::file) fn resolve(given: Given, nodes: Vec<ListedNode>) -> Result<DevicesSection, (&'static str, String)> {
    let count = given.count.unwrap_or(1);
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(("devices.count", format!("{count} is not between 1 and {MAX_COUNT}; say gpus = \"none\" for none")));
    }
    if let Some(percent) = given.mps_active_threads.filter(|p| !(1..=100).contains(p)) {
        return Err(("devices.mps_active_threads", format!("{percent} is not between 1 and 100 percent")));
    }
    if given.vram_min.is_some_and(|size| size.0 == 0) {
        return Err(("devices.vram_min", "0 asks for nothing; remove it or give a size such as \"16GiB\"".to_owned()));
    }
    let share = given.share.map_or(GpuShare::Exclusive, |share| share.0);
    // Who leases a share of the memory is counted with no more than that.
    let part = match share {
        GpuShare::Memory(bytes) => Some(Setting { value: bytes, enforce: Enforce::IfAvailable }),
        GpuShare::Exclusive | GpuShare::Ways(_) => None,
    };
    Ok(DevicesSection {
        gpus: given.gpus.unwrap_or(Gpus::None),
        count,
        share,
        affinity: given.affinity.unwrap_or_default(),
        vram_min: given.vram_min.map(|size| size.0),
        gpu_memory_max: given.gpu_memory_max.map(|max| max.0).or(part),
        gpu_memory_action: given.gpu_memory_action.unwrap_or_default(),
        mps: given.mps.unwrap_or_default(),
        mps_active_threads: given.mps_active_threads,
        nodes,
    })
}
