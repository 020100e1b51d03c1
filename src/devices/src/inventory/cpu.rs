//! CPUs, their siblings and NUMA nodes from `/sys/devices/system`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::NumaNode;

/// More CPUs than any kernel is built for: a list that names more is not believed.
pub(crate) const MAX_CPUS: u32 = 1 << 16;

/// The online CPUs, and the nodes (one that is the whole machine where the kernel knows of none). `root` is `/`.
pub(super) fn probe(root: &Path, notes: &mut Vec<String>) -> (String, Vec<NumaNode>) {
    let system = root.join("sys/devices/system");
    let online = read(system.join("cpu/online")).unwrap_or_else(|| {
        notes.push("/sys/devices/system/cpu/online can't be read: the CPUs are counted by sched_getaffinity".into());
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        if count == 1 { "0".into() } else { format!("0-{}", count - 1) }
    });
    let cores = cores(&system.join("cpu"));
    let mut nodes: Vec<NumaNode> = numbered(&system.join("node"), "node").into_iter().filter_map(|(id, path)| node(id, &path)).collect();
    if nodes.is_empty() {
        nodes.push(NumaNode { id: 0, cpus: online.clone(), memory_bytes: None, smt_siblings: vec![] });
    }
    for node in &mut nodes {
        let own = numbers(&node.cpus);
        node.smt_siblings = cores.iter().filter(|(first, _)| own.contains(first)).map(|(_, list)| list.clone()).collect();
    }
    (online, nodes)
}

/// Cores with more than one CPU: the first and all of them, in list format.
fn cores(cpus: &Path) -> BTreeSet<(u32, String)> {
    let list = |(_, path): (u32, PathBuf)| {
        // The old name is all that kernels before 5.3 have.
        let text = read(path.join("topology/core_cpus_list")).or_else(|| read(path.join("topology/thread_siblings_list")))?;
        let own = numbers(&text);
        (own.len() > 1).then(|| own.first().map(|first| (*first, text))).flatten()
    };
    numbered(cpus, "cpu").into_iter().filter_map(list).collect()
}

fn node(id: u32, path: &Path) -> Option<NumaNode> {
    let cpus = read(path.join("cpulist"))?;
    // A node without CPUs (memory only) can't be run on.
    (!cpus.is_empty()).then(|| NumaNode { id, cpus, memory_bytes: memory(path), smt_siblings: vec![] })
}

fn memory(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path.join("meminfo")).ok()?;
    let line = text.lines().find(|l| l.contains("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().rev().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// From the CPUs of each node to the memory of each (`node*/distance`: one number for every node that is online, in their order).
pub(super) fn distances(root: &Path) -> BTreeMap<u32, BTreeMap<u32, u32>> {
    let nodes = numbered(&root.join("sys/devices/system/node"), "node");
    let row = |path: &Path| -> Option<BTreeMap<u32, u32>> {
        let told: Vec<u32> = read(path.join("distance"))?.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        // Of a row that has another length nobody knows which node a number means.
        (told.len() == nodes.len()).then(|| nodes.iter().map(|(id, _)| *id).zip(told).collect())
    };
    nodes.iter().filter_map(|(id, path)| Some((*id, row(path)?))).collect()
}

/// CPUs of each package, in list format.
pub(super) fn packages(root: &Path) -> BTreeMap<u32, String> {
    let mut packages: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (cpu, path) in numbered(&root.join("sys/devices/system/cpu"), "cpu") {
        // -1 where the firmware tells none.
        if let Some(package) = read(path.join("topology/physical_package_id")).and_then(|t| t.parse().ok()) {
            packages.entry(package).or_default().insert(cpu);
        }
    }
    packages.into_iter().map(|(package, cpus)| (package, ranges(&cpus))).collect()
}

/// In list format: `0-3,8`.
pub(crate) fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*n) => *last = *n,
            _ => runs.push((*n, *n)),
        }
    }
    let run = |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

/// The entries of `dir` that are `prefix` and a number, by number.
pub(crate) fn numbered(dir: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let number = |path: PathBuf| Some((path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok()?, path));
    let mut found: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|e| number(e.path())).collect();
    found.sort();
    found
}

/// The numbers of a list such as `0-3,8` (`cpuset(7)`, "List format"); what is no number is left out.
pub(crate) fn numbers(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse::<u32>().ok()?, to.trim().parse::<u32>().ok()?);
        (to < MAX_CPUS).then_some(from..=to)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// A file's text without the white space around it.
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inventory::fake::host;

    #[test]
    fn each_node_has_its_cpus_memory_and_sibling_pairs() {
        let root = host(&[
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0,2\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,3\n"),
            ("sys/devices/system/cpu/cpu2/topology/core_cpus_list", "0,2\n"),
            ("sys/devices/system/cpu/cpu3/topology/core_cpus_list", "1,3\n"),
            ("sys/devices/system/cpu/cpufreq/x", ""),
            ("sys/devices/system/node/node10/cpulist", "1,3\n"),
            ("sys/devices/system/node/node10/meminfo", "Node 10 MemTotal:       1024 kB\nNode 10 MemFree: 5 kB\n"),
            ("sys/devices/system/node/node2/cpulist", "0,2\n"),
            ("sys/devices/system/node/node3/cpulist", "\n"),
        ]);
        let mut notes = vec![];
        let (online, nodes) = probe(root.path(), &mut notes);
        let node = |id, cpus: &str, memory_bytes| NumaNode { id, cpus: cpus.into(), memory_bytes, smt_siblings: vec![cpus.into()] };
        assert_eq!((online.as_str(), nodes), ("0-3", vec![node(2, "0,2", None), node(10, "1,3", Some(1 << 20))]));
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn a_machine_that_knows_no_nodes_is_node_0() {
        let root = host(&[("sys/devices/system/cpu/online", "0-7\n"), ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0\n")]);
        let (_, nodes) = probe(root.path(), &mut vec![]);
        assert_eq!(nodes, [NumaNode { id: 0, cpus: "0-7".into(), memory_bytes: None, smt_siblings: vec![] }]);
    }

    #[test]
    fn a_machine_without_sysfs_still_has_a_cpu_and_a_note() {
        let (root, mut notes) = (host(&[]), vec![]);
        let (online, nodes) = probe(root.path(), &mut notes);
        assert!(numbers(&online).contains(&0) && nodes.len() == 1 && notes[0].contains("cpu/online"), "{online} {notes:?}");
    }

    #[test]
    fn distances_belong_to_the_online_nodes_in_their_order_and_a_row_of_another_length_to_nobody() {
        let root = host(&[
            ("sys/devices/system/node/node0/distance", "10 21 17\n"),
            ("sys/devices/system/node/node2/distance", "21 10 28\n"),
            ("sys/devices/system/node/node10/distance", "17 28\n"),
        ]);
        let told = distances(root.path());
        assert_eq!(told[&0], BTreeMap::from([(0, 10), (2, 21), (10, 17)]));
        assert!(told[&2][&10] == 28 && !told.contains_key(&10), "{told:?}");
    }

    #[test]
    fn packages_are_the_cpus_that_name_them() {
        let topology = |cpu: u32| format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id");
        let files: Vec<(String, &str)> =
            [(0, "0\n"), (1, "0\n"), (2, "1\n"), (3, "0\n"), (4, "-1\n")].map(|(n, p)| (topology(n), p)).to_vec();
        let root = host(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
        assert_eq!(packages(root.path()), BTreeMap::from([(0, "0-1,3".to_owned()), (1, "2".to_owned())]));
    }

    #[test]
    fn a_list_is_numbers_and_ranges() {
        assert_eq!(numbers("0-2, 8"), BTreeSet::from([0, 1, 2, 8]));
        assert!(numbers("").is_empty() && numbers("3-1").is_empty() && numbers("0-4294967295").is_empty());
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(text in "[0-9,\\- ]{0,40}|\\PC{0,20}") {
            let _ = numbers(&text);
        }

        #[test]
        fn a_list_that_was_written_is_read_as_it_was(set in proptest::collection::btree_set(0u32..200, 0..60)) {
            prop_assert_eq!(numbers(&ranges(&set)), set);
        }
    }
}
