//! `[devices]` as settings.

use super::settings::{Setting, list, word};
use super::show;
use crate::file::{DevicesSection, GpuShare, Gpus, ListedNode};

pub(super) fn of_devices(section: &DevicesSection) -> Vec<Setting> {
    let DevicesSection { gpus, count, share, affinity, vram_min, gpu_memory_max, gpu_memory_action, mps, mps_active_threads, nodes } =
        section;
    let leased = match gpus {
        Gpus::None => "none",
        Gpus::Leased => "leased",
    };
    let mut rows = vec![Setting::new("devices.gpus", leased)];
    if *gpus == Gpus::Leased {
        rows.push(Setting::new("devices.count", count.to_string()));
        rows.push(Setting::new("devices.share", of_share(*share)));
        rows.push(Setting::new("devices.affinity", word(affinity)));
        rows.extend(vram_min.map(|bytes| Setting::new("devices.vram_min", show::size(bytes))));
        if let Some(max) = gpu_memory_max {
            let value = format!("{} ({})", show::size(max.value), show::enforce(max.enforce));
            rows.push(Setting::new("devices.gpu_memory_max", value));
            rows.push(Setting::new("devices.gpu_memory_action", word(gpu_memory_action)));
        }
        rows.push(Setting::new("devices.mps", word(mps)));
        rows.extend(mps_active_threads.map(|percent| Setting::new("devices.mps_active_threads", percent.to_string())));
    }
    let nodes =
        nodes.iter().map(|ListedNode { path, reason, access }| format!("{} ({}): {reason}", show::path(path), show::access(*access)));
    rows.extend(list("devices.nodes", nodes));
    rows
}

fn of_share(share: GpuShare) -> String {
    match share {
        GpuShare::Exclusive => "exclusive".to_owned(),
        GpuShare::Ways(ways) => format!("{{ ways = {ways} }}"),
        GpuShare::Memory(bytes) => format!("{{ memory = \"{}\" }}", show::size(bytes)),
    }
}
