//! What limits name, on this machine: block devices by path or number, and how much memory there is.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rbee_hive_policy::{BlockLimits, LimitValue};

/// Every block device that one of the limits names, with the number of its disk: bounds are a disk's, not a partition's. What this host lacks
/// is left out.
pub(in crate::launcher) fn block_devices<'a>(limits: impl Iterator<Item = &'a LimitValue>) -> BTreeMap<String, String> {
    let named = limits.filter_map(|value| match value {
        LimitValue::Text(text) => text.parse::<BlockLimits>().ok(),
        _ => None,
    });
    let names = named.flat_map(|bounds| bounds.0.into_keys());
    names.filter_map(|name| disk_of(&name, Path::new("/sys")).map(|disk| (name, disk))).collect()
}

fn disk_of(name: &str, sys: &Path) -> Option<String> {
    let number = match name.starts_with("/dev/") {
        true => number_of(Path::new(name))?,
        false => name.to_owned(),
    };
    disk(&number, sys)
}

fn number_of(path: &Path) -> Option<String> {
    let there = std::fs::metadata(path).ok().filter(|there| there.file_type().is_block_device())?;
    Some(format!("{}:{}", rustix::fs::major(there.rdev()), rustix::fs::minor(there.rdev())))
}

/// The whole disk of a block device: its own number, or that of the directory above a partition's.
fn disk(number: &str, sys: &Path) -> Option<String> {
    let own = sys.join("dev/block").join(number).canonicalize().ok()?;
    let whole = if own.join("partition").exists() { own.parent()? } else { &own };
    Some(std::fs::read_to_string(whole.join("dev")).ok()?.trim().to_owned())
}

/// Bytes of memory of this machine.
pub(in crate::launcher) fn memory() -> Option<u64> {
    total(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// Bytes of swap of this machine.
pub(in crate::launcher) fn swap() -> Option<u64> {
    total(&std::fs::read_to_string("/proc/meminfo").ok()?, "SwapTotal:")
}

/// Bytes in all huge pages of each size, and in those that the kernel may make on demand (Documentation/admin-guide/mm/hugetlbpage.rst).
pub(in crate::launcher) fn huge_page_pools() -> BTreeMap<u64, u64> {
    pools(Path::new("/sys/kernel/mm/hugepages"))
}

fn pools(directory: &Path) -> BTreeMap<u64, u64> {
    let pool = |entry: std::fs::DirEntry| {
        let count = |file: &str| std::fs::read_to_string(entry.path().join(file)).ok()?.trim().parse::<u64>().ok();
        let name = entry.file_name();
        let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?.checked_mul(1024)?;
        let pages = count("nr_hugepages")?.saturating_add(count("nr_overcommit_hugepages")?);
        Some((size, pages.saturating_mul(size)))
    };
    std::fs::read_dir(directory).into_iter().flatten().flatten().filter_map(pool).collect()
}

fn total(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_partition_is_bounded_by_its_disk() {
        let t = tempfile::tempdir().unwrap();
        let partition = t.path().join("devices/pci/vda/vda1");
        fs::create_dir_all(&partition).unwrap();
        fs::create_dir_all(t.path().join("dev/block")).unwrap();
        fs::write(partition.join("partition"), "1\n").unwrap();
        fs::write(partition.join("dev"), "254:1\n").unwrap();
        fs::write(partition.with_file_name("dev"), "254:0\n").unwrap();
        symlink(&partition, t.path().join("dev/block/254:1")).unwrap();
        symlink(partition.parent().unwrap(), t.path().join("dev/block/254:0")).unwrap();
        assert_eq!(disk("254:1", t.path()).as_deref(), Some("254:0"));
        assert_eq!(disk("254:0", t.path()).as_deref(), Some("254:0"));
        assert_eq!(disk("254:7", t.path()), None);
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        assert_eq!(number_of(Path::new("/dev/null")), None);
        assert_eq!(number_of(Path::new("/dev/no-such-disk")), None);
    }

    #[test]
    fn what_there_is_of_memory_swap_and_huge_pages_is_counted() {
        let meminfo = "MemTotal:       24683656 kB\nMemFree: 1 kB\nSwapTotal: 0 kB\n";
        assert_eq!((total(meminfo, "MemTotal:"), total(meminfo, "SwapTotal:")), (Some(24_683_656 * 1024), Some(0)));
        let t = tempfile::tempdir().unwrap();
        let pool = t.path().join("hugepages-2048kB");
        fs::create_dir(&pool).unwrap();
        fs::write(pool.join("nr_hugepages"), "8\n").unwrap();
        fs::write(pool.join("nr_overcommit_hugepages"), "2\n").unwrap();
        fs::create_dir(t.path().join("hugepages-1048576kB")).unwrap();
        assert_eq!(pools(t.path()), BTreeMap::from([(2 << 20, 20 << 20)]), "a size that says nothing is not known");
    }
}
