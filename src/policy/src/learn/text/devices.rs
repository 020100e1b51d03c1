//! `[devices]`: of the base's nodes those that were opened.

use std::fmt::Write as _;
use std::path::Path;

use super::super::observations::{Kind, SeenFile, Use};
use super::super::{WatchPlan, Watched};
use super::choice;
use super::words::{comment, line, quoted, size};
use crate::file::{Affinity, DevicesSection, GpuMemoryAction, GpuShare, Gpus, Mps};
use crate::plan::DeviceAccess;

pub(super) fn devices(text: &mut String, watched: &Watched<'_>, watch: &WatchPlan) {
    let base = &watch.base.devices;
    let used: Vec<(&Path, &SeenFile)> = watched
        .seen
        .files
        .iter()
        .filter(|(_, f)| f.kind == Kind::Device && f.uses.iter().any(|u| *u != Use::Look))
        .map(|(p, f)| (p.as_path(), f))
        .collect();
    let listed = |path: &Path| base.nodes.iter().any(|n| n.path == path);
    let gpu = watched.plan.leased.iter().any(|d| d.starts_with("GPU-"));
    // What is neither every worker's nor listed by the base is a GPU's.
    let leased = |path: &Path| watched.plan.devices.iter().any(|n| n.path == path && !n.access.mknod) && !listed(path);
    let of_gpu: Vec<&(&Path, &SeenFile)> = used.iter().filter(|(path, _)| gpu && leased(path)).collect();
    text.push_str("\n[devices]\n");
    match (base.gpus, of_gpu.first()) {
        (Gpus::Leased, Some((path, file))) => {
            line(text, "gpus", &quoted("leased"), &format!("{} was opened by {} while learning", path.display(), file.by));
            lease(text, base);
        }
        _ => line(text, "gpus", &quoted("none"), "no node of a GPU was opened while learning"),
    }
    text.push_str("nodes = [\n");
    for node in &base.nodes {
        let Some((_, file)) = used.iter().find(|(path, _)| *path == node.path) else { continue };
        let reason = format!("opened by {} while learning; {}", file.by, node.reason);
        let (path, access) = (quoted(&node.path.to_string_lossy()), access(node.access, file));
        if access.is_empty() {
            continue; // opened in a way that the base does not grant
        }
        let _ = writeln!(text, "    {{ path = {path}, access = \"{access}\", reason = {} }},", quoted(&comment(&reason)));
    }
    text.push_str("]\n");
}

/// How the base leases GPUs, where it says more than a policy without these keys.
fn lease(text: &mut String, base: &DevicesSection) {
    let DevicesSection { gpus: _, count, share, affinity, vram_min, gpu_memory_max, gpu_memory_action, mps, mps_active_threads, nodes: _ } =
        base;
    let mut given = |key: &str, value: Option<String>| value.iter().for_each(|value| line(text, key, value, "the base's own"));
    given("count", (*count != 1).then(|| count.to_string()));
    let shared = match share {
        GpuShare::Exclusive => None,
        GpuShare::Ways(ways) => Some(format!("{{ ways = {ways} }}")),
        GpuShare::Memory(bytes) => Some(format!("{{ memory = {} }}", quoted(&size(*bytes)))),
    };
    given("share", shared);
    given("affinity", (*affinity != Affinity::None).then(|| choice(affinity)));
    given("vram_min", vram_min.map(|bytes| quoted(&size(bytes))));
    let max = gpu_memory_max.map(|max| format!("{{ value = {}, enforce = {} }}", quoted(&size(max.value)), choice(&max.enforce)));
    given("gpu_memory_max", max);
    given("gpu_memory_action", (*gpu_memory_action != GpuMemoryAction::Stop).then(|| choice(gpu_memory_action)));
    given("mps", (*mps != Mps::Off).then(|| choice(mps)));
    given("mps_active_threads", mps_active_threads.map(|percent| percent.to_string()));
}

/// What the base grants, as far as it was used; whether a node was made of it is not told apart from other files that are made.
fn access(granted: DeviceAccess, file: &SeenFile) -> String {
    let used = |what| file.uses.contains(&what);
    let letters = [('r', granted.read && used(Use::Read)), ('w', granted.write && used(Use::Write)), ('m', granted.mknod)];
    letters.into_iter().filter(|(_, on)| *on).map(|(letter, _)| letter).collect()
}
