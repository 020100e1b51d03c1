//! What NVML adds to the driver's own text, asked in processes of their own: the library can hang in the kernel for ever.
//!
//! Owns the messages between helper and hive. Must never give a GPU another index: the launcher, which never asks NVML, has to mean the
//! same GPU by `GPU-1`.

mod helper;
mod message;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use super::ask::{Answer, ask_each};
use super::{Inventory, Vendor};
use crate::chain::chain;

pub use helper::{NvmlHelperError, nvml_helper_main};
use message::{Described, Told};
pub(crate) use message::{Running, Used, Watched};

/// Whole NVIDIA GPUs that NVML can be asked about: index and PCI address.
pub(crate) fn addresses(inventory: &Inventory) -> Vec<(u32, String)> {
    let whole = inventory.gpus.iter().filter(|g| g.vendor == Vendor::Nvidia && g.mig.is_none());
    whole.filter_map(|g| Some((g.index, g.pci.clone()?))).collect()
}

/// Adds what NVML tells: memory, UUIDs, product names, links, MIG mode and parts. What it does not tell goes into the notes.
pub(super) fn describe(inventory: &mut Inventory, helper: &[OsString], deadline: Duration) {
    let gpus = addresses(inventory);
    let question = |own: &String| {
        let others = gpus.iter().map(|(_, pci)| pci).filter(|pci| *pci != own);
        ["describe", own].into_iter().chain(others.map(String::as_str)).map(OsString::from).collect()
    };
    let questions: Vec<Vec<OsString>> = gpus.iter().map(|(_, pci)| question(pci)).collect();
    let answers = ask_each(helper, &questions, deadline);
    merge(inventory, gpus.into_iter().zip(answers).collect());
}

fn merge(inventory: &mut Inventory, answers: Vec<((u32, String), Answer<Described>)>) {
    let mut links = Links::default();
    for ((index, pci), answer) in answers {
        for line in answer.lines {
            match line {
                Described::Gpu(told) => {
                    links.nvlinks.insert(index, (told.nvlinks.clone(), told.nvswitch));
                    add(inventory, index, *told);
                }
                Described::Near(near) => drop(links.near.insert(index, near)),
                Described::Failed(why) => inventory.notes.push(format!("GPU-{index}: NVML: {why}")),
            }
        }
        if let Some(why) = answer.trouble {
            inventory.notes.push(format!("GPU-{index} ({pci}): NVML tells no more: {}", chain(&why)));
        }
    }
    links.add_to(inventory);
}

fn add(inventory: &mut Inventory, index: u32, told: Told) {
    for gpu in &mut inventory.gpus {
        if gpu.index == index {
            gpu.uuid = gpu.uuid.take().or_else(|| told.uuid.clone());
            gpu.memory_bytes = gpu.memory_bytes.or(told.memory_bytes);
            // Cut up but without a part: as little to be leased as one with parts.
            gpu.partitioned |= told.mig_enabled == Some(true);
            if let Some(name) = &told.name {
                gpu.name.clone_from(name);
            }
        } else if let Some(mig) = gpu.mig.as_mut().filter(|m| m.parent == index)
            && let Some(part) = told.parts.iter().find(|p| (p.gpu_instance, p.compute_instance) == (mig.gpu_instance, mig.compute_instance))
        {
            mig.profile = part.name.as_deref().and_then(profile);
            gpu.uuid.clone_from(&part.uuid);
            gpu.memory_bytes = part.memory_bytes;
            if let Some(name) = &part.name {
                gpu.name.clone_from(name);
            }
        }
    }
}

/// `1g.10gb` of `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
fn profile(name: &str) -> Option<String> {
    name.rsplit_once("MIG ").map(|(_, profile)| profile.trim().to_owned()).filter(|p| !p.is_empty())
}

/// What was told of the ways between GPUs, by index.
#[derive(Default)]
struct Links {
    /// PCI addresses at the other end of its NVLinks, and whether one leads to an NVSwitch.
    nvlinks: BTreeMap<u32, (Vec<String>, bool)>,
    /// The nearest thing that it has in common with another PCI address.
    near: BTreeMap<u32, BTreeMap<String, String>>,
}

impl Links {
    /// NVLink, straight or through switches, and where there is none what PCIe has in common.
    fn add_to(&self, inventory: &mut Inventory) {
        let all = addresses(inventory);
        for (index, _) in &all {
            for (other, pci) in all.iter().filter(|(other, _)| other != index) {
                let nvlink = self.nvlinks.get(index).zip(self.nvlinks.get(other)).is_some_and(|((peers, switch), (_, others_switch))| {
                    peers.iter().any(|peer| peer.eq_ignore_ascii_case(pci)) || (*switch && *others_switch)
                });
                let near = self.near.get(index).and_then(|near| near.get(pci));
                let word = if nvlink { Some("nvlink".to_owned()) } else { near.cloned() };
                if let (Some(word), Some(gpu)) = (word, inventory.gpus.iter_mut().find(|g| g.index == *index)) {
                    gpu.links.insert(*other, word);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::message::ToldPart;
    use super::*;
    use crate::{Gpu, Mig};

    fn gpu(index: u32, uuid: Option<&str>) -> Gpu {
        let pci = Some(format!("0000:0{index}:00.0"));
        Gpu { pci, uuid: uuid.map(str::to_owned), ..Gpu::new(index, Vendor::Nvidia, "NVIDIA GPU".into()) }
    }

    fn told(uuid: &str) -> Told {
        Told { uuid: Some(uuid.into()), name: Some("H100".into()), memory_bytes: Some(5), ..Told::default() }
    }

    fn answered(index: u32, lines: Vec<Described>) -> ((u32, String), Answer<Described>) {
        ((index, format!("0000:0{index}:00.0")), Answer { lines, trouble: None, left: None })
    }

    #[test]
    fn what_nvml_tells_is_added_and_moves_no_index() {
        let mut inventory = Inventory { gpus: vec![gpu(0, None), gpu(1, Some("GPU-known"))], ..Inventory::default() };
        let lost = vec![Described::Gpu(Box::new(told("GPU-one"))), Described::Failed("it is lost".into())];
        merge(&mut inventory, vec![answered(0, vec![Described::Gpu(Box::new(told("GPU-zero")))]), answered(1, lost)]);
        assert_eq!(
            inventory.gpus.iter().map(|g| (g.index, g.uuid.as_deref(), g.memory_bytes)).collect::<Vec<_>>(),
            [(0, Some("GPU-zero"), Some(5)), (1, Some("GPU-known"), Some(5))]
        );
        assert_eq!(inventory.notes, ["GPU-1: NVML: it is lost"]);
    }

    #[test]
    fn parts_are_matched_by_their_instances_and_a_cut_without_parts_is_told() {
        let mig = |compute_instance| Mig { parent: 0, gpu_instance: 3, compute_instance, profile: None };
        let part = |index, ci| Gpu { mig: Some(mig(ci)), ..gpu(index, None) };
        let mut inventory = Inventory { gpus: vec![gpu(0, None), gpu(1, None), part(2, 0), part(3, 1)], ..Inventory::default() };
        let known = ToldPart {
            gpu_instance: 3,
            compute_instance: 1,
            uuid: Some("MIG-b".into()),
            name: Some("H100 MIG 1c.3g.40gb".into()),
            memory_bytes: Some(40),
        };
        let parent = Described::Gpu(Box::new(Told { mig_enabled: Some(true), parts: vec![known], ..told("GPU-zero") }));
        let cut = Described::Gpu(Box::new(Told { mig_enabled: Some(true), ..told("GPU-one") }));
        merge(&mut inventory, vec![answered(0, vec![parent]), answered(1, vec![cut])]);
        assert_eq!((inventory.gpus[2].uuid.as_deref(), inventory.gpus[3].uuid.as_deref()), (None, Some("MIG-b")));
        assert_eq!(inventory.gpus[3].mig.as_ref().and_then(|m| m.profile.as_deref()), Some("1c.3g.40gb"));
        assert!(inventory.gpus[1].partitioned && !inventory.gpus[3].partitioned);
    }

    #[test]
    fn nvlink_is_straight_or_by_switch_and_beats_what_pcie_has_in_common() {
        let mut inventory = Inventory { gpus: (0..4).map(|n| gpu(n, None)).collect(), ..Inventory::default() };
        let line = |nvlinks: &[&str], nvswitch| {
            Described::Gpu(Box::new(Told { nvlinks: nvlinks.iter().map(ToString::to_string).collect(), nvswitch, ..Told::default() }))
        };
        let near = |n: u32| Described::Near(BTreeMap::from([(format!("0000:0{n}:00.0"), "pix".to_owned())]));
        let answers = vec![
            answered(0, vec![line(&["0000:01:00.0"], false), near(1)]),
            answered(1, vec![line(&["0000:00:00.0"], false), near(2)]),
            answered(2, vec![line(&[], true)]),
            answered(3, vec![line(&[], true)]),
        ];
        merge(&mut inventory, answers);
        let told: Vec<Vec<(u32, &str)>> =
            inventory.gpus.iter().map(|g| g.links.iter().map(|(n, word)| (*n, word.as_str())).collect()).collect();
        assert_eq!(told, [vec![(1, "nvlink")], vec![(0, "nvlink"), (2, "pix")], vec![(3, "nvlink")], vec![(2, "nvlink")]]);
    }

    #[test]
    fn a_gpu_that_hangs_stays_without_what_nvml_knows_and_the_others_do_not() {
        let script = r#"[ $2 = 0000:00:00.0 ] && exec sleep 60; echo '{"gpu":{"uuid":"GPU-b","name":null,"memory_bytes":5}}'"#;
        let helper: Vec<OsString> = ["sh", "-c", script, "helper"].map(OsString::from).to_vec();
        let mut inventory = Inventory { gpus: vec![gpu(0, None), gpu(1, None)], ..Inventory::default() };
        describe(&mut inventory, &helper, Duration::from_secs(3));
        assert_eq!(inventory.gpus.iter().map(|g| g.memory_bytes).collect::<Vec<_>>(), [None, Some(5)]);
        assert!(
            inventory.notes.len() == 1 && inventory.notes[0].contains("GPU-0") && inventory.notes[0].contains("may hang"),
            "{:?}",
            inventory.notes
        );
    }
}
