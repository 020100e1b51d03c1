//! Passes over fake leaves: files in a folder, read as those of a cgroup.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::protocol::{CgroupMode, Resources};
use tokio::sync::watch;

use super::*;
use crate::task::{self, Known};
use crate::{CgroupView, WorkerState, WorkerView};

/// What the kernel shows of a leaf on cgroup v2, as long as it is there (memory.stat of Linux 6.12 has some 60 lines).
const FILES: [(&str, &str); 13] = [
    ("memory.current", "21803008\n"),
    ("memory.peak", "22020096\n"),
    ("memory.swap.current", "0\n"),
    ("memory.swap.peak", "0\n"),
    ("memory.stat", ""),
    ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
    ("cpu.stat", "usage_usec 1030\nuser_usec 820\nsystem_usec 210\nnr_periods 12\nnr_throttled 5\nthrottled_usec 77000\n"),
    ("io.stat", "254:0 rbytes=10 wbytes=1 rios=5 wios=1 dbytes=0 dios=0\n"),
    ("pids.current", "3\n"),
    ("pids.peak", "8\n"),
    ("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    ("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
];

struct Leaves {
    directory: tempfile::TempDir,
    handles: Vec<WorkerHandle>,
    views: Vec<watch::Sender<WorkerView>>,
}

impl Leaves {
    fn make(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut leaves = Self { directory, handles: vec![], views: vec![] };
        let stat: String = "anon file kernel slab shmem file_mapped kernel_stack pagetables sock pgfault pgmajfault"
            .split(' ')
            .map(|key| format!("{key} 4096\n"))
            .chain((0..50).map(|n| format!("workingset_counter_{n} 0\n")))
            .collect();
        for number in 0..count {
            let (handle, view) = worker(&format!("w{number}"));
            for (file, text) in FILES {
                leaves.put(number, (file, if file == "memory.stat" { &stat } else { text }));
            }
            leaves.handles.push(handle);
            leaves.views.push(view);
        }
        leaves
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("r/w{number}"))
    }

    fn put(&self, number: usize, (file, text): (&str, &str)) {
        fs::create_dir_all(self.path(number)).unwrap();
        fs::write(self.path(number).join(file), text).unwrap();
    }

    fn sampler(&self, descriptors: usize) -> Sampler {
        Sampler {
            descriptors: Descriptors::new(descriptors),
            ..Sampler::new(Arc::new(facts(self.directory.path())), Duration::from_secs(1))
        }
    }

    fn history(&self, sampler: &Sampler, number: usize) -> WorkerHistory {
        sampler.history((self.handles[number].id.as_str(), &self.handles[number].known.sampled), HistoryRange::default())
    }
}

fn facts(mount: &Path) -> CgroupFacts {
    let mounts = BTreeMap::from([("unified".to_owned(), mount.to_string_lossy().into_owned())]);
    CgroupFacts { mode: CgroupMode::Unified, root: "/r".into(), mounts, notes: vec![] }
}

fn worker(name: &str) -> (WorkerHandle, watch::Sender<WorkerView>) {
    let view = WorkerView {
        worker_id: name.into(),
        model: "m".into(),
        devices: vec![],
        policy: "p".into(),
        labels: BTreeMap::new(),
        state: WorkerState::Ready,
        generation: 1,
        restarts: 0,
        pid: Some(2),
        init_pid: Some(1),
        port: None,
        endpoint: None,
        created_at: crate::view::now(),
        started_at: None,
        ready_at: None,
        ended_at: None,
        cgroup: CgroupView { mode: CgroupMode::Unified, path: Some(format!("/r/{name}")) },
        limits: BTreeMap::from([(LimitKey::MemoryMax, LimitValue::Count(1 << 30))]),
        not_in_force: vec![],
        drift: vec![],
        verified: None,
        resources: Resources::default(),
        unmeasured: vec![],
        verdict: None,
        gpu_memory: None,
    };
    let view = watch::Sender::new(view);
    let (commands, _) = task::commands();
    let known: Arc<Known> = Arc::default();
    let handle = WorkerHandle { id: WorkerId::parse(name).unwrap(), commands, view: view.subscribe(), usage: Arc::default(), known };
    (handle, view)
}

#[test]
fn one_pass_over_100_leaves_opens_each_file_once_and_its_cost_is_told() {
    let leaves = Leaves::make(100);
    let mut costs = vec![];
    for descriptors in [2000, 0] {
        let sampler = leaves.sampler(descriptors);
        leaves.handles.iter().for_each(|handle| handle.known.sampled.forget());
        sampler.pass(&leaves.handles);
        let left = sampler.descriptors.left();
        assert_eq!(left, descriptors.saturating_sub(100 * FILES.len()), "each file is kept open once");
        let mut passes: Vec<Duration> = (0..20)
            .map(|_| {
                let began = Instant::now();
                sampler.pass(&leaves.handles);
                began.elapsed()
            })
            .collect();
        passes.sort();
        assert_eq!(sampler.descriptors.left(), left, "and never again");
        // The quickest: what it costs by itself, whatever else the machine does.
        costs.push(passes[0].as_secs_f64() * 1e6 / 100.0);
    }
    println!("a pass over 100 leaves of {} files: {:.1} µs a worker kept open, {:.1} µs opened", FILES.len(), costs[0], costs[1]);
}

#[test]
fn a_worker_costs_about_seventy_kilobytes() {
    let own = size_of::<Sampled>() + FILES.len() * 48;
    let ring = ring::MOST * size_of::<sample::Sample>();
    assert!(ring == 67_312 && ring + own < 71_000, "{ring} {own}");
    assert!(slot(1000, Duration::from_secs(1)) == 1000 && slot(4096, Duration::from_secs(1)) == 8000);
    for workers in [1, 999, 4096, 1_000_000] {
        let slot = slot(workers, Duration::from_millis(100));
        assert!(slot == WINDOW_MS || workers as u64 * (WINDOW_MS / slot) <= MAX_SAMPLES, "{workers}");
    }
}

#[test]
fn what_moved_between_two_passes_is_in_the_history_and_what_no_file_says_is_null() {
    let leaves = Leaves::make(1);
    fs::remove_file(leaves.path(0).join("io.stat")).unwrap();
    let sampler = leaves.sampler(100);
    sampler.pass(&leaves.handles);
    leaves.put(0, ("memory.current", "41943040\n"));
    leaves.put(0, ("cpu.stat", "usage_usec 50001030\nuser_usec 820\nsystem_usec 210\nthrottled_usec 77000\n"));
    // A moment of time between them is what a rate takes.
    let until = Instant::now() + Duration::from_millis(2);
    while Instant::now() < until {
        std::thread::yield_now();
    }
    sampler.pass(&leaves.handles);
    let told = leaves.history(&sampler, 0);
    assert_eq!((told.times.len(), told.interval_ms), (1, 1000), "within a second they are one point");
    let last = |name: &str| told.columns[name].last().copied().flatten();
    assert_eq!((last("memory_bytes"), last("memory_limit_bytes")), (Some(41_943_040.0), Some(1_073_741_824.0)));
    assert!(last("cpus").is_some_and(|cpus| cpus > 1.0), "{told:?}");
    assert_eq!((last("swap_bytes"), last("io_read_bytes_per_s")), (Some(0.0), None));
    assert_eq!(told.unmeasured.len(), 4, "{:?}", told.unmeasured);
    assert!(told.unmeasured.iter().all(|u| u.figure.starts_with("io_") && u.why.contains("not enabled")), "{:?}", told.unmeasured);
}

/// In a time that stands still: however slow the machine is, nothing falls due meanwhile.
#[tokio::test(start_paused = true)]
async fn inits_are_asked_in_turn_for_what_no_cgroup_counts_and_none_before_it_is_due() {
    let leaves = Leaves::make(2 * counts::A_PASS + 1);
    for number in 1..leaves.handles.len() {
        fs::remove_file(leaves.path(number).join("io.stat")).unwrap();
    }
    let sampler = leaves.sampler(0);
    let mut turns = counts::Turns::default();
    assert!(turns.take(&sampler, &leaves.handles).is_empty(), "nothing is known of them yet");
    sampler.pass(&leaves.handles);
    let mut asked: Vec<WorkerHandle> = vec![];
    for many in [counts::A_PASS, counts::A_PASS, 0] {
        let now = turns.take(&sampler, &leaves.handles);
        assert_eq!(now.len(), many);
        asked.extend(now);
    }
    let names: std::collections::BTreeSet<&str> = asked.iter().map(|handle| handle.id.as_str()).collect();
    assert_eq!((names.len(), names.contains("w0")), (2 * counts::A_PASS, false), "a cgroup counts those of w0");

    let bytes = rbee_hive_sandbox::protocol::IoBytes { read: 1 << 20, written: 0 };
    asked[0].known.sampled.keep_io(&sampler, (Some(bytes), Duration::ZERO));
    asked[1].known.sampled.keep_io(&sampler, (Some(bytes), Duration::from_secs(600)));
    for number in [1, 2] {
        leaves.put(number, ("cpu.stat", "usage_usec 1031\nuser_usec 820\nsystem_usec 211\n"));
    }
    sampler.pass(&leaves.handles);
    let again = turns.take(&sampler, &asked[..2]);
    assert!(again.len() == 1 && again[0].is(&asked[0]), "the other one has answered slowly");
}

#[tokio::test(start_paused = true)]
async fn an_init_is_asked_in_every_pass_and_for_no_more_than_a_twentieth_of_its_time() {
    let leaves = Leaves::make(1);
    fs::remove_file(leaves.path(0).join("io.stat")).unwrap();
    let sampler = leaves.sampler(100);
    let mut turns = counts::Turns::default();
    let second = Duration::from_secs(1);
    // Asked a moment after its turn was taken, as on a busy machine.
    let late = Duration::from_millis(20);
    for (took_ms, every) in [(1, 1), (40, 1), (90, 2), (390, 8)] {
        let took = Duration::from_millis(took_ms);
        let mut asked = vec![];
        for pass in 0..17 {
            leaves.put(0, ("cpu.stat", &format!("usage_usec {took_ms}{pass:03}\nuser_usec 820\nsystem_usec 210\n")));
            sampler.pass(&leaves.handles);
            let mut left = second;
            if !turns.take(&sampler, &leaves.handles).is_empty() {
                asked.push(pass);
                tokio::time::advance(late + took).await;
                left -= late + took;
                let bytes = rbee_hive_sandbox::protocol::IoBytes { read: pass, written: 0 };
                leaves.handles[0].known.sampled.keep_io(&sampler, (Some(bytes), counts::pause_after(took)));
            }
            tokio::time::advance(left).await;
        }
        let apart: std::collections::BTreeSet<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(apart, [every].into(), "{took_ms} ms: {asked:?}");
        tokio::time::advance(60 * second).await;
    }
}

#[test]
fn the_count_of_a_worker_that_has_not_run_since_holds_and_its_init_is_left_alone() {
    let leaves = Leaves::make(1);
    fs::remove_file(leaves.path(0).join("io.stat")).unwrap();
    let sampler = leaves.sampler(100);
    let mut turns = counts::Turns::default();
    let asked = |turns: &mut counts::Turns| turns.take(&sampler, &leaves.handles).len();
    sampler.pass(&leaves.handles);
    assert_eq!(asked(&mut turns), 1);
    let bytes = rbee_hive_sandbox::protocol::IoBytes { read: 0, written: 7 };
    leaves.handles[0].known.sampled.keep_io(&sampler, (Some(bytes), Duration::ZERO));
    for _ in 0..2 {
        let until = Instant::now() + Duration::from_millis(3);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        sampler.pass(&leaves.handles);
    }
    assert_eq!(asked(&mut turns), 0, "it has used no time");
    assert_eq!(leaves.history(&sampler, 0).columns["io_write_bytes_per_s"], [Some(0.0)], "measured, and nothing");
    leaves.put(0, ("cpu.stat", "usage_usec 1031\nuser_usec 820\nsystem_usec 211\n"));
    sampler.pass(&leaves.handles);
    assert_eq!(asked(&mut turns), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_init_has_counted_is_in_the_history_of_a_worker_whose_cgroup_does_not_count_it() {
    let leaves = Leaves::make(1);
    fs::remove_file(leaves.path(0).join("io.stat")).unwrap();
    let sampler = leaves.sampler(100);
    let sampled = &leaves.handles[0].known.sampled;
    for written in [0, 1 << 20] {
        let bytes = rbee_hive_sandbox::protocol::IoBytes { read: 0, written };
        // A rate takes a moment between two counts.
        tokio::time::advance(Duration::from_millis(500)).await;
        sampled.keep_io(&sampler, (Some(bytes), Duration::ZERO));
        sampler.pass(&leaves.handles);
    }
    let told = leaves.history(&sampler, 0);
    let last = |name: &str| told.columns[name].last().copied().flatten();
    assert_eq!((last("io_write_bytes_per_s"), last("io_read_bytes_per_s")), (Some(f64::from(2 << 20)), Some(0.0)), "{told:?}");
    let unmeasured: Vec<&str> = told.unmeasured.iter().map(|u| u.figure.as_str()).collect();
    assert_eq!(unmeasured, ["io_read_ops_per_s", "io_write_ops_per_s"]);
}

#[test]
fn an_ended_workers_history_stays_without_descriptors_until_it_is_forgotten() {
    let leaves = Leaves::make(2);
    let sampler = leaves.sampler(100);
    sampler.pass(&leaves.handles);
    assert_eq!(sampler.descriptors.left(), 100 - 2 * FILES.len());
    leaves.views[0].send_modify(|view| view.state = WorkerState::Stopped);
    sampler.pass(&leaves.handles);
    assert_eq!(sampler.descriptors.left(), 100 - FILES.len());
    assert_eq!(leaves.history(&sampler, 0).times.len(), 1);
    leaves.handles[0].known.sampled.forget();
    assert_eq!(leaves.history(&sampler, 0).times.len(), 0);
}

#[test]
fn a_list_is_given_what_was_read_a_moment_ago_and_a_status_what_is_there_now() {
    let leaves = Leaves::make(1);
    let sampler = leaves.sampler(100);
    sampler.pass(&leaves.handles);
    leaves.put(0, ("pids.current", "7\n"));
    let figures = |freshness| leaves.handles[0].known.sampled.figures(&sampler, ("/r/w0", freshness)).pids_current;
    assert_eq!(figures(Freshness::Recent), Some(3));
    assert_eq!(figures(Freshness::Now), Some(7));
    assert_eq!(figures(Freshness::Recent), Some(7), "what was read for one is there for all");
}

#[test]
fn a_limit_that_is_not_in_force_is_no_limit_and_one_that_was_changed_is_seen() {
    let leaves = Leaves::make(1);
    let sampler = leaves.sampler(100);
    leaves.views[0].send_modify(|view| {
        view.not_in_force.push(rbee_hive_policy::NotInForce { setting: "memory_max".into(), why: "no memory controller".into() });
    });
    sampler.pass(&leaves.handles);
    assert_eq!(leaves.history(&sampler, 0).columns["memory_limit_bytes"], [None]);
    leaves.views[0].send_modify(|view| {
        view.not_in_force.clear();
        view.limits.insert(LimitKey::MemoryMax, LimitValue::Count(1 << 20));
    });
    sampler.pass(&leaves.handles);
    assert_eq!(leaves.history(&sampler, 0).columns["memory_limit_bytes"], [Some(1_048_576.0)]);
}

#[tokio::test]
async fn sampling_ends_with_the_registry() {
    let leaves = Leaves::make(0);
    let registry = Arc::new(WorkerRegistry::new());
    let sampler = Sampler { interval: Duration::from_millis(1), ..leaves.sampler(0) };
    let running = tokio::spawn(run(Arc::new(sampler), Arc::downgrade(&registry)));
    drop(registry);
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("it goes on").unwrap();
}
