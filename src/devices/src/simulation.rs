//! `--devices FILE`: GPUs that are not there, with character devices as stand-ins. CPUs stay the machine's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::spec::MAX_INDEX;
use crate::{Gpu, Inventory, Vendor};

/// A simulation that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct SimulationError {
    /// The file.
    pub file: String,
    /// What is wrong, with its line.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    gpu: Vec<RawGpu>,
    #[serde(default)]
    shared: Shared,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Shared {
    nodes: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGpu {
    index: u32,
    uuid: Option<String>,
    vendor: Vendor,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    memory: Option<String>,
    #[serde(default)]
    pci: Option<String>,
    #[serde(default)]
    numa_node: Option<u32>,
    #[serde(default)]
    nodes: Vec<PathBuf>,
    #[serde(default)]
    links: BTreeMap<String, String>,
}

impl Inventory {
    /// This machine's CPUs with the GPUs of `text`, the content of `file`.
    ///
    /// Errors: no TOML, an unknown key, two GPUs with one index or UUID, a value that no GPU can have, a node outside `/dev`.
    pub fn from_simulation(text: &str, file: &str) -> Result<Self, SimulationError> {
        let wrong = |message: String| SimulationError { file: file.to_owned(), message };
        let parsed: File = toml::from_str(text).map_err(|e| wrong(e.to_string().trim().to_owned()))?;
        let (mut indices, mut uuids) = (BTreeSet::new(), BTreeSet::new());
        let mut gpus = Vec::new();
        for raw in parsed.gpu {
            let index = raw.index;
            if !indices.insert(index) {
                return Err(wrong(format!("there are two GPUs with index {index}")));
            }
            if let Some(uuid) = raw.uuid.as_ref().filter(|uuid| !uuids.insert(uuid.to_ascii_lowercase())) {
                return Err(wrong(format!("there are two GPUs with UUID {uuid}")));
            }
            gpus.push(gpu(raw).map_err(|e| wrong(format!("GPU {index}: {e}")))?);
        }
        if let Some(bad) = parsed.shared.nodes.iter().find(|n| !plain(n)) {
            return Err(wrong(format!("{} is no path below /dev", bad.display())));
        }
        gpus.sort_by_key(|g| g.index);
        let mut inventory = Self::probe_cpus(Path::new("/"));
        inventory.notes.push("the GPUs are simulated".into());
        Ok(Self { gpus, shared: parsed.shared.nodes, source: file.to_owned(), ..inventory })
    }
}

fn gpu(raw: RawGpu) -> Result<Gpu, String> {
    if raw.index > MAX_INDEX {
        return Err(format!("the index is above {MAX_INDEX}, which no request can name"));
    }
    // It goes into variables whose parts are told apart by commas.
    if let Some(bad) =
        raw.uuid.as_ref().filter(|u| u.is_empty() || u.len() > 80 || !u.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b)))
    {
        return Err(format!("{bad:?} is no UUID such as \"GPU-5c0e3b1a-0000-4000-8000-000000000000\""));
    }
    if let Some(bad) = raw.nodes.iter().find(|n| !plain(n)) {
        return Err(format!("{} is no path below /dev", bad.display()));
    }
    let memory_bytes = raw.memory.as_deref().map(size).transpose()?;
    let links = raw.links.into_iter().map(|(k, v)| k.parse().map(|k| (k, v)).map_err(|_| format!("{k:?} is no GPU's index")));
    Ok(Gpu {
        index: raw.index,
        uuid: raw.uuid,
        vendor: raw.vendor,
        name: raw.name.unwrap_or_else(|| "Simulated GPU".into()),
        memory_bytes,
        pci: raw.pci,
        numa_node: raw.numa_node,
        nodes: raw.nodes,
        links: links.collect::<Result<_, _>>()?,
        driver: None,
        mig: None,
        partitioned: false,
    })
}

fn plain(path: &Path) -> bool {
    path.starts_with("/dev") && path != Path::new("/dev") && !path.components().any(|c| c == std::path::Component::ParentDir)
}

/// `"80GiB"`: a whole number of MiB, GiB or TiB.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let units = [("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let found = units.iter().find_map(|(unit, shift)| text.trim().strip_suffix(unit).map(|n| (n.trim(), *shift)));
    let bytes = found.and_then(|(n, shift)| n.parse::<u64>().ok()?.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("{text:?} is no size such as \"80GiB\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_stay_the_machines_own_and_gpus_come_by_index() {
        let text = "[[gpu]]\nindex = 3\nvendor = \"amd\"\n[[gpu]]\nindex = 1\nvendor = \"intel\"\n";
        let (simulated, real) = (Inventory::from_simulation(text, "d.toml").unwrap(), Inventory::probe());
        assert_eq!((&simulated.cpus, &simulated.nodes), (&real.cpus, &real.nodes));
        assert_eq!((simulated.gpus.iter().map(|g| g.index).collect::<Vec<_>>(), simulated.source.as_str()), (vec![1, 3], "d.toml"));
        assert!(Inventory::from_simulation("", "d.toml").unwrap().gpus.is_empty(), "a host that plays to have none");
    }

    #[test]
    fn the_documented_example_is_taken_and_a_typo_is_told_with_file_line_and_key() {
        let example = "[[gpu]]\nindex = 0\nuuid = \"GPU-5c0e3b1a-0000-4000-8000-000000000000\"\nvendor = \"nvidia\"\nname = \"Simulated 80 GiB\"\nmemory = \"80GiB\"\npci = \"0000:01:00.0\"\nnuma_node = 0\nnodes = [\"/dev/full\"]\nlinks = { 1 = \"nvlink\" }\n";
        let gpu = Inventory::from_simulation(example, "d.toml").unwrap().gpus.remove(0);
        assert_eq!((gpu.links[&1].as_str(), gpu.numa_node, gpu.name.as_str()), ("nvlink", Some(0), "Simulated 80 GiB"));
        let error = Inventory::from_simulation(&example.replace("memory", "memroy"), "d.toml").unwrap_err().to_string();
        assert!(error.starts_with("d.toml: ") && error.contains("line 6") && error.contains("memroy"), "{error}");
    }

    #[test]
    fn a_simulation_is_strict() {
        let ok = "[[gpu]]\nindex = 0\nuuid = \"GPU-a\"\nvendor = \"nvidia\"\nmemory = \"80GiB\"\nnodes = [\"/dev/full\"]\nlinks = { 1 = \"nvlink\" }\n[shared]\nnodes = [\"/dev/zero\"]\n";
        let inventory = Inventory::from_simulation(ok, "d.toml").unwrap();
        assert_eq!((inventory.gpus.len(), inventory.gpus[0].memory_bytes, inventory.shared.len()), (1, Some(80 << 30), 1));
        for bad in [
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnames = \"x\"",
            "[[gpu]]\nindex = 0\nvendor = \"matrox\"",
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnodes = [\"/etc/passwd\"]",
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"80\"",
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu]]\nindex = 0\nvendor = \"nvidia\"",
            "[[gpu]]\nindex = 0\nuuid = \"GPU-A\"\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nuuid = \"GPU-a\"\nvendor = \"nvidia\"",
            "[[gpu]]\nindex = 4096\nvendor = \"nvidia\"",
            "[[gpu]]\nindex = -1\nvendor = \"nvidia\"",
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nuuid = \"GPU-a,GPU-b\"",
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"99999999999TiB\"",
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnodes = [\"/dev/../etc/passwd\"]",
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nlinks = { one = \"nvlink\" }",
            "[[gpu]]\nvendor = \"nvidia\"",
            "[shared]\nnodes = [\"/\"]",
            "[cpu]\ncount = 3",
        ] {
            assert!(Inventory::from_simulation(bad, "d.toml").is_err(), "accepted:\n{bad}");
        }
    }
}
