//! Simulated NUMA nodes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::size;
use crate::inventory::{MAX_CPUS, numbers, ranges};
use crate::{Inventory, NumaNode};

/// Highest number of a node that a kernel is built for.
const MAX_ID: u32 = 1023;

/// One `[[node]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) id: u32,
    cpus: String,
    memory: Option<String>,
    #[serde(default)]
    distances: BTreeMap<String, u32>,
    package: Option<u32>,
    smt_siblings: Option<Vec<String>>,
    #[serde(default)]
    simulated: bool,
}

/// What can be said without a machine.
pub(super) fn check(raw: &[Raw]) -> Result<(), String> {
    let (mut ids, mut cpus) = (BTreeSet::new(), BTreeSet::new());
    for node in raw {
        let wrong = |what: String| Err(format!("node {}: {what}", node.id));
        if node.id > MAX_ID {
            return wrong(format!("the id is above {MAX_ID}"));
        }
        if !ids.insert(node.id) {
            return wrong("there are two with this id".into());
        }
        let own = match list(&node.cpus) {
            Some(own) => own,
            None => return wrong(format!("{:?} is no list of CPUs such as \"0-3,8\"", node.cpus)),
        };
        if let Some(twice) = own.iter().find(|n| cpus.contains(*n)) {
            return wrong(format!("CPU {twice} is in another node too"));
        }
        if let Some(bad) = node.smt_siblings.iter().flatten().find(|s| list(s).is_none_or(|s| !s.is_subset(&own))) {
            return wrong(format!("{bad:?} are no siblings in this node"));
        }
        cpus.extend(own);
        if let Some(text) = &node.memory {
            size_or_zero(text).map_err(|e| format!("node {}: {e}", node.id))?;
        }
    }
    for node in raw {
        let known = |key: &String| key.parse().is_ok_and(|id: u32| ids.contains(&id));
        // ACPI 6, SLIT: 10 is local, 255 is unreachable.
        if let Some((key, distance)) = node.distances.iter().find(|(key, d)| !known(key) || !(10..255).contains(*d)) {
            return Err(format!("node {}: a distance of {distance} to {key:?}: it is 10 to 254, to a node that is listed", node.id));
        }
    }
    Ok(())
}

/// Puts the nodes in the place of the machine's own.
///
/// Errors: a CPU that the machine lacks, in a node that is not marked as simulated.
pub(super) fn replace(inventory: &mut Inventory, raw: Vec<Raw>) -> Result<(), String> {
    let there = numbers(&inventory.cpus);
    let own_memory: BTreeSet<u32> = inventory.nodes.iter().filter(|n| n.memory_bytes != Some(0)).map(|n| n.id).collect();
    let cores: Vec<String> = inventory.nodes.iter().flat_map(|n| n.smt_siblings.clone()).collect();
    let mut packages: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    (inventory.nodes, inventory.distances) = (Vec::new(), BTreeMap::new());
    for node in raw {
        let cpus = numbers(&node.cpus);
        if let Some(missing) = cpus.iter().find(|n| !node.simulated && !there.contains(n)) {
            let has = &inventory.cpus;
            return Err(format!(
                "node {}: this host has CPUs {has}, not {missing}; with `simulated = true` it is for placement alone",
                node.id
            ));
        }
        if node.simulated {
            inventory.placement_only.insert(node.id);
        }
        if node.simulated || !own_memory.contains(&node.id) {
            inventory.memory_elsewhere.insert(node.id);
        }
        packages.entry(node.package.unwrap_or(node.id)).or_default().extend(&cpus);
        let row = node.distances.iter().filter_map(|(id, distance)| Some((id.parse().ok()?, *distance)));
        inventory.distances.insert(node.id, row.collect());
        let real = || cores.iter().filter(|c| numbers(c).is_subset(&cpus)).cloned().collect();
        let memory_bytes = node.memory.as_deref().map(size_or_zero).transpose()?;
        inventory.nodes.push(NumaNode { id: node.id, cpus: node.cpus, memory_bytes, smt_siblings: node.smt_siblings.unwrap_or_else(real) });
    }
    inventory.nodes.sort_by_key(|n| n.id);
    inventory.distances.retain(|_, row| !row.is_empty());
    inventory.packages = packages.into_iter().map(|(package, cpus)| (package, ranges(&cpus))).collect();
    Ok(())
}

/// A list that is one: what it says is what it means.
fn list(text: &str) -> Option<BTreeSet<u32>> {
    // What `numbers` would not believe is no CPU here either.
    let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse::<u32>().ok()).flatten().filter(|n| *n < MAX_CPUS);
    let part = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    let set = numbers(text);
    (text.split(',').all(part) && !set.is_empty()).then_some(set)
}

fn size_or_zero(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { size(text) }
}
