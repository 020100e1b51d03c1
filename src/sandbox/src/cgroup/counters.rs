//! The counters of a leaf: file formats of v1 and v2, and where each figure is read. What cannot be read is `None`.

use std::path::Path;

use crate::protocol::{CgroupFacts, Resources};

use super::interface;

/// Where a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// The v1 hierarchy of this controller.
    V1(&'static str),
    /// The v2 tree.
    V2,
}

/// Reads a leaf's counters below the mounts, without privileges. `leaf` is relative to each mount.
pub fn read_resources(facts: &CgroupFacts, leaf: &str) -> Resources {
    if leaf.split('/').any(|part| part == "..") {
        return Resources::default();
    }
    collect(&|home, file| {
        let key = match home {
            Home::V1(controller) => controller,
            Home::V2 => "unified",
        };
        let mount = facts.mounts.get(key)?;
        interface::read(&Path::new(mount).join(leaf.trim_start_matches('/')).join(file)).ok()
    })
}

/// Collects all figures through `read`, which gives a file's content: v1 where the controller is there, v2 otherwise.
pub(super) fn collect(read: &dyn Fn(Home, &str) -> Option<String>) -> Resources {
    let number = |home, file| read(home, file).and_then(|text| count(&text));
    let memory = |v1, v2| number(Home::V1("memory"), v1).or_else(|| number(Home::V2, v2));
    let cpu = cpu_times(read);
    let (io_read_bytes, io_write_bytes) = io_bytes(read);
    Resources {
        memory_current: memory("memory.usage_in_bytes", "memory.current"),
        memory_peak: memory("memory.max_usage_in_bytes", "memory.peak"),
        cpu_usage_usec: cpu.0,
        cpu_user_usec: cpu.1,
        cpu_system_usec: cpu.2,
        pids_current: number(Home::V1("pids"), "pids.current").or_else(|| number(Home::V2, "pids.current")),
        oom_kills: read(Home::V1("memory"), "memory.oom_control")
            .or_else(|| read(Home::V2, "memory.events"))
            .and_then(|text| keyed(&text, "oom_kill")),
        io_read_bytes,
        io_write_bytes,
    }
}

/// The hard memory limit in bytes; `None` for no limit, or where it cannot be read.
pub(super) fn memory_limit(read: &dyn Fn(Home, &str) -> Option<String>) -> Option<u64> {
    let text = read(Home::V1("memory"), "memory.limit_in_bytes").or_else(|| read(Home::V2, "memory.max"))?;
    // v1 shows "no limit" as i64::MAX rounded down to a page of at most 64 KiB.
    count(&text).filter(|n| *n < i64::MAX as u64 - 65_536)
}

/// Usage, user and system time in microseconds.
fn cpu_times(read: &dyn Fn(Home, &str) -> Option<String>) -> (Option<u64>, Option<u64>, Option<u64>) {
    if let Some(nanoseconds) = read(Home::V1("cpuacct"), "cpuacct.usage").and_then(|t| count(&t)) {
        let stat = read(Home::V1("cpuacct"), "cpuacct.stat").unwrap_or_default();
        // cpuacct.stat counts in USER_HZ.
        let ticks = procfs::ticks_per_second().max(1);
        let usec = |key| keyed(&stat, key).map(|n| n.saturating_mul(1_000_000) / ticks);
        return (Some(nanoseconds / 1000), usec("user"), usec("system"));
    }
    // cpu.stat has these three also where the cpu controller is not enabled.
    let stat = read(Home::V2, "cpu.stat").unwrap_or_default();
    (keyed(&stat, "usage_usec"), keyed(&stat, "user_usec"), keyed(&stat, "system_usec"))
}

/// Bytes read and written. On v1 the kernel counts only for devices that some group throttles (blk_should_throtl); for others there is no
/// line, and what was not counted is not 0.
fn io_bytes(read: &dyn Fn(Home, &str) -> Option<String>) -> (Option<u64>, Option<u64>) {
    match read(Home::V1("blkio"), "blkio.throttle.io_service_bytes").filter(|text| text.contains(':')) {
        Some(text) => (Some(blkio_sum(&text, "Read")), Some(blkio_sum(&text, "Write"))),
        None => match read(Home::V2, "io.stat") {
            Some(text) => (Some(io_stat_sum(&text, "rbytes=")), Some(io_stat_sum(&text, "wbytes="))),
            None => (None, None),
        },
    }
}

/// A file that holds one number.
pub(super) fn count(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number after `key` in a flat keyed file.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| count(line.strip_prefix(key)?.strip_prefix(' ')?))
}

/// `<major>:<minor> <operation> <bytes>`, summed over the devices.
fn blkio_sum(text: &str, operation: &str) -> u64 {
    let of_line = |line: &str| {
        let mut parts = line.split_ascii_whitespace();
        let device = parts.next()?.contains(':');
        let same = parts.next()? == operation;
        (device && same).then(|| count(parts.next()?)).flatten()
    };
    text.lines().filter_map(of_line).fold(0, u64::saturating_add)
}

/// `<major>:<minor> rbytes=… wbytes=… …`, summed over the devices.
fn io_stat_sum(text: &str, key: &str) -> u64 {
    let of_line = |line: &str| line.split_ascii_whitespace().find_map(|word| count(word.strip_prefix(key)?));
    text.lines().filter_map(of_line).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::CgroupMode;

    fn facts(dir: &Path, keys: &[&str]) -> CgroupFacts {
        let mounts: BTreeMap<String, String> = keys.iter().map(|k| ((*k).to_owned(), dir.join(k).to_string_lossy().into_owned())).collect();
        CgroupFacts { mode: CgroupMode::Hybrid, root: "/r".into(), mounts, notes: vec![] }
    }

    fn put(dir: &Path, file: &str, text: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn v2_files_are_read() {
        let t = tempfile::tempdir().unwrap();
        put(t.path(), "unified/r/w/memory.current", "4096\n");
        put(t.path(), "unified/r/w/memory.peak", "8192\n");
        put(t.path(), "unified/r/w/memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 7\n");
        put(t.path(), "unified/r/w/cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\n");
        put(t.path(), "unified/r/w/pids.current", "3\n");
        put(t.path(), "unified/r/w/io.stat", "254:0 rbytes=10 wbytes=1 rios=5 wios=0\n8:0 rbytes=5 wbytes=2 dbytes=9\n7:1 \n");
        let got = read_resources(&facts(t.path(), &["unified"]), "/r/w");
        let want = Resources {
            memory_current: Some(4096),
            memory_peak: Some(8192),
            cpu_usage_usec: Some(30),
            cpu_user_usec: Some(20),
            cpu_system_usec: Some(10),
            pids_current: Some(3),
            oom_kills: Some(2),
            io_read_bytes: Some(15),
            io_write_bytes: Some(3),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn v1_files_win_over_an_empty_v2_leaf() {
        let t = tempfile::tempdir().unwrap();
        put(t.path(), "memory/r/w/memory.usage_in_bytes", "4096\n");
        put(t.path(), "memory/r/w/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        put(t.path(), "cpuacct/r/w/cpuacct.usage", "5000000\n");
        put(t.path(), "cpuacct/r/w/cpuacct.stat", "user 100\nsystem 50\n");
        put(t.path(), "blkio/r/w/blkio.throttle.io_service_bytes", "254:0 Read 7\n254:0 Write 9\n254:0 Total 16\nTotal 16\n");
        put(t.path(), "unified/r/w/cpu.stat", "usage_usec 1\n");
        let got = read_resources(&facts(t.path(), &["memory", "cpuacct", "blkio", "unified"]), "/r/w");
        assert_eq!((got.memory_current, got.oom_kills, got.memory_peak), (Some(4096), Some(1), None));
        assert_eq!((got.cpu_usage_usec, got.io_read_bytes, got.io_write_bytes), (Some(5000), Some(7), Some(9)));
        assert_eq!(got.cpu_user_usec, got.cpu_system_usec.map(|n| n * 2));
    }

    #[test]
    fn what_v1_did_not_count_is_none_and_not_nothing() {
        let t = tempfile::tempdir().unwrap();
        put(t.path(), "blkio/r/w/blkio.throttle.io_service_bytes", "Total 0\n");
        let got = read_resources(&facts(t.path(), &["blkio", "unified"]), "/r/w");
        assert!(got.lacks_io(), "{got:?}");
        let counted = got.or_io(Some(crate::protocol::IoBytes { read: 3, written: 4 }));
        assert_eq!((counted.io_read_bytes, counted.io_write_bytes), (Some(3), Some(4)));
        let v2 = got.or_io(None);
        assert!(v2.lacks_io());
    }

    #[test]
    fn what_is_not_there_is_none_and_paths_do_not_leave_the_mount() {
        let t = tempfile::tempdir().unwrap();
        put(t.path(), "unified/pids.current", "3\n");
        let facts = facts(t.path(), &["unified"]);
        assert_eq!(read_resources(&facts, "/gone"), Resources::default());
        assert_eq!(read_resources(&facts, "/x/.."), Resources::default());
    }

    #[test]
    fn no_limit_is_none() {
        for (text, want) in [("max", None), ("9223372036854771712", None), ("1048576", Some(1_048_576))] {
            assert_eq!(memory_limit(&|home, _| (home == Home::V2).then(|| text.to_owned())), want);
        }
    }

    proptest! {
        #[test]
        fn parsers_of_counters_never_panic(text in "([ -~]{0,40}\n){0,5}") {
            let _ = collect(&|_, _| Some(text.clone()));
            let _ = memory_limit(&|_, _| Some(text.clone()));
        }
    }
}
