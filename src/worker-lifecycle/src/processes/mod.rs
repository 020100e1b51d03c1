//! A worker's processes through procfs: who is in its cgroup, guarded against pids that were recycled meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use procfs::process::Process;
use rbee_hive_sandbox::cgroup::belongs;
use rbee_hive_sandbox::protocol::{CgroupFacts, ProcessIo};

use crate::ProcessView;

mod status;
mod unmeasured;

use status::Status;

/// Deepest nesting of groups that a worker may have made, and most groups that are looked at.
const MAX_DEPTH: usize = 8;
const MAX_GROUPS: usize = 1024;

/// Most of a process's command line that is read, bytes, and most processes of one worker that are told.
const MAX_CMDLINE: u64 = 4096;
const MAX_TOLD: usize = 4096;

/// Whose processes are listed.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// The worker's name.
    pub(crate) worker_id: String,
    /// Its cgroup; without one the descendants of its own process are listed.
    pub(crate) leaf: Option<String>,
    /// Its own process.
    pub(crate) pid: Option<i32>,
    /// When that was started, clock ticks after boot, where that is known.
    pub(crate) start_ticks: Option<u64>,
}

/// A process, and how its own init knows it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) view: ProcessView,
    /// Its pid there, and when it was started.
    inner: Option<(i32, u64)>,
}

impl Listed {
    /// With what its init has counted of it.
    pub(crate) fn with_io(self, counts: &[ProcessIo]) -> ProcessView {
        let bytes = counts.iter().find(|c| self.inner == Some((c.pid, c.start_ticks))).map(|c| c.bytes);
        let view = ProcessView { io_read_bytes: bytes.map(|b| b.read), io_write_bytes: bytes.map(|b| b.written), ..self.view };
        ProcessView { unmeasured: unmeasured::of(&view), ..view }
    }
}

/// Every process of the worker. Blocks: reads procfs and cgroupfs.
pub(crate) fn list(facts: &CgroupFacts, owner: &Owner) -> Vec<Listed> {
    let leaf = owner.leaf.as_deref();
    pids(facts, owner).into_iter().filter_map(|pid| view(pid, &owner.worker_id, leaf)).take(MAX_TOLD).collect()
}

/// Numbers of all of the worker's processes. Blocks likewise.
pub(crate) fn pids(facts: &CgroupFacts, owner: &Owner) -> BTreeSet<i32> {
    match owner.leaf.as_deref().and_then(|leaf| leaf_path(facts, leaf)) {
        Some(path) => members(&path),
        None => owner.pid.filter(|pid| is_still(*pid, owner.start_ticks)).map(descendants).unwrap_or_default(),
    }
}

/// Whether `pid` is the process that was started then, and not a later one of the same number.
fn is_still(pid: i32, start_ticks: Option<u64>) -> bool {
    start_ticks.is_none_or(|ticks| Process::new(pid).and_then(|p| p.stat()).is_ok_and(|s| s.starttime == ticks))
}

fn leaf_path(facts: &CgroupFacts, leaf: &str) -> Option<PathBuf> {
    let mount = ["unified", "pids", "memory"].iter().find_map(|name| facts.mounts.get(*name)).or_else(|| facts.mounts.values().next())?;
    Some(Path::new(mount).join(leaf.trim_start_matches('/')))
}

fn members(top: &Path) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    let (mut pending, mut left) = (vec![(top.to_owned(), 0)], MAX_GROUPS);
    while let Some((path, depth)) = pending.pop() {
        let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
        left = left.saturating_sub(1);
        if depth < MAX_DEPTH && left > 0 {
            let inner = fs::read_dir(&path).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            pending.extend(inner.map(|e| (e.path(), depth + 1)));
        }
    }
    pids
}

fn descendants(root: i32) -> BTreeSet<i32> {
    let parents: Vec<(i32, i32)> =
        procfs::process::all_processes().into_iter().flatten().flatten().filter_map(|p| p.stat().ok()).map(|s| (s.pid, s.ppid)).collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        found.extend(parents.iter().filter(|(_, ppid)| found.contains(ppid)).map(|(pid, _)| *pid).collect::<Vec<_>>());
        if found.len() == before {
            return found;
        }
    }
}

/// `None` for a process that is gone, or whose number belongs to somebody else by now: the start time is read before and after the
/// check that it is still in the worker's group.
fn view(pid: i32, worker_id: &str, leaf: Option<&str>) -> Option<Listed> {
    let process = Process::new(pid).ok()?;
    let stat = process.stat().ok()?;
    let cmdline = cmdline(pid);
    let status = Status::read(pid);
    let oom_score_adj = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok().and_then(|text| text.trim().parse().ok());
    if let Some(leaf) = leaf {
        let groups = process.cgroups().ok()?;
        groups.into_iter().any(|g| belongs(&g.pathname, leaf)).then_some(())?;
    }
    (Process::new(pid).and_then(|p| p.stat()).ok()?.starttime == stat.starttime).then_some(())?;
    let ticks = procfs::ticks_per_second().max(1);
    let usec = |ticks_used: u64| ticks_used.saturating_mul(1_000_000) / ticks;
    let view = ProcessView {
        pid,
        ppid: stat.ppid,
        worker_id: worker_id.to_owned(),
        name: stat.comm.clone(),
        cmdline,
        state: stat.state.to_string(),
        threads: stat.num_threads,
        rss_bytes: stat.rss.saturating_mul(procfs::page_size()),
        rss_peak_bytes: status.rss_peak,
        rss_anon_bytes: status.rss_anon,
        rss_file_bytes: status.rss_file,
        rss_shmem_bytes: status.rss_shmem,
        swap_bytes: status.swap,
        cpu_usage_usec: usec(stat.utime.saturating_add(stat.stime)),
        cpu_user_usec: usec(stat.utime),
        cpu_system_usec: usec(stat.stime),
        minor_faults: stat.minflt,
        major_faults: stat.majflt,
        io_read_bytes: None,
        io_write_bytes: None,
        io_read_ops: None,
        io_write_ops: None,
        oom_score_adj,
        started_at: started_at(stat.starttime, ticks),
        unmeasured: vec![],
    };
    Some(Listed { view, inner: status.inner_pid.map(|pid| (pid, stat.starttime)) })
}

/// Its arguments, as far as [`MAX_CMDLINE`] goes: a process chooses how much it says there (6 MiB and more), and how many say it.
fn cmdline(pid: i32) -> Vec<String> {
    let mut text = Vec::new();
    let opened = fs::File::open(format!("/proc/{pid}/cmdline"));
    // A process that has ended, or a kernel thread, has none.
    let _ = opened.and_then(|file| file.take(MAX_CMDLINE).read_to_end(&mut text));
    let words = text.strip_suffix(b"\0").unwrap_or(&text);
    if words.is_empty() { vec![] } else { words.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect() }
}

fn started_at(start_ticks: u64, ticks: u64) -> Option<String> {
    static BOOT: LazyLock<Option<u64>> = LazyLock::new(|| procfs::boot_time_secs().ok());
    let millis = (*BOOT)?.checked_mul(1000)?.checked_add(start_ticks.checked_mul(1000)? / ticks)?;
    jiff::Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok().map(|t| t.to_string())
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::protocol::IoBytes;

    use super::*;

    fn owner(pid: i32, start_ticks: Option<u64>) -> Owner {
        Owner { worker_id: "w".into(), leaf: None, pid: Some(pid), start_ticks }
    }

    fn no_cgroups() -> CgroupFacts {
        CgroupFacts { mode: rbee_hive_sandbox::protocol::CgroupMode::None, root: String::new(), mounts: Default::default(), notes: vec![] }
    }

    #[test]
    fn this_very_process_is_seen_with_real_figures() {
        let pid = std::process::id() as i32;
        let list = list(&no_cgroups(), &owner(pid, None));
        let me = &list.iter().find(|p| p.view.pid == pid).unwrap().view;
        assert!(me.rss_bytes > 0 && me.threads >= 1 && !me.cmdline.is_empty());
        assert!(me.rss_peak_bytes >= Some(me.rss_bytes.min(me.rss_anon_bytes.unwrap_or(0))), "{me:?}");
        assert!(me.rss_anon_bytes > Some(0) && me.rss_file_bytes > Some(0) && me.swap_bytes.is_some() && me.oom_score_adj.is_some());
        assert!(me.minor_faults > 0 && me.cpu_usage_usec >= me.cpu_user_usec && me.io_read_bytes.is_none());
        let started: jiff::Timestamp = me.started_at.as_ref().unwrap().parse().unwrap();
        assert!(started <= jiff::Timestamp::now());
    }

    #[test]
    fn what_an_init_counts_is_told_of_the_process_that_it_was_counted_of() {
        let listed = |inner| Listed { view: view(std::process::id() as i32, "w", None).unwrap().view, inner };
        let counts = [ProcessIo { pid: 2, start_ticks: 7, bytes: IoBytes { read: 5, written: 0 } }];
        let told = listed(Some((2, 7))).with_io(&counts);
        assert_eq!((told.io_read_bytes, told.io_write_bytes), (Some(5), Some(0)));
        for other in [Some((2, 8)), Some((3, 7)), None] {
            assert_eq!(listed(other).with_io(&counts).io_read_bytes, None, "{other:?}");
        }
    }

    #[test]
    fn every_null_of_a_process_has_its_reason_and_nothing_else_has_one() {
        let view = || view(std::process::id() as i32, "w", None).unwrap().view;
        let zombie = ProcessView { state: "Z".into(), rss_peak_bytes: None, rss_anon_bytes: None, swap_bytes: None, ..view() };
        let counts = [ProcessIo { pid: 2, start_ticks: 7, bytes: IoBytes { read: 5, written: 0 } }];
        for (view, counts) in [(view(), &counts[..]), (view(), &[]), (zombie, &counts[..])] {
            let told = Listed { view, inner: Some((2, 7)) }.with_io(counts);
            let nulls: BTreeSet<String> = match serde_json::to_value(&told).unwrap() {
                serde_json::Value::Object(members) => {
                    members.into_iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name).collect()
                }
                other => panic!("{other}"),
            };
            let explained: BTreeSet<String> = told.unmeasured.iter().map(|u| u.figure.clone()).collect();
            assert_eq!(nulls, explained);
            let peak = told.unmeasured.iter().find(|u| u.figure == "rss_peak_bytes");
            assert_eq!(peak.is_some_and(|u| u.why.contains("was not reaped")), told.state == "Z");
        }
    }

    #[test]
    fn a_number_that_belongs_to_a_later_process_lists_nobody() {
        let pid = std::process::id() as i32;
        let born = Process::myself().unwrap().stat().unwrap().starttime;
        assert!(!list(&no_cgroups(), &owner(pid, Some(born))).is_empty());
        assert!(list(&no_cgroups(), &owner(pid, Some(born + 1))).is_empty());
    }

    #[test]
    fn a_command_line_is_read_up_to_its_bound() {
        use std::os::unix::process::CommandExt;
        let mut child = crate::tests::forks::start(std::process::Command::new("sleep").arg0("x".repeat(100_000)).arg("60"));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // For a moment within execve(2) it has none.
        let told = std::iter::repeat_with(|| cmdline(child.id() as i32))
            .inspect(|_| std::thread::yield_now())
            .find(|words| !words.is_empty() || std::time::Instant::now() > until)
            .unwrap_or_default();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(told.iter().map(String::len).collect::<Vec<_>>(), [MAX_CMDLINE as usize]);
    }

    #[test]
    fn descendants_are_the_workers_without_a_cgroup() {
        let mut child = crate::tests::forks::start(std::process::Command::new("sleep").arg("60"));
        let list = list(&no_cgroups(), &owner(std::process::id() as i32, None));
        let seen = list.iter().any(|p| p.view.pid == child.id() as i32);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen, "{list:?}");
    }

    #[test]
    fn a_process_outside_of_the_group_is_not_the_workers() {
        let pid = std::process::id() as i32;
        assert!(view(pid, "w", Some("/no/such/group")).is_none());
        assert!(view(pid, "w", None).is_some());
    }
}
