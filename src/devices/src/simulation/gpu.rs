//! Simulated GPUs and their parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::facts::{Facts, RawProcess, RawXid};
use super::{plain, size};
use crate::cdi;
use crate::spec::MAX_INDEX;
use crate::{DriverMount, Gpu, Mig, Vendor};

/// One `[[gpu]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) index: u32,
    uuid: Option<String>,
    vendor: Vendor,
    name: Option<String>,
    memory: Option<String>,
    pci: Option<String>,
    numa_node: Option<u32>,
    #[serde(default)]
    nodes: Vec<PathBuf>,
    #[serde(default)]
    links: BTreeMap<String, String>,
    driver: Option<String>,
    #[serde(default)]
    mounts: Vec<RawMount>,
    #[serde(default)]
    mig: Vec<RawMig>,
    memory_used: Option<String>,
    processes: Option<Vec<RawProcess>>,
    #[serde(default)]
    xid: Vec<RawXid>,
    #[serde(default)]
    hangs: bool,
    #[serde(default)]
    gone: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMount {
    host: PathBuf,
    inside: PathBuf,
}

/// One `[[gpu.mig]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMig {
    gpu_instance: u32,
    compute_instance: u32,
    uuid: Option<String>,
    profile: Option<String>,
    memory: Option<String>,
    #[serde(default)]
    nodes: Vec<PathBuf>,
    memory_used: Option<String>,
    processes: Option<Vec<RawProcess>>,
}

/// GPUs and what changes about them, parts after all whole ones. `raw` is by index.
pub(super) fn all(raw: Vec<Raw>) -> Result<(Vec<Gpu>, BTreeMap<u32, Facts>), String> {
    let (mut whole, mut parts, mut facts) = (Vec::<Gpu>::new(), Vec::new(), BTreeMap::new());
    let mut next = raw.last().map_or(0, |last| last.index.saturating_add(1));
    for mut raw in raw {
        let index = raw.index;
        let wrong = |e: String| format!("GPU {index}: {e}");
        if whole.iter().any(|g| g.index == index) {
            return Err(format!("there are two GPUs with index {index}"));
        }
        let (cut, seen) = (std::mem::take(&mut raw.mig), take_facts(&mut raw).map_err(wrong)?);
        let gpu = Gpu { partitioned: !cut.is_empty(), ..gpu(raw).map_err(wrong)? };
        for raw in sorted(cut, &gpu).map_err(wrong)? {
            let (part, of_part) = part(next, &gpu, raw).map_err(wrong)?;
            // A driver that hangs tells nothing of a part either.
            facts.insert(next, Facts { hangs: seen.hangs, gone: seen.gone, ..of_part });
            parts.push(part);
            next = next.saturating_add(1);
        }
        facts.insert(index, seen);
        whole.push(gpu);
    }
    whole.extend(parts);
    check(&whole)?;
    Ok((whole, facts))
}

fn check(gpus: &[Gpu]) -> Result<(), String> {
    let mut uuids = BTreeSet::new();
    for gpu in gpus {
        if gpu.index > MAX_INDEX {
            return Err(format!("GPU {}: the index is above {MAX_INDEX}, which no request can name", gpu.index));
        }
        if let Some(uuid) = gpu.uuid.as_ref().filter(|uuid| !uuids.insert(uuid.to_ascii_lowercase())) {
            return Err(format!("there are two GPUs with UUID {uuid}"));
        }
    }
    Ok(())
}

fn take_facts(raw: &mut Raw) -> Result<Facts, String> {
    let facts = Facts::of(raw.memory_used.as_deref(), raw.processes.take(), std::mem::take(&mut raw.xid))?;
    Ok(Facts { hangs: raw.hangs, gone: raw.gone, ..facts })
}

fn gpu(raw: Raw) -> Result<Gpu, String> {
    uuid(raw.uuid.as_deref())?;
    nodes(&raw.nodes)?;
    let links = raw.links.into_iter().map(|(k, v)| k.parse().map(|k| (k, v)).map_err(|_| format!("{k:?} is no GPU's index")));
    Ok(Gpu {
        uuid: raw.uuid,
        memory_bytes: raw.memory.as_deref().map(size).transpose()?,
        pci: raw.pci,
        numa_node: raw.numa_node,
        nodes: raw.nodes,
        links: links.collect::<Result<_, _>>()?,
        driver: raw.driver,
        mounts: raw.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        ..Gpu::new(raw.index, raw.vendor, raw.name.unwrap_or_else(|| "Simulated GPU".into()))
    })
}

/// As the real inventory orders them.
fn sorted(mut cut: Vec<RawMig>, gpu: &Gpu) -> Result<Vec<RawMig>, String> {
    if !cut.is_empty() && gpu.vendor != Vendor::Nvidia {
        return Err("MIG is NVIDIA's: no other GPU has [[gpu.mig]]".into());
    }
    cut.sort_by_key(|p| (p.gpu_instance, p.compute_instance));
    match cut.windows(2).find(|w| (w[0].gpu_instance, w[0].compute_instance) == (w[1].gpu_instance, w[1].compute_instance)) {
        Some(twice) => Err(format!("there are two parts {}/{}", twice[0].gpu_instance, twice[0].compute_instance)),
        None => Ok(cut),
    }
}

fn part(index: u32, parent: &Gpu, raw: RawMig) -> Result<(Gpu, Facts), String> {
    uuid(raw.uuid.as_deref())?;
    nodes(&raw.nodes)?;
    let facts = Facts::of(raw.memory_used.as_deref(), raw.processes, vec![])?;
    let profile = raw.profile.clone().unwrap_or_else(|| format!("{}/{}", raw.gpu_instance, raw.compute_instance));
    let part = Gpu {
        uuid: raw.uuid,
        memory_bytes: raw.memory.as_deref().map(size).transpose()?,
        pci: parent.pci.clone(),
        numa_node: parent.numa_node,
        nodes: parent.nodes.iter().cloned().chain(raw.nodes).collect(),
        driver: parent.driver.clone(),
        mig: Some(Mig {
            parent: parent.index,
            gpu_instance: raw.gpu_instance,
            compute_instance: raw.compute_instance,
            profile: raw.profile,
        }),
        mounts: parent.mounts.clone(),
        ..Gpu::new(index, parent.vendor, format!("{} MIG {profile}", parent.name))
    };
    Ok((part, facts))
}

/// It goes into variables whose parts are told apart by commas.
fn uuid(uuid: Option<&str>) -> Result<(), String> {
    let good = |u: &&str| !u.is_empty() && u.len() <= 80 && u.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b));
    match uuid.filter(|u| !good(u)) {
        Some(bad) => Err(format!("{bad:?} is no UUID such as \"GPU-5c0e3b1a-0000-4000-8000-000000000000\"")),
        None => Ok(()),
    }
}

fn nodes(nodes: &[PathBuf]) -> Result<(), String> {
    nodes.iter().find(|n| !plain(n)).map_or(Ok(()), |bad| Err(format!("{} is no path below /dev", bad.display())))
}

fn mount(raw: RawMount) -> Result<DriverMount, String> {
    let (host, inside) = (raw.host.display().to_string(), raw.inside.display().to_string());
    cdi::driver_mount(raw.host, raw.inside).map_err(|why| format!("mount of {host} at {inside} {why}"))
}
