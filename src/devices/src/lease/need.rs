//! From a wish and the policy's terms to GPUs that could answer, whoever holds them now.
//!
//! What is refused here is refused on an idle machine, too. Must never know who holds a device.

use super::choose::{Shape, possible};
use super::share::{Share, size};
use super::{GpuDemand, LeaseError, Terms};
use crate::spec::MAX_COUNT;
use crate::{DeviceSpec, DeviceWish, Gpu, GpuName, Inventory};

/// What a request comes to on this host.
pub(super) enum Wanted {
    /// CPUs, by name; nobody holds one.
    Cpus(Vec<String>),
    /// GPUs.
    Gpus(Need),
}

/// GPUs that are needed.
#[derive(Clone, Debug)]
pub(super) struct Need {
    /// Those that could answer. Where `named`, exactly those that are wanted, in the order asked for.
    pub(super) candidates: Vec<u32>,
    pub(super) named: bool,
    pub(super) shape: Shape,
    pub(super) share: Share,
    /// Bytes that must be free on each.
    pub(super) bytes: Option<u64>,
}

/// What a request comes to.
pub(super) fn understand(inventory: &Inventory, spec: &DeviceSpec, terms: &Terms) -> Result<Wanted, LeaseError> {
    let all_cpus = || inventory.nodes.iter().map(|n| format!("CPU-{}", n.id)).collect();
    let wish = match spec {
        DeviceSpec::AnyCpu => return Ok(Wanted::Cpus(all_cpus())),
        DeviceSpec::Cpu(n) if inventory.nodes.iter().any(|node| node.id == *n) => return Ok(Wanted::Cpus(vec![format!("CPU-{n}")])),
        DeviceSpec::Cpu(n) => return Err(missing(inventory, format!("CPU-{n}"))),
        _ => spec.wish().unwrap_or_default(),
    };
    let anything = DeviceWish { when_busy: wish.when_busy, ..DeviceWish::default() } == wish;
    if anything && (terms.demand == GpuDemand::None || inventory.gpus.is_empty()) {
        // A model that needs so much of a GPU's memory is not meant to end up on the CPU of a machine that has none.
        if let (GpuDemand::Leased, Some(bytes)) = (terms.demand, terms.vram_min) {
            let what = format!("with {}, which the policy's vram_min asks for", size(bytes));
            return Err(LeaseError::NoSuchSet { count: terms.count as usize, what, there: inventory.names().join(", ") });
        }
        return Ok(Wanted::Cpus(all_cpus()));
    }
    let named = wish.gpus.iter().map(|name| find(inventory, name)).collect::<Result<Vec<&Gpu>, _>>()?;
    if terms.demand == GpuDemand::None {
        return Err(LeaseError::NotGranted { device: named.first().map_or_else(|| "one".to_owned(), |g| format!("GPU-{}", g.index)) });
    }
    let share = share(&wish, terms)?;
    let bytes = wish.min_memory.max(terms.vram_min);
    if let (Share::Memory(has), Some(needs)) = (share, bytes.filter(|b| share.part_of(u64::MAX) < *b)) {
        return contradiction(format!("a share of {} is less than the {} that are needed", size(has), size(needs)));
    }
    let excluded = wish.exclude.iter().filter_map(|name| find(inventory, name).ok()).map(|g| g.index).collect::<Vec<_>>();
    let count = if named.is_empty() { wish.count.unwrap_or(terms.count).clamp(1, MAX_COUNT) as usize } else { named.len() };
    let usable = |g: &&Gpu| !excluded.contains(&g.index) && !g.partitioned && (count == 1 || g.mig.is_none());
    let candidates = match named.is_empty() {
        false => check_named(inventory, &named, (&wish, &excluded))?,
        true => inventory.gpus.iter().filter(|g| answers(g, &wish)).filter(usable).collect(),
    };
    let shape = Shape { count, same_numa: wish.same_numa, linked: wish.linked };
    let fitting = large_enough(&candidates, (share, bytes), !named.is_empty())?;
    let need = Need { candidates: fitting.iter().map(|g| g.index).collect(), named: !named.is_empty(), shape, share, bytes };
    match possible(&fitting, shape) {
        true => Ok(Wanted::Gpus(need)),
        false => Err(LeaseError::NoSuchSet {
            count,
            what: in_words(&wish, bytes.max(share.bytes())) + beside_parts(inventory, count),
            there: inventory.names().join(", "),
        }),
    }
}

fn share(wish: &DeviceWish, terms: &Terms) -> Result<Share, LeaseError> {
    let asked = wish.share.or(terms.share).unwrap_or_default();
    match terms.share {
        Some(allowed) if !asked.within(allowed) => Err(LeaseError::ShareNotGranted { asked, allowed }),
        _ => Ok(asked),
    }
}

fn missing(inventory: &Inventory, name: String) -> LeaseError {
    LeaseError::NoSuchDevice { name, there: inventory.names().join(", ") }
}

fn contradiction<T>(what: String) -> Result<T, LeaseError> {
    Err(LeaseError::Contradiction { what })
}

fn find<'a>(inventory: &'a Inventory, name: &GpuName) -> Result<&'a Gpu, LeaseError> {
    let found = match name {
        GpuName::Index(n) => inventory.gpu(*n),
        GpuName::Uuid(uuid) => inventory.gpus.iter().find(|g| g.uuid.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(uuid))),
    };
    found.ok_or_else(|| missing(inventory, name.to_string()))
}

/// GPUs that are asked for by name must answer to everything else, too.
fn check_named<'a>(inventory: &Inventory, named: &[&'a Gpu], (wish, excluded): (&DeviceWish, &[u32])) -> Result<Vec<&'a Gpu>, LeaseError> {
    for (at, gpu) in named.iter().enumerate() {
        let device = format!("GPU-{}", gpu.index);
        if gpu.partitioned {
            let parts = inventory.gpus.iter().filter(|g| g.mig.as_ref().is_some_and(|m| m.parent == gpu.index));
            let parts = parts.map(|g| format!("GPU-{}", g.index)).collect::<Vec<_>>().join(" or ");
            return Err(LeaseError::Partitioned { device, parts: if parts.is_empty() { "nothing: there are none".into() } else { parts } });
        }
        if named[..at].iter().any(|g| g.index == gpu.index) {
            return contradiction(format!("{device} is named twice"));
        }
        if excluded.contains(&gpu.index) {
            return contradiction(format!("{device} is asked for and excluded"));
        }
        // CUDA shows a process the first MIG part alone, and no whole GPU beside it (NVIDIA's MIG user guide, "CUDA Device Enumeration").
        if named.len() > 1 && gpu.mig.is_some() {
            return contradiction(format!("{device} is a MIG part, and several GPUs are asked for: one process can use one part alone"));
        }
        if !answers(gpu, wish) {
            return contradiction(format!("{device} is asked for, and it is none {}", in_words(wish, None)));
        }
    }
    Ok(named.to_vec())
}

/// Those on which one holder of the share has as much memory as it needs. Of named ones each must; an unknown size is not enough.
pub(super) fn large_enough<'a>(
    candidates: &[&'a Gpu],
    (share, bytes): (Share, Option<u64>),
    named: bool,
) -> Result<Vec<&'a Gpu>, LeaseError> {
    let mut fitting = Vec::new();
    for gpu in candidates {
        let device = || format!("GPU-{}", gpu.index);
        let wrong = match (share, bytes, gpu.memory_bytes) {
            (Share::Memory(_), _, None) => Some(LeaseError::MemoryUnknown { device: device() }),
            (_, Some(needs), None) => {
                Some(LeaseError::TooSmall { device: device(), has: "a memory of unknown size".into(), needs: size(needs) })
            }
            (Share::Memory(part), _, Some(total)) if part > total => {
                Some(LeaseError::TooSmall { device: device(), has: size(total), needs: size(part) })
            }
            (_, Some(needs), Some(total)) if share.part_of(total) < needs => {
                Some(LeaseError::TooSmall { device: device(), has: size(share.part_of(total)), needs: size(needs) })
            }
            _ => None,
        };
        match wrong {
            None => fitting.push(*gpu),
            // Where there is no choice, or it is the only one, its own reason says more.
            Some(error) if named || candidates.len() == 1 => return Err(error),
            Some(_) => {}
        }
    }
    Ok(fitting)
}

fn answers(gpu: &Gpu, wish: &DeviceWish) -> bool {
    wish.vendor.is_none_or(|v| v == gpu.vendor)
        && wish.name.as_ref().is_none_or(|pattern| matches(pattern, &gpu.name))
        && wish.numa_node.is_none_or(|node| gpu.numa_node == Some(node))
}

/// Whether `text` is like `pattern`: `*` any text, `?` any character, a part where the pattern has neither; in any case.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.to_lowercase().chars().collect(), text.to_lowercase().chars().collect());
    if !pattern.iter().any(|c| matches!(c, '*' | '?')) {
        return text.windows(pattern.len().max(1)).any(|part| part == pattern.as_slice());
    }
    // Where a star stood, and how much of the text it has taken: one step back is enough, which keeps this from growing with the stars.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = star {
            (p, t, star) = (at + 1, taken + 1, Some((at, taken + 1)));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// What else a set of several must be, where the host has parts that look as if they would do.
fn beside_parts(inventory: &Inventory, count: usize) -> &'static str {
    let parts = count > 1 && inventory.gpus.iter().any(|g| g.mig.is_some());
    if parts { ", MIG parts left out, of which one process can use one alone" } else { "" }
}

fn in_words(wish: &DeviceWish, bytes: Option<u64>) -> String {
    let parts = [
        bytes.map(|b| format!("with {}", size(b))),
        wish.vendor.map(|v| format!("of vendor {}", format!("{v:?}").to_lowercase())),
        wish.name.as_ref().map(|n| format!("named {n:?}")),
        wish.numa_node.map(|n| format!("at NUMA node {n}")),
        wish.same_numa.then(|| "at one NUMA node".to_owned()),
        wish.linked.then(|| "that are all linked".to_owned()),
        (!wish.exclude.is_empty()).then(|| "beside the excluded ones".to_owned()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "that can be leased".into() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_is_a_part_or_has_stars() {
        for (pattern, text, like) in [
            ("h100", "NVIDIA H100 PCIe", true),
            ("H200", "NVIDIA H100 PCIe", false),
            ("*H100*", "NVIDIA H100 PCIe", true),
            ("H100*", "NVIDIA H100 PCIe", false),
            ("NVIDIA*PCI?", "NVIDIA H100 PCIe", true),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "aXXbYYbc", true),
            ("a*b*c", "aXXbYYb", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), like, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
    }
}
