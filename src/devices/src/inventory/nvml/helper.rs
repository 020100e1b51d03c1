//! The body of the helper process: asks about one GPU and prints what it is told, line by line.
//!
//! `probe` tells what the drivers' texts say of all of them, `describe PCI [OTHER PCI]…` tells what the GPU is, `watch PCI` what it does, `drm NUMBER` what the GPU behind a render node does.
//! Must never be called in the hive or the launcher: any of these calls may not return.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use nvml_wrapper::enum_wrappers::device::TopologyLevel;
use nvml_wrapper::enum_wrappers::nv_link::IntDeviceType;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::{PciInfo, ProcessInfo};
use nvml_wrapper::{Device, Nvml};
use serde::Serialize;

use super::message::{Described, Running, Told, ToldPart, Used, Watched};
use crate::Inventory;
use crate::chain::chain;
use crate::inventory::drm;

/// Processes that are told of one GPU: the answer fits a pipe, so that no helper waits for its reader.
const MAX_PROCESSES: usize = 512;
/// More links than any GPU has.
const MAX_LINKS: u32 = 64;

/// Why the helper could not print an answer.
#[derive(Debug, thiserror::Error)]
pub enum NvmlHelperError {
    /// The question is none.
    #[error("the helper is asked `probe`, `describe PCI [OTHER PCI]…`, `watch PCI` or `drm NUMBER`, not {asked:?}")]
    Question {
        /// What was asked.
        asked: Vec<String>,
    },
    /// It can't be written as JSON.
    #[error("write what the driver tells as JSON")]
    Json(#[source] serde_json::Error),
    /// Its reader is gone.
    #[error("print what the driver tells")]
    Print(#[source] io::Error),
}

/// Prints what is asked about one GPU as lines of JSON. That the library is not there, or the GPU does not answer, is part of the answer.
///
/// Errors: no such question, `out` takes no more.
pub fn nvml_helper_main(question: &[String], out: &mut dyn io::Write) -> Result<(), NvmlHelperError> {
    let words: Vec<&str> = question.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["describe", pci, others @ ..] => describe(pci, others, out),
        ["watch", pci] => {
            let used = Nvml::init().and_then(|nvml| watch(&nvml.device_by_pci_bus_id(*pci)?));
            line(out, &used.map_or_else(|why| Watched::Failed(chain(&why)), Watched::Used))
        }
        ["probe"] => line(out, &Inventory::probe()),
        ["drm", number] if number.parse::<u32>().is_ok() => {
            let used = number.parse().ok().and_then(|render| drm::used(Path::new("/"), render));
            line(out, &used)
        }
        _ => Err(NvmlHelperError::Question { asked: question.to_vec() }),
    }
}

fn line<T: Serialize>(out: &mut dyn io::Write, value: &T) -> Result<(), NvmlHelperError> {
    let text = serde_json::to_string(value).map_err(NvmlHelperError::Json)?;
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(NvmlHelperError::Print)
}

fn describe(pci: &str, others: &[&str], out: &mut dyn io::Write) -> Result<(), NvmlHelperError> {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(why) => return line(out, &Described::Failed(chain(&why))),
    };
    let device = match nvml.device_by_pci_bus_id(pci) {
        Ok(device) => device,
        // One that fell off the bus must not hide the others.
        Err(why) => return line(out, &Described::Failed(format!("{pci} does not answer: {}", chain(&why)))),
    };
    line(out, &Described::Gpu(Box::new(told(&device))))?;
    line(out, &Described::Near(near(&nvml, &device, others)))
}

fn told(device: &Device<'_>) -> Told {
    let (nvlinks, nvswitch) = nvlinks(device);
    let part = |device: Device<'_>| {
        let (gpu_instance, compute_instance) = rbee_hive_sys::nvml::mig_ids(&device)?;
        let memory_bytes = device.memory_info().ok().map(|m| m.total);
        Some(ToldPart { gpu_instance, compute_instance, uuid: device.uuid().ok(), name: device.name().ok(), memory_bytes })
    };
    Told {
        uuid: device.uuid().ok(),
        name: device.name().ok(),
        // A GPU that shares the CPU's memory has none of its own to tell.
        memory_bytes: device.memory_info().ok().map(|m| m.total),
        mig_enabled: device.mig_mode().ok().map(|mode| mode.current == 1),
        parts: parts(device).into_iter().filter_map(part).collect(),
        nvlinks,
        nvswitch,
    }
}

/// The MIG devices of a GPU; none where MIG is off.
fn parts<'nvml>(device: &Device<'nvml>) -> Vec<Device<'nvml>> {
    // The count is how many there can be; places that are free answer that they are not found.
    (0..device.mig_device_count().unwrap_or(0)).filter_map(|n| device.mig_device_by_index(n).ok()).collect()
}

/// Other ends of the links that are up, and whether one is a switch.
fn nvlinks(device: &Device<'_>) -> (Vec<String>, bool) {
    let (mut peers, mut switch) = (Vec::new(), false);
    for link in 0..MAX_LINKS {
        let nvlink = device.link_wrapper_for(link);
        match nvlink.is_active() {
            Ok(true) => {}
            Ok(false) => continue,
            // There are no more links than this.
            Err(_) => break,
        }
        match nvlink.remote_device_type(link) {
            Ok(IntDeviceType::Switch) => switch = true,
            Ok(IntDeviceType::Ibmnpu) => {}
            _ => peers.extend(nvlink.remote_pci_info().ok().map(|pci| address(&pci))),
        }
    }
    peers.sort();
    peers.dedup();
    (peers, switch)
}

/// As sysfs writes it: NVML's own text has eight digits for the domain.
fn address(pci: &PciInfo) -> String {
    format!("{:04x}:{:02x}:{:02x}.0", pci.domain, pci.bus, pci.device)
}

fn near(nvml: &Nvml, device: &Device<'_>, others: &[&str]) -> BTreeMap<String, String> {
    let word = |other: &&str| {
        let level = device.topology_common_ancestor(nvml.device_by_pci_bus_id(*other).ok()?).ok()?;
        // As `nvidia-smi topo` calls them.
        let word = match level {
            TopologyLevel::Internal | TopologyLevel::Single => "pix",
            TopologyLevel::Multiple => "pxb",
            TopologyLevel::HostBridge => "phb",
            TopologyLevel::Node => "node",
            TopologyLevel::System => "sys",
        };
        Some(((*other).to_owned(), word.to_owned()))
    };
    others.iter().filter_map(word).collect()
}

/// Errors: it does not answer (a GPU that fell off the bus still has a handle).
fn watch(device: &Device<'_>) -> Result<Used, NvmlError> {
    let used = |device: &Device<'_>| match device.memory_info() {
        Ok(memory) => Ok(Some(memory.used)),
        // A GPU that shares the CPU's memory, or a caller who may not know.
        Err(NvmlError::NotSupported | NvmlError::NoPermission) => Ok(None),
        Err(why) => Err(why),
    };
    let of = |part: Device<'_>| rbee_hive_sys::nvml::mig_ids(&part).map(|(gi, ci)| (gi, ci, used(&part).ok().flatten()));
    let memory_used_bytes = used(device)?;
    Ok(Used { memory_used_bytes, processes: processes(device), parts: parts(device).into_iter().filter_map(of).collect() })
}

/// Number of the first pid namespace's file (PROC_PID_INIT_INO in the kernel's proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Everybody on the GPU, once, with the larger of the figures that were told. `None` where not even those that compute are listed, where there
/// are more than can be told, and in a pid namespace of its own: the driver's numbers are others' there, and would be read as nobody's.
fn processes(device: &Device<'_>) -> Option<Vec<Running>> {
    use std::os::unix::fs::MetadataExt as _;
    if !std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST_PID_NAMESPACE) {
        return None;
    }
    let compute = device.running_compute_processes().ok()?;
    let others = [device.running_graphics_processes(), device.mps_running_compute_processes()];
    let mut all = BTreeMap::<_, Option<u64>>::new();
    for process in compute.into_iter().chain(others.into_iter().flatten().flatten()) {
        if let Some(one) = running(&process) {
            let memory = all.entry((one.pid, one.part)).or_default();
            *memory = (*memory).max(one.memory_bytes);
        }
    }
    let told = all.into_iter().map(|((pid, part), memory_bytes)| Running { pid, memory_bytes, part });
    Some(told.collect::<Vec<_>>()).filter(|told| told.len() <= MAX_PROCESSES)
}

fn running(process: &ProcessInfo) -> Option<Running> {
    let memory_bytes = match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    Some(Running { pid: i32::try_from(process.pid).ok()?, memory_bytes, part: process.gpu_instance_id.zip(process.compute_instance_id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(question: &[&str]) -> String {
        let mut out = Vec::new();
        nvml_helper_main(&question.iter().map(ToString::to_string).collect::<Vec<_>>(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn without_the_library_or_the_gpu_the_answer_says_so_and_is_still_an_answer() {
        let text = says(&["describe", "ffff:ff:1f.0"]);
        assert!(matches!(serde_json::from_str(&text).unwrap(), Described::Failed(why) if !why.is_empty()), "{text}");
        let text = says(&["watch", "ffff:ff:1f.0"]);
        assert!(matches!(serde_json::from_str(&text).unwrap(), Watched::Failed(why) if !why.is_empty()), "{text}");
        assert_eq!(says(&["drm", "999999"]), "null\n");
    }

    #[test]
    fn a_process_that_is_listed_twice_is_one_and_a_figure_that_is_not_told_is_none() {
        let process = |used_gpu_memory| ProcessInfo { pid: 7, used_gpu_memory, gpu_instance_id: Some(1), compute_instance_id: Some(0) };
        assert_eq!(running(&process(UsedGpuMemory::Used(5))), Some(Running { pid: 7, memory_bytes: Some(5), part: Some((1, 0)) }));
        assert_eq!(running(&process(UsedGpuMemory::Unavailable)).and_then(|r| r.memory_bytes), None);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for bad in [&[][..], &["watch"], &["drm", "x"], &["describe"], &["watch", "a", "b"], &["reset", "a"]] {
            let question: Vec<String> = bad.iter().map(ToString::to_string).collect();
            assert!(matches!(nvml_helper_main(&question, &mut Vec::new()), Err(NvmlHelperError::Question { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        struct Gone;
        impl io::Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(matches!(nvml_helper_main(&["drm".into(), "1".into()], &mut Gone), Err(NvmlHelperError::Print(_))));
    }
}
