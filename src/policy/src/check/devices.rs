//! GPUs: keys that need others, and shares that contradict their limits.

use super::Findings;
use crate::explain::show;
use crate::file::{DevicesSection, GpuShare, Gpus, Mps};
use crate::mps_obstacle;

/// Keys that say nothing where no GPU is leased.
const OF_A_LEASE: [&str; 8] =
    ["count", "share", "affinity", "vram_min", "gpu_memory_max", "gpu_memory_action", "mps", "mps_active_threads"];

pub(super) fn look(findings: &mut Findings<'_>) {
    let devices = &findings.policy().devices;
    if devices.gpus == Gpus::None {
        for key in OF_A_LEASE.map(|key| format!("devices.{key}")) {
            if findings.is_written(&key) {
                findings.error(&key, "no GPU is leased, so it holds for nothing; say gpus = \"leased\", or remove it");
            }
        }
        return;
    }
    mps(findings, devices);
    memory(findings, devices);
}

fn mps(findings: &mut Findings<'_>, devices: &DevicesSection) {
    match (devices.mps, devices.share) {
        (Mps::Off, _) if findings.is_written("devices.mps_active_threads") => {
            findings.error(
                "devices.mps_active_threads",
                "MPS is off, and nothing else limits threads; say mps = \"if_available\" or \"required\"",
            );
        }
        (Mps::IfAvailable | Mps::Required, GpuShare::Exclusive) => {
            let text = "the GPU is exclusive, and there is nobody to share it with; say share = { ways = 2 } or more, or remove it";
            findings.error("devices.mps", text);
        }
        (Mps::IfAvailable | Mps::Required, _) => {
            if let Some(why) = mps_obstacle(findings.policy()) {
                findings.error("devices.mps", why);
            }
        }
        _ => {}
    }
}

fn memory(findings: &mut Findings<'_>, devices: &DevicesSection) {
    let max = devices.gpu_memory_max.map(|max| max.value);
    if let (GpuShare::Memory(part), Some(max)) = (devices.share, max)
        && max > part
    {
        let text = format!("{} is more than the share of {} that is leased; lower it", show::size(max), show::size(part));
        findings.error("devices.gpu_memory_max", text);
    }
    if let (Some(least), Some(max)) = (devices.vram_min, max)
        && least > max
    {
        let text = format!("{} must be free, and {} is all that it may have; lower it", show::size(least), show::size(max));
        findings.error("devices.vram_min", text);
    }
    if max.is_none() && findings.is_written("devices.gpu_memory_action") {
        findings.warning("devices.gpu_memory_action", "there is no gpu_memory_max that could be exceeded; set it, or remove this");
    }
    if max.is_none() && matches!(devices.share, GpuShare::Ways(_)) {
        let text = "one worker can take all of the GPU's memory from the others; set gpu_memory_max";
        findings.note("devices.share", text);
    }
}
