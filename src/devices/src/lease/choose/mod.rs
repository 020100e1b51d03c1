//! The best set of GPUs out of those that could be had.
//!
//! One GPU: the smallest room that suffices, then the fewest links torn. Several: one NUMA node, then fast links, then the smallest room.
//! What is left equal goes by index. Must never know who asks.

mod search;

use std::cmp::Reverse;

use super::score::{link_cost, linked, numa_cost, on_one_node, torn_links};
use crate::{Gpu, Inventory};

/// Most sets that are all looked at; beyond that each GPU is grown into one set. Machines with 16 GPUs (12,870 sets of 8) and with 56 MIG
/// parts (27,720 sets of 3) are beyond it.
const MAX_SETS: u64 = 5_000;

/// A GPU that could be had, with the room on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) gpu: &'a Gpu,
    /// Bytes that are free, if known.
    pub(super) free: Option<u64>,
}

/// What every set must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many.
    pub(super) count: usize,
    /// All at one NUMA node.
    pub(super) same_numa: bool,
    /// Every pair with a fast link.
    pub(super) linked: bool,
}

impl Shape {
    fn allows(self, set: &[&Gpu]) -> bool {
        let all_linked = || set.iter().enumerate().all(|(at, a)| set[at + 1..].iter().all(|b| linked(a, b)));
        (!self.same_numa || on_one_node(set)) && (!self.linked || all_linked())
    }
}

/// The best set, ascending by index; `None` where there is none of this shape.
pub(super) fn best(inventory: &Inventory, candidates: &[Candidate<'_>], shape: Shape) -> Option<Vec<u32>> {
    if shape.count == 0 || candidates.len() < shape.count {
        return None;
    }
    let few = sets(candidates.len(), shape.count) <= MAX_SETS;
    let sets = if few { all(candidates, shape) } else { [grown(inventory, candidates, shape), searched(candidates, shape)].concat() };
    let free: Vec<&Gpu> = candidates.iter().map(|c| c.gpu).collect();
    let cost = |set: &Vec<Candidate<'_>>| {
        let gpus: Vec<&Gpu> = set.iter().map(|c| c.gpu).collect();
        let room = set.iter().map(|c| c.free.unwrap_or(u64::MAX)).fold(0u64, u64::saturating_add);
        let indices: Vec<u32> = gpus.iter().map(|g| g.index).collect();
        let near = (numa_cost(inventory, &gpus), link_cost(&gpus));
        // For one both are 0, and the room decides.
        (near, room, torn_links(&gpus, &free), indices)
    };
    sets.iter().map(cost).min().map(|(_, _, _, indices)| indices)
}

/// Whether a set of this shape may be among `gpus`; `false` only where it is certain that there is none.
pub(super) fn possible(gpus: &[&Gpu], shape: Shape) -> bool {
    match (shape.linked, shape.same_numa) {
        _ if shape.count == 0 || gpus.len() < shape.count => false,
        (true, _) => search::any(gpus, shape),
        (false, true) => shape.count == 1 || gpus.iter().any(|a| gpus.iter().filter(|b| on_one_node(&[a, b])).count() >= shape.count),
        (false, false) => true,
    }
}

/// Binomial coefficient, saturating.
fn sets(n: usize, k: usize) -> u64 {
    let k = k.min(n - k);
    (0..k).fold(1u64, |product, i| product.saturating_mul((n - i) as u64) / (i as u64 + 1))
}

fn all<'a>(candidates: &[Candidate<'a>], shape: Shape) -> Vec<Vec<Candidate<'a>>> {
    let mut found = Vec::new();
    extend(candidates, shape, &mut Vec::new(), &mut found);
    found
}

fn extend<'a>(rest: &[Candidate<'a>], shape: Shape, chosen: &mut Vec<Candidate<'a>>, found: &mut Vec<Vec<Candidate<'a>>>) {
    if chosen.len() == shape.count {
        found.push(chosen.clone());
        return;
    }
    for (at, candidate) in rest.iter().enumerate() {
        chosen.push(*candidate);
        if shape.allows(&gpus(chosen)) {
            extend(&rest[at + 1..], shape, chosen, found);
        }
        chosen.pop();
    }
}

/// Sets of linked GPUs, the first that a search finds; none where they need not be linked, for then those that are grown miss none.
fn searched<'a>(candidates: &[Candidate<'a>], shape: Shape) -> Vec<Vec<Candidate<'a>>> {
    let mut found: Vec<Vec<Candidate<'a>>> = Vec::new();
    if shape.linked {
        search::walk(&gpus(candidates), shape, &mut |set| {
            found.push(set.iter().map(|at| candidates[*at]).collect());
            (found.len() as u64) < MAX_SETS
        });
    }
    found
}

/// One set from each GPU on, always with the one that costs least. It can miss the best set, and of linked GPUs every set.
fn grown<'a>(inventory: &Inventory, candidates: &[Candidate<'a>], shape: Shape) -> Vec<Vec<Candidate<'a>>> {
    let mut found = Vec::new();
    for seed in candidates {
        let mut set = vec![*seed];
        while set.len() < shape.count {
            let with = |c: &Candidate<'a>| [gpus(&set), vec![c.gpu]].concat();
            let fitting = candidates.iter().filter(|c| set.iter().all(|s| s.gpu.index != c.gpu.index) && shape.allows(&with(c)));
            let cheapest =
                fitting.min_by_key(|c| (numa_cost(inventory, &with(c)), link_cost(&with(c)), c.free.map_or(Reverse(0), Reverse)));
            match cheapest {
                Some(next) => set.push(*next),
                None => break,
            }
        }
        if set.len() == shape.count {
            set.sort_by_key(|c| c.gpu.index);
            found.push(set);
        }
    }
    found
}

fn gpus<'a>(set: &[Candidate<'a>]) -> Vec<&'a Gpu> {
    set.iter().map(|c| c.gpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight GPUs: nodes 0 and 1 by halves; NVLink pairs 0-1, 2-3, 4-5, 6-7.
    fn host() -> Inventory {
        let gpu = |n: u32| {
            let (node, peer) = (n / 4, n ^ 1);
            format!(
                "[[gpu]]\nindex = {n}\nvendor = \"nvidia\"\nmemory = \"80GiB\"\nnuma_node = {node}\nlinks = {{ {peer} = \"nvlink\" }}\n"
            )
        };
        let mut host = Inventory::from_simulation(&(0..8).map(gpu).collect::<String>(), "d.toml").unwrap();
        let node = host.nodes[0].clone();
        host.nodes = vec![crate::NumaNode { id: 0, ..node.clone() }, crate::NumaNode { id: 1, ..node }];
        host
    }

    fn chosen(host: &Inventory, free: &[(u32, u64)], shape: Shape) -> Option<Vec<u32>> {
        let list: Vec<Candidate<'_>> = free.iter().map(|(n, bytes)| Candidate { gpu: host.gpu(*n).unwrap(), free: Some(*bytes) }).collect();
        best(host, &list, shape)
    }

    fn shape(count: usize) -> Shape {
        Shape { count, ..Shape::default() }
    }

    #[test]
    fn one_gpu_is_the_one_with_the_smallest_room() {
        assert_eq!(chosen(&host(), &[(0, 80), (3, 24), (5, 48)], shape(1)), Some(vec![3]));
        let host = host();
        let unknown = [Candidate { gpu: host.gpu(0).unwrap(), free: None }, Candidate { gpu: host.gpu(1).unwrap(), free: Some(9) }];
        assert_eq!(best(&host, &unknown, shape(1)), Some(vec![1]), "one that tells no memory comes last");
    }

    #[test]
    fn one_gpu_of_equal_room_tears_no_pair_apart() {
        assert_eq!(chosen(&host(), &[(0, 80), (1, 80), (2, 80)], shape(1)), Some(vec![2]), "its peer is taken already");
        assert_eq!(chosen(&host(), &[(0, 80), (1, 80)], shape(1)), Some(vec![0]), "then by index");
    }

    #[test]
    fn several_are_at_one_numa_node_before_anything_else() {
        assert_eq!(chosen(&host(), &[(3, 80), (4, 80), (6, 80)], shape(2)), Some(vec![4, 6]));
        assert_eq!(chosen(&host(), &[(3, 1), (4, 80), (6, 80)], shape(2)), Some(vec![4, 6]), "even where there is less room elsewhere");
    }

    #[test]
    fn several_have_fast_links_before_small_rooms() {
        assert_eq!(chosen(&host(), &[(0, 1), (2, 1), (3, 80)], shape(2)), Some(vec![2, 3]));
        assert_eq!(chosen(&host(), &[(0, 9), (2, 80), (3, 80), (4, 9), (5, 9)], shape(2)), Some(vec![4, 5]), "then by room");
    }

    #[test]
    fn what_must_be_at_one_node_or_linked_is_not_made_up() {
        let numa = Shape { same_numa: true, ..shape(2) };
        assert_eq!(chosen(&host(), &[(3, 80), (4, 80)], numa), None);
        let linked = Shape { linked: true, ..shape(2) };
        assert_eq!(chosen(&host(), &[(0, 80), (2, 80), (5, 80)], linked), None);
        assert_eq!(chosen(&host(), &[(0, 80), (2, 80), (3, 80)], linked), Some(vec![2, 3]));
        assert_eq!(chosen(&host(), &[(0, 80)], shape(2)), None);
    }

    #[test]
    fn the_grown_sets_keep_the_rules_of_the_exhaustive_ones() {
        let host = host();
        let list: Vec<Candidate<'_>> = host.gpus.iter().map(|gpu| Candidate { gpu, free: Some(80) }).collect();
        for (count, same_numa, linked) in [(2, false, false), (2, true, true), (4, true, false), (3, false, false)] {
            let shape = Shape { count, same_numa, linked };
            let grown = grown(&host, &list, shape);
            assert!(!grown.is_empty() && grown.iter().all(|set| set.len() == count && shape.allows(&gpus(set))), "{shape:?}");
        }
        assert!(grown(&host, &list, Shape { linked: true, ..shape(3) }).is_empty());
    }

    /// 24 GPUs of one node. The lowest sixteen are NVLink pairs, the last four are all linked, and each of these has one of `16..20` besides,
    /// which leads nowhere and comes first.
    fn large() -> Inventory {
        let linked = |n: u32| match n {
            0..16 => vec![n ^ 1],
            16..20 => vec![n + 4],
            _ => (20..24).filter(|other| *other > n).collect(),
        };
        let gpu = |n: u32| {
            let links: Vec<String> = linked(n).iter().map(|other| format!("{other} = \"nvlink\"")).collect();
            format!("[[gpu]]\nindex = {n}\nvendor = \"nvidia\"\nnuma_node = 0\nlinks = {{ {} }}\n", links.join(", "))
        };
        Inventory::from_simulation(&(0..24).map(gpu).collect::<String>(), "d.toml").unwrap()
    }

    #[test]
    fn linked_gpus_are_found_among_more_sets_than_are_looked_at() {
        let host = large();
        let gpu = |n: u32| host.gpu(n).unwrap();
        let linked = Shape { linked: true, ..shape(4) };
        let list: Vec<Candidate<'_>> = host.gpus.iter().map(|gpu| Candidate { gpu, free: Some(80) }).collect();
        assert!(sets(24, 4) > MAX_SETS && grown(&host, &list, linked).is_empty(), "growing alone misses them");
        assert_eq!(best(&host, &list, linked), Some(vec![20, 21, 22, 23]));
        assert!(possible(&host.gpus.iter().collect::<Vec<_>>(), linked));
        let without: Vec<&Gpu> = host.gpus.iter().filter(|g| g.index != 23).collect();
        assert!(!possible(&without, linked) && possible(&[gpu(20), gpu(21)], Shape { linked: true, ..shape(2) }));
    }

    #[test]
    fn a_search_that_finds_no_end_says_that_there_may_be_one() {
        // Complete in 30 parts of 2: any set of 31 has two that are not linked, and a search would try 2^30 of them.
        let gpus: String = (0..60).map(|n| format!("[[gpu]]\nindex = {n}\nvendor = \"nvidia\"\n")).collect();
        let mut host = Inventory::from_simulation(&gpus, "d.toml").unwrap();
        for n in 0..60u32 {
            host.gpus[n as usize].links = (0..60).filter(|m| m / 2 != n / 2).map(|m| (m, "nvlink".to_owned())).collect();
        }
        let all: Vec<&Gpu> = host.gpus.iter().collect();
        assert!(possible(&all, Shape { linked: true, ..shape(31) }), "not found out");
        assert!(possible(&all, Shape { linked: true, ..shape(30) }));
    }

    #[test]
    fn sets_are_counted_without_overflow() {
        assert_eq!((sets(8, 2), sets(8, 8), sets(16, 8)), (28, 1, 12_870));
        assert!(sets(64, 32) > MAX_SETS);
    }
}
