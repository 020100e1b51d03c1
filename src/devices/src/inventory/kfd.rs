//! AMD's compute topology (`/sys/class/kfd/kfd/topology`): ids, memory and fast links, and who computes.
//!
//! Must never know indices: a GPU is its render node's number here.

use std::fs;
use std::path::Path;

use super::cpu::{numbered, read};
use crate::GpuProcess;

/// `HSA_IOLINK_TYPE_XGMI` of the kernel's `kfd_crat.h`.
const XGMI: u64 = 11;
/// Processes of one GPU that are looked at.
const MAX_PROCESSES: usize = 512;

/// One node of the topology that is a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Number of the node in the topology.
    number: u32,
    /// Number of its render node.
    pub(super) render: u32,
    /// As the driver calls it in the processes' directories.
    gpu_id: Option<u32>,
    /// What is unique to it: 16 hexadecimal digits.
    pub(super) unique_id: Option<String>,
    /// Bytes of its memory.
    pub(super) memory_bytes: Option<u64>,
    /// Numbers of the nodes that XGMI leads to.
    xgmi: Vec<u32>,
}

/// Every GPU of the topology. `root` is `/`.
pub(super) fn nodes(root: &Path) -> Vec<Node> {
    let all = numbered(&root.join("sys/class/kfd/kfd/topology/nodes"), "");
    all.into_iter().filter_map(|(number, path)| node(number, &path)).collect()
}

fn node(number: u32, path: &Path) -> Option<Node> {
    let properties = read(path.join("properties"))?;
    // CPUs are nodes too, and have no render node.
    let render = property(&properties, "drm_render_minor").and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)?;
    let below = |kind: &str| numbered(&path.join(kind), "").into_iter().filter_map(|(_, path)| read(path.join("properties")));
    let banks: Vec<u64> = below("mem_banks").filter_map(|bank| property(&bank, "size_in_bytes")).collect();
    let xgmi =
        below("io_links").filter(|link| property(link, "type") == Some(XGMI)).filter_map(|l| property(&l, "node_to")?.try_into().ok());
    Some(Node {
        number,
        render,
        gpu_id: read(path.join("gpu_id")).and_then(|id| id.parse().ok()).filter(|id| *id != 0),
        unique_id: property(&properties, "unique_id").filter(|id| *id != 0).map(|id| format!("{id:016x}")),
        memory_bytes: banks.iter().try_fold(0_u64, |sum, bytes| sum.checked_add(*bytes)).filter(|sum| *sum > 0),
        xgmi: xgmi.collect(),
    })
}

/// The value of `name` in lines of names and numbers.
fn property(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.split_once(' ').filter(|(key, _)| *key == name));
    line.and_then(|(_, value)| value.trim().parse().ok())
}

/// Render nodes that XGMI joins, in both directions.
pub(super) fn linked(nodes: &[Node]) -> Vec<(u32, u32)> {
    let pairs = nodes.iter().flat_map(|from| nodes.iter().filter(|to| to.number != from.number).map(move |to| (from, to)));
    let joined = pairs.filter(|(from, to)| from.xgmi.contains(&to.number) || to.xgmi.contains(&from.number));
    joined.map(|(from, to)| (from.render, to.render)).collect()
}

/// Processes that compute on a render node's GPU, with their memory on it; `None` where the driver lists none.
pub(super) fn processes(root: &Path, render: u32) -> Option<Vec<GpuProcess>> {
    let gpu_id = nodes(root).into_iter().find(|n| n.render == render)?.gpu_id?;
    let listed = root.join("sys/class/kfd/kfd/proc");
    fs::read_dir(&listed).ok()?;
    let of = |(pid, path): (u32, std::path::PathBuf)| {
        let memory_bytes: u64 = read(path.join(format!("vram_{gpu_id}")))?.parse().ok()?;
        // A process has a file for each GPU, used or not.
        (memory_bytes > 0).then_some(GpuProcess { pid: i32::try_from(pid).ok()?, memory_bytes: Some(memory_bytes) })
    };
    Some(numbered(&listed, "").into_iter().filter_map(of).take(MAX_PROCESSES).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fake::host;

    const NODES: &str = "sys/class/kfd/kfd/topology/nodes";

    #[test]
    fn gpus_have_ids_memory_and_the_nodes_that_xgmi_leads_to() {
        let files = [
            ("0/properties", "cpu_cores_count 8\ndrm_render_minor 0\n"),
            ("1/properties", "simd_count 304\nunique_id 1884489346\ndrm_render_minor 128\n"),
            ("1/gpu_id", "4001\n"),
            ("1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 1024\n"),
            ("1/io_links/0/properties", "type 2\nnode_to 0\n"),
            ("1/io_links/1/properties", "type 11\nnode_to 2\n"),
            ("2/properties", "unique_id 0\ndrm_render_minor 129\n"),
        ];
        let files: Vec<(String, &str)> = files.iter().map(|(path, text)| (format!("{NODES}/{path}"), *text)).collect();
        let root = host(&files.iter().map(|(p, t)| (p.as_str(), *t)).collect::<Vec<_>>());
        let nodes = nodes(root.path());
        assert_eq!(
            nodes.iter().map(|n| (n.render, n.unique_id.as_deref(), n.memory_bytes)).collect::<Vec<_>>(),
            [(128, Some("0000000070530682"), Some(1024)), (129, None, None),]
        );
        assert_eq!(linked(&nodes), [(128, 129), (129, 128)]);
    }

    #[test]
    fn who_holds_memory_is_listed_and_no_list_is_not_an_empty_one() {
        let root = host(&[
            ("sys/class/kfd/kfd/topology/nodes/1/properties", "drm_render_minor 128\n"),
            ("sys/class/kfd/kfd/topology/nodes/1/gpu_id", "77\n"),
            ("sys/class/kfd/kfd/proc/4242/vram_77", "2048\n"),
            ("sys/class/kfd/kfd/proc/4243/vram_77", "0\n"),
            ("sys/class/kfd/kfd/proc/4244/vram_78", "5\n"),
        ]);
        assert_eq!(processes(root.path(), 128), Some(vec![GpuProcess { pid: 4242, memory_bytes: Some(2048) }]));
        assert_eq!(processes(root.path(), 129), None);
        assert_eq!(processes(host(&[]).path(), 128), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(type |node_to |[0-9]{1,30}|\n|\\PC){0,20}") {
            let _ = (property(&text, "type"), property(&text, "node_to"));
        }
    }
}
