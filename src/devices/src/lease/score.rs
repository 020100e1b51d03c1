//! What makes one choice of GPUs better than another. Pure functions; smaller is better everywhere.

use crate::{Gpu, Inventory};

/// What two GPUs that no link is known between cost.
const NO_LINK: u32 = 6;
/// Where the kernel tells no distance: another node, as its own tables have it (10 is the node itself).
const REMOTE: u32 = 20;
const LOCAL: u32 = 10;

/// How far a link is from the fastest kind: NVLink and xGMI, then one PCIe switch, several, one host bridge, one NUMA node, the whole
/// machine. The names are those of `nvidia-smi topo`.
pub(super) fn link_rank(link: &str) -> u32 {
    let link = link.to_ascii_lowercase();
    let is = |prefix: &str| link.starts_with(prefix);
    match () {
        () if is("nv") || is("xgmi") => 0,
        () if is("pix") => 1,
        () if is("pxb") => 2,
        () if is("phb") => 3,
        () if is("node") => 4,
        () if is("sys") => 5,
        () => NO_LINK,
    }
}

/// The best link between two GPUs; either may tell of it.
pub(super) fn between(a: &Gpu, b: &Gpu) -> u32 {
    let told = [a.links.get(&b.index), b.links.get(&a.index)];
    told.into_iter().flatten().map(|l| link_rank(l)).min().unwrap_or(NO_LINK)
}

/// Whether two GPUs reach each other's memory without the PCI bus.
pub(super) fn linked(a: &Gpu, b: &Gpu) -> bool {
    between(a, b) == 0
}

/// Sum over all pairs of the set.
pub(super) fn link_cost(set: &[&Gpu]) -> u32 {
    pairs(set).map(|(a, b)| between(a, b)).sum()
}

/// NUMA distance between the nodes of two GPUs. One whose node is not known is taken for remote.
pub(super) fn numa_distance(inventory: &Inventory, a: &Gpu, b: &Gpu) -> u32 {
    match (a.numa_node, b.numa_node) {
        (Some(a), Some(b)) if a == b => LOCAL,
        (Some(a), Some(b)) => inventory.distance(a, b).unwrap_or(REMOTE),
        // A machine with one node has nothing that is remote.
        _ if inventory.nodes.len() == 1 => LOCAL,
        _ => REMOTE,
    }
}

/// Sum over all pairs of the set.
pub(super) fn numa_cost(inventory: &Inventory, set: &[&Gpu]) -> u32 {
    pairs(set).map(|(a, b)| numa_distance(inventory, a, b)).sum()
}

/// Whether all of the set are known to be at one NUMA node.
pub(super) fn on_one_node(set: &[&Gpu]) -> bool {
    let first = set.first().and_then(|g| g.numa_node);
    set.len() < 2 || (first.is_some() && set.iter().all(|g| g.numa_node == first))
}

/// Fast links to free GPUs that a set would tear apart: who asks for linked ones next finds them together.
pub(super) fn torn_links(set: &[&Gpu], free: &[&Gpu]) -> u32 {
    let outside = free.iter().filter(|f| set.iter().all(|g| g.index != f.index));
    let torn = outside.map(|f| set.iter().filter(|g| linked(g, f)).count()).sum::<usize>();
    u32::try_from(torn).unwrap_or(u32::MAX)
}

fn pairs<'a>(set: &'a [&'a Gpu]) -> impl Iterator<Item = (&'a Gpu, &'a Gpu)> {
    set.iter().enumerate().flat_map(|(at, a)| set[at + 1..].iter().map(|b| (*a, *b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Inventory {
        let text = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnuma_node = 0\nlinks = { 1 = \"nvlink\", 2 = \"sys\" }\n\
                    [[gpu]]\nindex = 1\nvendor = \"nvidia\"\nnuma_node = 0\n\
                    [[gpu]]\nindex = 2\nvendor = \"nvidia\"\nnuma_node = 1\n\
                    [[gpu]]\nindex = 3\nvendor = \"nvidia\"\n";
        let mut host = Inventory::from_simulation(text, "d.toml").unwrap();
        let node = host.nodes[0].clone();
        host.nodes = vec![crate::NumaNode { id: 0, ..node.clone() }, crate::NumaNode { id: 1, ..node }];
        host
    }

    #[test]
    fn links_are_ranked_from_nvlink_to_none() {
        let ranks: Vec<u32> = ["nvlink", "pix", "pxb", "phb", "node", "sys", "string"].map(link_rank).to_vec();
        assert_eq!(ranks, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(["NV12", "nvlink4", "xgmi", "PIX"].map(link_rank), [0, 0, 0, 1]);
    }

    #[test]
    fn a_link_counts_whichever_end_tells_of_it() {
        let host = host();
        let gpu = |n| host.gpu(n).unwrap();
        assert_eq!((between(gpu(0), gpu(1)), between(gpu(1), gpu(0)), between(gpu(1), gpu(2))), (0, 0, 6));
        assert!(linked(gpu(1), gpu(0)) && !linked(gpu(0), gpu(2)));
        assert_eq!(link_cost(&[gpu(0), gpu(1), gpu(2)]), 5 + 6);
    }

    #[test]
    fn another_node_is_farther_than_the_same_and_an_unknown_one_is_no_nearer() {
        let mut host = host();
        let cost = |host: &Inventory, a, b| numa_cost(host, &[host.gpu(a).unwrap(), host.gpu(b).unwrap()]);
        assert!(cost(&host, 0, 1) < cost(&host, 0, 2));
        assert_eq!(cost(&host, 0, 3), cost(&host, 0, 2));
        host.distances = [(0, [(0, 10), (1, 40)].into())].into();
        assert_eq!(cost(&host, 0, 2), 40, "as far as the kernel says");
        host.nodes.truncate(1);
        assert_eq!(cost(&host, 0, 3), cost(&host, 0, 1), "on one node everything is near");
    }

    #[test]
    fn one_node_must_be_known_to_be_one() {
        let host = host();
        let set = |list: &[u32]| on_one_node(&list.iter().map(|n| host.gpu(*n).unwrap()).collect::<Vec<_>>());
        assert!(set(&[0, 1]) && set(&[3]) && !set(&[0, 2]) && !set(&[0, 3]));
    }

    #[test]
    fn a_link_is_torn_where_one_end_is_taken_and_the_other_stays_free() {
        let host = host();
        let gpu = |n| host.gpu(n).unwrap();
        let all: Vec<&Gpu> = host.gpus.iter().collect();
        assert_eq!(torn_links(&[gpu(0)], &all), 1);
        assert_eq!(torn_links(&[gpu(0), gpu(1)], &all), 0);
        assert_eq!(torn_links(&[gpu(2)], &all), 0);
        assert_eq!(torn_links(&[gpu(0)], &[gpu(0), gpu(2)]), 0, "its peer is taken already");
    }
}
