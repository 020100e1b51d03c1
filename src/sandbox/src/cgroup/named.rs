//! Limits of several things by name: written line by line, and read back in the policies' own words.
//!
//! What is not named has no bound: a device that a group had a bound for, and now has none, is written too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rbee_hive_policy::{BlockLimits, IoBounds, LimitKey, LimitValue, PageLimits, RegionLimits};

use super::detect::Version;
use super::error::CgroupError;
use super::interface::{read, write};
use super::values;

/// v1 has a file for each of the four bounds of a device, in the order of [`IoBounds`].
const THROTTLE: [&str; 4] = [
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
];

/// What a group holds for `key`, as a policy would say it; empty where nothing is bounded.
pub(super) fn seen(key: LimitKey, version: Version, dir: &Path) -> Result<String, CgroupError> {
    Ok(match key {
        LimitKey::IoMax => io_max(version, dir)?.to_string(),
        LimitKey::Hugetlb => huge_pages(version, dir)?.to_string(),
        _ => values::regions(&read(&dir.join("dmem.max"))?).to_string(),
    })
}

/// Writes `value` to the group, and reads it back.
///
/// Errors: `Limit` for a text that holds no such bounds, `Write` or `Read` of a file, `ReadBack`.
pub(super) fn put(key: LimitKey, version: Version, (dir, value): (&Path, &LimitValue)) -> Result<(), CgroupError> {
    let text = match value {
        LimitValue::Text(text) if !value.is_max() => text.as_str(),
        _ => "",
    };
    let bad = |why: &str| CgroupError::Limit { setting: key.name().to_owned(), why: why.to_owned() };
    match key {
        LimitKey::IoMax => put_io_max(version, dir, &parsed(text).map_err(bad_text(&bad))?)?,
        LimitKey::Hugetlb => put_huge_pages(version, dir, &parsed(text).map_err(bad_text(&bad))?)?,
        _ => put_regions(dir, &parsed(text).map_err(bad_text(&bad))?)?,
    }
    let got = seen(key, version, dir)?;
    if same(key, text, &got) {
        return Ok(());
    }
    Err(CgroupError::ReadBack { path: dir.join(key.name()), wanted: text.to_owned(), got })
}

fn bad_text<'a>(bad: &'a dyn Fn(&str) -> CgroupError) -> impl Fn(rbee_hive_policy::InvalidNamed) -> CgroupError + use<'a> {
    move |e| bad(&e.problem)
}

/// Whether two texts hold the same bounds, as far as the kernel keeps them.
pub(super) fn same(key: LimitKey, wanted: &str, got: &str) -> bool {
    match key {
        LimitKey::IoMax => same_as::<BlockLimits>(wanted, got),
        LimitKey::Hugetlb => same_as::<PageLimits>(wanted, got),
        _ => match (parsed::<RegionLimits>(wanted), parsed::<RegionLimits>(got)) {
            (Ok(wanted), Ok(got)) => values::in_pages(&wanted) == values::in_pages(&got),
            _ => false,
        },
    }
}

fn same_as<T: std::str::FromStr<Err = rbee_hive_policy::InvalidNamed> + Default + PartialEq>(wanted: &str, got: &str) -> bool {
    matches!((parsed::<T>(wanted), parsed::<T>(got)), (Ok(a), Ok(b)) if a == b)
}

/// An empty text is no bound at all.
fn parsed<T: std::str::FromStr<Err = rbee_hive_policy::InvalidNamed> + Default>(text: &str) -> Result<T, rbee_hive_policy::InvalidNamed> {
    if text.is_empty() || text == "max" { Ok(T::default()) } else { text.parse() }
}

fn io_max(version: Version, dir: &Path) -> Result<BlockLimits, CgroupError> {
    if version == Version::V2 {
        return Ok(values::io_max(&read(&dir.join("io.max"))?));
    }
    let mut limits = BlockLimits::default();
    for (at, file) in THROTTLE.iter().enumerate() {
        for (device, bound) in values::throttled(&read(&dir.join(file))?) {
            limits.0.entry(device).or_default().bounds[at] = Some(bound);
        }
    }
    Ok(limits)
}

fn put_io_max(version: Version, dir: &Path, wanted: &BlockLimits) -> Result<(), CgroupError> {
    let now = io_max(version, dir)?;
    let devices: BTreeSet<&String> = now.0.keys().chain(wanted.0.keys()).collect();
    for device in devices {
        let (before, after) = (now.0.get(device).copied().unwrap_or_default(), wanted.0.get(device).copied().unwrap_or_default());
        if before != after {
            put_device(version, dir, (device, before, after))?;
        }
    }
    Ok(())
}

fn put_device(version: Version, dir: &Path, (device, before, after): (&str, IoBounds, IoBounds)) -> Result<(), CgroupError> {
    if version == Version::V2 {
        let bounds = after.named().map(|(key, bound)| format!(" {key}={}", bound.map_or_else(|| "max".to_owned(), |n| n.to_string())));
        return write(&dir.join("io.max"), &format!("{device}{}", bounds.collect::<String>()));
    }
    for (at, file) in THROTTLE.iter().enumerate().filter(|(at, _)| before.bounds[*at] != after.bounds[*at]) {
        // 0 takes the bound away.
        write(&dir.join(file), &format!("{device} {}", after.bounds[at].unwrap_or(0)))?;
    }
    Ok(())
}

/// The sizes of huge pages that a group has files for, bytes.
pub(super) fn page_sizes(dir: &Path) -> BTreeSet<u64> {
    let name = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| values::page_size(name.strip_prefix("hugetlb.")?));
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(name).collect()
}

/// The files that bound pages of one size: what is in use, and what is reserved, which takes pages from everybody before the first is touched
/// (Documentation/admin-guide/cgroup-v1/hugetlb.rst, Linux 5.7).
fn page_files(version: Version, dir: &Path, size: u64) -> Vec<PathBuf> {
    let (name, end) = (values::page_size_name(size), if version == Version::V1 { "limit_in_bytes" } else { "max" });
    let reserved = dir.join(format!("hugetlb.{name}.rsvd.{end}"));
    let used = dir.join(format!("hugetlb.{name}.{end}"));
    if reserved.exists() { vec![used, reserved] } else { vec![used] }
}

fn huge_pages(version: Version, dir: &Path) -> Result<PageLimits, CgroupError> {
    let mut limits = PageLimits::default();
    for size in page_sizes(dir) {
        let bounds = page_files(version, dir, size).iter().map(|file| page_bound(file, size)).collect::<Result<Vec<_>, _>>()?;
        // The weakest of them counts.
        let all = bounds.into_iter().collect::<Option<Vec<u64>>>();
        if let Some(bytes) = all.and_then(|all| all.into_iter().max()) {
            limits.0.insert(size, bytes);
        }
    }
    Ok(limits)
}

/// What one file bounds, bytes.
fn page_bound(file: &Path, size: u64) -> Result<Option<u64>, CgroupError> {
    // v1 shows "no limit" as the largest number that there is, rounded down to pages of this size.
    Ok(read(file)?.trim().parse().ok().filter(|n| *n < (i64::MAX as u64) - size))
}

fn put_huge_pages(version: Version, dir: &Path, wanted: &PageLimits) -> Result<(), CgroupError> {
    for size in page_sizes(dir) {
        let bound = wanted.0.get(&size).copied();
        let none = if version == Version::V1 { "-1" } else { "max" };
        let text = bound.map_or_else(|| none.to_owned(), |bytes| bytes.to_string());
        // Each file by itself: where the second has refused what the first took, both together look as they did before.
        for file in page_files(version, dir, size) {
            if page_bound(&file, size)? != bound {
                write(&file, &text)?;
            }
        }
    }
    Ok(())
}

fn put_regions(dir: &Path, wanted: &RegionLimits) -> Result<(), CgroupError> {
    let file = dir.join("dmem.max");
    let now = values::regions(&read(&file)?);
    let names: BTreeSet<&String> = now.0.keys().chain(wanted.0.keys()).collect();
    for name in names.into_iter().filter(|name| now.0.get(*name) != wanted.0.get(*name)) {
        let text = wanted.0.get(name).map_or_else(|| "max".to_owned(), u64::to_string);
        write(&file, &format!("{name} {text}"))?;
    }
    Ok(())
}

/// What of a limit by name is used now beyond what `value` has: the name, bytes in use, bytes wanted. Nothing is known of block I/O, which
/// is a rate.
pub(super) fn beyond(key: LimitKey, version: Version, (dir, value): (&Path, &LimitValue)) -> Option<(String, u64, u64)> {
    let LimitValue::Text(text) = value else { return None };
    match key {
        LimitKey::Hugetlb => {
            let file = if version == Version::V1 { "usage_in_bytes" } else { "current" };
            parsed::<PageLimits>(text).ok()?.0.into_iter().find_map(|(size, bytes)| {
                let name = values::page_size_name(size);
                let count = |kind: &str| read(&dir.join(format!("hugetlb.{name}{kind}.{file}"))).ok()?.trim().parse::<u64>().ok();
                let used = count("").max(count(".rsvd"))?;
                (used > bytes).then_some((name, used, bytes))
            })
        }
        LimitKey::Dmem => {
            let current = values::regions(&read(&dir.join("dmem.current")).ok()?);
            parsed::<RegionLimits>(text).ok()?.0.into_iter().find_map(|(name, bytes)| {
                let used = *current.0.get(&name)?;
                (used > bytes).then_some((name, used, bytes))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_file(dir: &Path, name: &str, text: &str) {
        fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn what_four_files_hold_on_v1_is_one_text() {
        let t = tempfile::tempdir().unwrap();
        for (file, text) in THROTTLE.iter().zip(["8:0 1048576\n", "", "8:0 100\n8:16 5\n", ""]) {
            put_file(t.path(), file, text);
        }
        assert_eq!(seen(LimitKey::IoMax, Version::V1, t.path()).unwrap(), "8:0 rbps=1MiB riops=100; 8:16 riops=5");
    }

    #[test]
    fn no_limit_is_none_in_every_spelling() {
        let t = tempfile::tempdir().unwrap();
        put_file(t.path(), "io.max", "");
        assert_eq!(seen(LimitKey::IoMax, Version::V2, t.path()).unwrap(), "");
        put_file(t.path(), "hugetlb.2MB.max", "max\n");
        put_file(t.path(), "hugetlb.1GB.max", "0\n");
        put_file(t.path(), "hugetlb.1GB.current", "1073741824\n");
        assert_eq!(seen(LimitKey::Hugetlb, Version::V2, t.path()).unwrap(), "1GiB=0");
        let value = LimitValue::Text("1GiB=0".into());
        assert_eq!(beyond(LimitKey::Hugetlb, Version::V2, (t.path(), &value)), Some(("1GB".into(), 1 << 30, 0)));
        put_file(t.path(), "hugetlb.2MB.limit_in_bytes", "9223372036852678656\n");
        put_file(t.path(), "hugetlb.1GB.limit_in_bytes", "9223372035781033984\n");
        assert_eq!(seen(LimitKey::Hugetlb, Version::V1, t.path()).unwrap(), "");
        put_file(t.path(), "dmem.max", "drm/0000:03:00.0/vram0 max\ndrm/0000:04:00.0/vram0 8192\n");
        assert_eq!(seen(LimitKey::Dmem, Version::V2, t.path()).unwrap(), "drm/0000:04:00.0/vram0=8KiB");
    }

    #[test]
    fn pages_that_are_reserved_are_bounded_like_those_in_use() {
        for (version, files, current, none) in [
            (Version::V2, ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"], "hugetlb.2MB.rsvd.current", "max"),
            (Version::V1, ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"], "hugetlb.2MB.rsvd.usage_in_bytes", "-1"),
        ] {
            let t = tempfile::tempdir().unwrap();
            files.iter().for_each(|file| put_file(t.path(), file, "max"));
            let value = LimitValue::Text("2MiB=4MiB".into());
            put(LimitKey::Hugetlb, version, (t.path(), &value)).unwrap();
            assert_eq!(files.map(|file| fs::read_to_string(t.path().join(file)).unwrap()), ["4194304", "4194304"]);
            put_file(t.path(), files[1], none);
            assert_eq!(seen(LimitKey::Hugetlb, version, t.path()).unwrap(), "", "one bound of two is none");
            put_file(t.path(), current, "6291456\n");
            assert_eq!(beyond(LimitKey::Hugetlb, version, (t.path(), &value)), Some(("2MB".into(), 6 << 20, 4 << 20)));
        }
    }

    #[test]
    fn bounds_are_the_same_whatever_their_spelling() {
        assert!(same(LimitKey::IoMax, "8:0 rbps=1MiB", "8:0 rbps=1048576B"));
        assert!(!same(LimitKey::IoMax, "8:0 rbps=1MiB", ""));
        assert!(same(LimitKey::IoMax, "max", ""));
        assert!(same(LimitKey::Dmem, "r=5000B", "r=4KiB"), "the kernel keeps whole pages");
    }
}
