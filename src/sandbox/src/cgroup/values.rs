//! Limits in the kernel's spelling, and the comparison of what was written with what is read back. Pure.

use std::collections::BTreeSet;

use rbee_hive_policy::{BlockLimits, LimitValue, RegionLimits};

/// Highest CPU or node number that a list may name.
const MAX_LISTED: u32 = 8191;
/// The kernel's default bandwidth period, microseconds.
const PERIOD_US: u64 = 100_000;
/// The longest period, microseconds.
const MAX_PERIOD_US: u64 = 1_000_000;
/// The smallest quota, microseconds.
const MIN_QUOTA_US: u64 = 1_000;

/// A CPU bandwidth: `quota` of `period` microseconds; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bandwidth {
    /// Microseconds a period, over all CPUs.
    pub(super) quota: Option<u64>,
    /// Microseconds.
    pub(super) period: u64,
}

/// A number of CPUs as quota and period; `None` where it is not a positive number below 1e6.
pub(super) fn bandwidth(value: &LimitValue) -> Option<Bandwidth> {
    let cpus = match value {
        v if v.is_max() => return Some(Bandwidth { quota: None, period: PERIOD_US }),
        LimitValue::Count(n) => *n as f64,
        LimitValue::Decimal(d) => *d,
        LimitValue::Text(_) => return None,
    };
    if !(cpus > 0.0 && cpus < 1e6) {
        return None;
    }
    let quota = |period: u64| (cpus * period as f64).round() as u64;
    // Quotas under 1 ms are refused by the kernel: very small shares need a longer period.
    let period = if quota(PERIOD_US) < MIN_QUOTA_US { MAX_PERIOD_US } else { PERIOD_US };
    Some(Bandwidth { quota: Some(quota(period).max(MIN_QUOTA_US)), period })
}

/// v1 shares for a v2 weight: 100 is 1024; never under the kernel's minimum of 2.
pub(super) fn shares(weight: u64) -> u64 {
    (weight.saturating_mul(1024) / 100).max(2)
}

/// The spelling of a weight of block I/O in one file: the scheduler bfq knows 1 to 1000, and its oldest sibling 10 to 1000, where 100 is 100.
pub(super) fn io_weight(file: &str, weight: u64) -> u64 {
    let bfq = if weight <= 100 { weight } else { 100 + (weight - 100) / 11 };
    match file {
        "io.weight" => weight,
        "blkio.weight" => bfq.clamp(10, 1000),
        _ => bfq.clamp(1, 1000),
    }
}

/// The group's own weight: `100`, or `default 100` before lines for single devices.
pub(super) fn shown_weight(text: &str) -> Option<u64> {
    text.lines().next()?.split_ascii_whitespace().last()?.parse().ok()
}

/// `io.max`: `8:0 rbps=1048576 wbps=max riops=max wiops=max` for each device with a bound.
pub(super) fn io_max(text: &str) -> BlockLimits {
    let mut limits = BlockLimits::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next() else { continue };
        let bounds = limits.0.entry(device.to_owned()).or_default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let at = bounds.named().position(|(known, _)| known == key);
            if let (Some(at), Ok(number)) = (at, value.parse()) {
                bounds.bounds[at] = Some(number);
            }
        }
    }
    limits.0.retain(|_, bounds| *bounds != Default::default());
    limits
}

/// A file of `blkio.throttle`: `8:0 1048576` for each device with this bound.
pub(super) fn throttled(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (device, bound) = line.trim().split_once(' ')?;
        Some((device.to_owned(), bound.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// A file of `dmem`: `<region> <bytes>`, or `<region> max` without a bound.
pub(super) fn regions(text: &str) -> RegionLimits {
    let line = |line: &str| {
        let (region, bytes) = line.trim().rsplit_once(' ')?;
        Some((region.to_owned(), bytes.parse().ok()?))
    };
    RegionLimits(text.lines().filter_map(line).collect())
}

/// The same, as far as whole pages go: what the kernel keeps.
pub(super) fn in_pages(limits: &RegionLimits) -> Vec<(&str, u64)> {
    let page = procfs::page_size().max(1);
    limits.0.iter().map(|(name, bytes)| (name.as_str(), bytes / page)).collect()
}

const PAGE_UNITS: [(&str, u64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];

/// The kernel's word for a size of huge pages: `2MB`, `1GB` (hugetlb_cgroup.c).
pub(super) fn page_size_name(size: u64) -> String {
    let (unit, factor) = PAGE_UNITS.into_iter().find(|(_, factor)| size >= *factor).unwrap_or(("KB", 1 << 10));
    format!("{}{unit}", size / factor)
}

/// The size in the rest of a file's name after `hugetlb.`, such as `2MB.max`.
pub(super) fn page_size(name: &str) -> Option<u64> {
    let word = name.split('.').next()?;
    let (number, factor) = PAGE_UNITS.into_iter().find_map(|(unit, factor)| Some((word.strip_suffix(unit)?, factor)))?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A count, or `None` for "max"; an outer `None` where it is neither.
pub(super) fn count_or_max(value: &LimitValue) -> Option<Option<u64>> {
    if value.is_max() { Some(None) } else { value.count().map(Some) }
}

/// Whether a memory file that reads `got` holds `wanted` bytes (`None`: no limit), rounded down to pages.
pub(super) fn same_bytes(wanted: Option<u64>, got: &str, page: u64) -> bool {
    let got = got.trim();
    // v1 shows "no limit" as the largest whole number of pages in an i64.
    let unlimited = (i64::MAX as u64) - page + 1;
    match (wanted, got.parse::<u64>()) {
        (None, Ok(n)) => n >= unlimited,
        (None, Err(_)) => got == "max",
        (Some(w), Ok(n)) => n == w - w % page.max(1) || (w >= unlimited && n >= unlimited),
        (Some(w), Err(_)) => got == "max" && w >= unlimited,
    }
}

/// A CPU or node list (`0-3,8`) as a set; `None` where it is not one.
pub(super) fn list(text: &str) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    let text = text.trim();
    if text.is_empty() {
        return Some(set);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if first > last || last > MAX_LISTED {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

/// Whether two lists name the same CPUs or nodes.
pub(super) fn same_list(wanted: &str, got: &str) -> bool {
    matches!((list(wanted), list(got)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpus_become_quota_and_period() {
        let at = |v: LimitValue| bandwidth(&v).map(|b| (b.quota, b.period));
        assert_eq!(at(LimitValue::Decimal(1.5)), Some((Some(150_000), 100_000)));
        assert_eq!(at(LimitValue::Count(2)), Some((Some(200_000), 100_000)));
        assert_eq!(at(LimitValue::Decimal(0.005)), Some((Some(5_000), 1_000_000)));
        assert_eq!(at(LimitValue::Decimal(0.0001)), Some((Some(1_000), 1_000_000)));
        assert_eq!(at(LimitValue::max()), Some((None, 100_000)));
        for bad in [LimitValue::Decimal(0.0), LimitValue::Decimal(-1.0), LimitValue::Decimal(f64::NAN), LimitValue::Text("2".into())] {
            assert_eq!(at(bad.clone()), None, "{bad:?}");
        }
    }

    #[test]
    fn weights_become_shares() {
        assert_eq!([shares(1), shares(100), shares(10_000), shares(0)], [10, 1024, 102_400, 2]);
    }

    #[test]
    fn weights_of_io_are_spelled_as_each_scheduler_has_them() {
        for (weight, bfq) in [(1, 1), (100, 100), (1200, 200), (10_000, 1000)] {
            assert_eq!((io_weight("io.weight", weight), io_weight("io.bfq.weight", weight)), (weight, bfq));
        }
        assert_eq!(io_weight("blkio.weight", 1), 10);
        assert_eq!([shown_weight("default 70\n8:0 5"), shown_weight("70"), shown_weight("")], [Some(70), Some(70), None]);
    }

    #[test]
    fn files_of_many_lines_are_read_by_name() {
        let io = io_max("8:0 rbps=1048576 wbps=max riops=7 wiops=max\n8:16 rbps=max wbps=max riops=max wiops=max\n");
        assert_eq!(io.to_string(), "8:0 rbps=1MiB riops=7");
        assert_eq!(throttled("254:0 512\n\nx\n"), [("254:0".to_owned(), 512)]);
        assert_eq!(regions("drm/0/vram0 max\ndrm/1/vram0 4096\n").to_string(), "drm/1/vram0=4KiB");
        for (size, name) in [(64 << 10, "64KB"), (2 << 20, "2MB"), (1 << 30, "1GB"), (16 << 30, "16GB")] {
            assert_eq!((page_size_name(size).as_str(), page_size(&format!("{name}.rsvd.max"))), (name, Some(size)));
        }
    }

    #[test]
    fn memory_reads_back_rounded_down_to_pages_only() {
        assert!(same_bytes(Some(10_000), "8192", 4096));
        assert!(same_bytes(Some(8192), "8192", 4096));
        assert!(!same_bytes(Some(10_000), "10000", 4096));
        assert!(!same_bytes(Some(12_288), "8192", 4096));
        assert!(!same_bytes(Some(8192), "max", 4096));
        assert!(same_bytes(None, "max", 4096));
        assert!(same_bytes(None, "9223372036854771712", 4096));
        assert!(!same_bytes(None, "8192", 4096));
    }

    #[test]
    fn lists_are_compared_as_sets() {
        assert!(same_list("0,1", "0-1"));
        assert!(!same_list("0-2", "0-1"));
        assert!(!same_list("0-", "0"));
        assert!(list("3-1").is_none() && list("0-99999999").is_none());
        assert_eq!(list(""), Some(BTreeSet::new()));
    }

    proptest! {
        #[test]
        fn parsers_of_values_never_panic(text in ".{0,40}", n in any::<u64>(), page in 1u64..70_000) {
            let _ = list(&text);
            let _ = same_bytes(Some(n), &text, page);
            let _ = bandwidth(&LimitValue::Decimal(f64::from_bits(n)));
            let _ = shares(n);
            let _ = (io_weight("io.bfq.weight", n), shown_weight(&text), io_max(&text), throttled(&text), regions(&text), page_size(&text));
        }

        #[test]
        fn a_quota_is_never_below_the_kernels_minimum(cpus in 1e-9f64..1e5) {
            let b = bandwidth(&LimitValue::Decimal(cpus)).unwrap();
            prop_assert!(b.quota.unwrap() >= MIN_QUOTA_US);
        }
    }
}
