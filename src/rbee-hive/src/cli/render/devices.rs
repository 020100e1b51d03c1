//! CPUs and GPUs, and how they lie to one another: a picture for 80 columns.

use std::collections::BTreeMap;

use rbee_hive_api::{Device, Topology};

use super::matrix::matrix;
use super::or_dash;
use crate::cli::output::{bytes, clean, shorten};

/// Width of a terminal that nobody has changed.
pub(super) const WIDTH: usize = 80;

/// Packages with their NUMA nodes, below each its GPUs, then the ways between GPUs, the distances between nodes, and what is not known.
pub(crate) fn topology(told: &Topology) -> String {
    let cpus: Vec<&Device> = told.devices.iter().filter(|d| d.kind == "cpu").collect();
    let gpus: Vec<&Device> = told.devices.iter().filter(|d| d.kind != "cpu").collect();
    let mut packages: BTreeMap<&[u32], Vec<&Device>> = BTreeMap::new();
    for node in &cpus {
        packages.entry(&node.packages).or_default().push(node);
    }
    let mut text = String::new();
    for (package, nodes) in packages {
        text.push_str(&heading(package));
        for node in nodes {
            text.push_str(&cpu(node));
            text.push_str(&below(&gpus, |gpu| gpu.numa_node.is_some() && gpu.numa_node == node.numa_node));
        }
    }
    let elsewhere = below(&gpus, |gpu| !cpus.iter().any(|node| node.numa_node.is_some() && node.numa_node == gpu.numa_node));
    if !elsewhere.is_empty() {
        text.push_str(&format!("At no known NUMA node\n{elsewhere}"));
    }
    if gpus.is_empty() {
        text.push_str("No GPU\n");
    }
    text.push_str(&ways(&gpus));
    text.push_str(&distances(&cpus));
    if !told.notes.is_empty() {
        text.push_str("\nNotes\n");
        text.extend(told.notes.iter().map(|note| fold("  - ", &clean(note))));
    }
    text
}

fn heading(packages: &[u32]) -> String {
    match packages {
        [] => "Machine\n".into(),
        [one] => format!("Package {one}\n"),
        several => format!("Packages {}\n", several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn cpu(node: &Device) -> String {
    let memory = node.memory_bytes.map_or_else(|| "memory not known".to_owned(), |b| format!("{} of memory", bytes(b)));
    let pretence = if node.placement_only { ", for placement alone" } else { "" };
    let mut text = fold(&format!("  {:<9}", clean(&node.id)), &format!("CPUs {}, {memory}{pretence}", or_dash(node.cpus.as_deref())));
    if !node.smt_siblings.is_empty() {
        let cores: Vec<String> = node.smt_siblings.iter().map(|s| clean(s)).collect();
        text.push_str(&fold("           ", &format!("on one core: {}", cores.join(" "))));
    }
    text
}

/// The GPUs that `here` picks, each with its parts.
fn below(gpus: &[&Device], here: impl Fn(&Device) -> bool) -> String {
    let whole = gpus.iter().filter(|g| g.mig.is_none() && here(g));
    let parts = |index: Option<u32>| gpus.iter().filter(move |g| g.mig.as_ref().is_some_and(|m| Some(m.parent) == index));
    let all = whole.map(|g| gpu(g, 4) + &parts(index(g)).map(|p| gpu(p, 6)).collect::<String>());
    all.collect()
}

fn index(gpu: &Device) -> Option<u32> {
    gpu.id.strip_prefix("GPU-")?.parse().ok()
}

fn gpu(gpu: &Device, indent: usize) -> String {
    let blank = " ".repeat(indent);
    let kind = gpu.mig.as_ref().and_then(|m| m.profile.as_deref()).or(gpu.name.as_deref()).or(gpu.vendor.as_deref());
    let memory = match (gpu.memory_used_bytes, gpu.memory_bytes) {
        (Some(used), Some(all)) => format!("{} of {}", bytes(used), bytes(all)),
        (_, all) => or_dash(all.map(bytes).as_deref()),
    };
    let line = format!("{blank}{:<9}{:<24} {memory:>20}  {}", clean(&gpu.id), shorten(&or_dash(kind), 24), or_dash(gpu.pci.as_deref()));
    let held = match (&gpu.lease, gpu.partitioned) {
        (Some(who), _) => Some(format!("held by {who}")),
        (None, true) => Some("leased in parts".to_owned()),
        (None, false) => None,
    };
    let known: Vec<String> = [gpu.uuid.clone(), held].into_iter().flatten().collect();
    let silent = gpu.silent.as_ref().map(|why| format!("does not answer: {why}"));
    let mut text = format!("{}\n", shorten(line.trim_end(), WIDTH));
    let more = [known.join(", "), silent.unwrap_or_default()];
    text.extend(more.iter().filter(|what| !what.is_empty()).map(|what| fold(&format!("{blank}         "), &clean(what))));
    text
}

fn ways(gpus: &[&Device]) -> String {
    let linked: Vec<&Device> =
        gpus.iter().filter(|g| !g.links.is_empty() || gpus.iter().any(|o| o.links.contains_key(&g.id))).copied().collect();
    let names: Vec<&str> = linked.iter().map(|g| g.id.as_str()).collect();
    let body = matrix(&names, |row, column| linked[row].links.get(names[column]).cloned());
    super::part("Between GPUs", &body)
}

fn distances(nodes: &[&Device]) -> String {
    let told: Vec<&Device> = nodes.iter().filter(|n| !n.distances.is_empty()).copied().collect();
    if told.len() < 2 {
        return String::new();
    }
    let names: Vec<&str> = told.iter().map(|n| n.id.as_str()).collect();
    let distance = |row: usize, column: usize| told[row].distances.get(&told[column].numa_node?).map(ToString::to_string);
    super::part("From CPUs to memory", &matrix(&names, distance))
}

/// `text` after `first`, in lines of [`WIDTH`] that break at blanks and commas and are indented like the first.
fn fold(first: &str, text: &str) -> String {
    let indent = first.chars().count();
    let (mut lines, mut line, mut used) = (String::new(), first.to_owned(), indent);
    for piece in text.split_inclusive([' ', ',']) {
        let mut piece = piece.chars().collect::<Vec<_>>();
        let width = piece.iter().rev().skip_while(|c| **c == ' ').count();
        if used > indent && used + width > WIDTH {
            lines.push_str(&format!("{}\n", line.trim_end()));
            (line, used) = (" ".repeat(indent), indent);
        }
        // A word that is longer than a line is cut through.
        while used + piece.len() > WIDTH + 1 {
            let rest = piece.split_off((WIDTH - used).min(piece.len()));
            lines.push_str(&format!("{line}{}\n", piece.iter().collect::<String>()));
            (line, used, piece) = (" ".repeat(indent), indent, rest);
        }
        used += piece.len();
        line.extend(piece);
    }
    lines.push_str(&format!("{}\n", line.trim_end()));
    lines
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
