//! The formats, on texts of real kernels.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::protocol::{CgroupMode, MemoryEvents, MemoryKinds, PageFaults, Percent, Pressure, Stall, Stalls, Throttled};

fn facts(dir: &Path, keys: &[&str]) -> CgroupFacts {
    let mounts: BTreeMap<String, String> = keys.iter().map(|k| ((*k).to_owned(), dir.join(k).to_string_lossy().into_owned())).collect();
    CgroupFacts { mode: CgroupMode::Hybrid, root: "/r".into(), mounts, notes: vec![] }
}

fn put(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Files of a leaf on cgroup v2 of Linux 6.1, as the kernel writes them (memory.stat without its counters of reclaim).
const V2: &[(&str, &str)] = &[
    ("memory.current", "21803008\n"),
    ("memory.peak", "22020096\n"),
    ("memory.swap.current", "0\n"),
    (
        "memory.stat",
        "anon 17010688\nfile 4194304\nkernel 532480\nkernel_stack 16384\npagetables 73728\nsec_pagetables 0\npercpu 0\nsock 4096\n\
         vmalloc 0\nshmem 1048576\nzswap 0\nzswapped 0\nfile_mapped 2097152\nfile_dirty 0\nfile_writeback 0\nswapcached 0\nanon_thp 0\n\
         slab_reclaimable 204800\nslab_unreclaimable 163840\nslab 368640\npgfault 5061\npgmajfault 3\n",
    ),
    ("memory.events", "low 0\nhigh 4\nmax 9\noom 3\noom_kill 2\noom_group_kill 7\n"),
    (
        "cpu.stat",
        "usage_usec 1030\nuser_usec 820\nsystem_usec 210\nnr_periods 12\nnr_throttled 5\nthrottled_usec 77000\nnr_bursts 0\nburst_usec 0\n",
    ),
    ("pids.current", "3\n"),
    ("pids.peak", "8\n"),
    ("io.stat", "254:0 rbytes=10 wbytes=1 rios=5 wios=1 dbytes=0 dios=0\n8:0 rbytes=5 wbytes=2 rios=1 wios=1 dbytes=9 dios=1\n7:1 \n"),
    ("cpu.pressure", "some avg10=20.10 avg60=17.75 avg300=8.84 total=45606379\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    ("io.pressure", "some avg10=4.96 avg60=1.86 avg300=0.62 total=4729356\nfull avg10=2.35 avg60=0.67 avg300=0.24 total=2620300\n"),
];

/// Files of a leaf on cgroup v1 of Linux 6.18 by hierarchy, as the kernel writes them.
const V1: &[(&str, &str)] = &[
    ("memory/memory.usage_in_bytes", "5140226048\n"),
    ("memory/memory.max_usage_in_bytes", "5484072960\n"),
    (
        "memory/memory.stat",
        "cache 0\nrss 0\nshmem 0\nmapped_file 0\nswap 0\npgfault 0\npgmajfault 0\nhierarchical_memory_limit 9223372036854771712\n\
         total_cache 4735102976\ntotal_rss 177152000\ntotal_rss_huge 0\ntotal_shmem 8192\ntotal_mapped_file 310665216\ntotal_swap 0\n\
         total_swapcached 0\ntotal_pgfault 18350706\ntotal_pgmajfault 933\n",
    ),
    ("memory/memory.kmem.usage_in_bytes", "224473088\n"),
    ("memory/memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n"),
    ("memory/memory.kmem.tcp.usage_in_bytes", "0\n"),
    ("memory/memory.failcnt", "6\n"),
    ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
    ("cpuacct/cpuacct.usage", "5000000\n"),
    ("cpuacct/cpuacct.usage_user", "3744000\n"),
    ("cpuacct/cpuacct.usage_sys", "1256999\n"),
    ("cpu/cpu.stat", "nr_periods 40\nnr_throttled 30\nthrottled_time 2000000\nnr_bursts 0\nburst_time 0\n"),
    ("pids/pids.current", "3\n"),
    ("blkio/blkio.throttle.io_service_bytes", "254:0 Read 7\n254:0 Write 9\n254:0 Total 16\nTotal 16\n"),
    ("blkio/blkio.throttle.io_serviced", "254:0 Read 2\n254:0 Write 3\n254:0 Total 5\nTotal 5\n"),
    ("unified/cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 0\n"),
    ("unified/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.12 total=11\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
];

/// A leaf with these files, found below a folder a hierarchy.
fn leaf(files: &[(&str, &str)]) -> Resources {
    let t = tempfile::tempdir().unwrap();
    let mut keys: Vec<&str> = Vec::new();
    for (file, text) in files {
        let (key, name) = file.split_once('/').unwrap_or(("unified", file));
        keys.push(key);
        put(t.path(), &format!("{key}/r/w/{name}"), text);
    }
    read_resources(&facts(t.path(), &keys), "/r/w")
}

fn full(total_usec: u64, averages: [u32; 3]) -> Option<Stall> {
    let [avg10, avg60, avg300] = averages.map(Percent);
    Some(Stall { avg10, avg60, avg300, total_usec })
}

#[test]
fn v2_files_are_read() {
    let idle = Stalls { some: full(0, [0; 3]), full: full(0, [0; 3]) };
    let want = Resources {
        memory_current: Some(21_803_008),
        memory_peak: Some(22_020_096),
        swap_current: Some(0),
        swap_peak: None,
        memory_by_kind: MemoryKinds {
            anon: Some(17_010_688),
            file: Some(4_194_304),
            mapped: Some(2_097_152),
            shmem: Some(1_048_576),
            kernel: Some(532_480),
            slab: Some(368_640),
            kernel_stack: Some(16_384),
            page_tables: Some(73_728),
            sock: Some(4096),
        },
        memory_events: MemoryEvents { low: Some(0), high: Some(4), max: Some(9), oom: Some(3), oom_kill: Some(2), oom_group_kill: Some(7) },
        page_faults: PageFaults { minor: Some(5058), major: Some(3) },
        cpu_usage_usec: Some(1030),
        cpu_user_usec: Some(820),
        cpu_system_usec: Some(210),
        cpu_throttled: Throttled { periods: Some(12), throttled_periods: Some(5), usec: Some(77_000) },
        pids_current: Some(3),
        pids_peak: Some(8),
        oom_kills: Some(2),
        io_read_bytes: Some(15),
        io_write_bytes: Some(3),
        io_read_ops: Some(6),
        io_write_ops: Some(2),
        pressure: Pressure {
            cpu: Stalls { some: full(45_606_379, [2010, 1775, 884]), ..idle },
            memory: idle,
            io: Stalls { some: full(4_729_356, [496, 186, 62]), full: full(2_620_300, [235, 67, 24]) },
        },
    };
    assert_eq!(leaf(V2), want);
}

#[test]
fn v1_files_win_over_an_empty_v2_leaf_and_pressure_comes_from_that() {
    let got = leaf(V1);
    assert_eq!((got.memory_current, got.oom_kills, got.memory_peak), (Some(5_140_226_048), Some(1), Some(5_484_072_960)));
    let kinds = MemoryKinds {
        anon: Some(177_152_000),
        file: Some(4_735_102_976),
        mapped: Some(310_665_216),
        shmem: Some(8192),
        kernel: Some(224_473_088),
        ..MemoryKinds::default()
    };
    assert_eq!(got.memory_by_kind, kinds, "what is not counted is not 0, whatever memory.kmem.tcp.usage_in_bytes says");
    assert_eq!(got.memory_events, MemoryEvents { max: Some(6), oom_kill: Some(1), ..MemoryEvents::default() });
    assert_eq!((got.swap_current, got.swap_peak), (Some(0), None));
    assert_eq!(got.page_faults, PageFaults { minor: Some(18_349_773), major: Some(933) });
    assert_eq!(got.cpu_throttled, Throttled { periods: Some(40), throttled_periods: Some(30), usec: Some(2000) });
    assert_eq!((got.cpu_usage_usec, got.pids_current, got.pids_peak), (Some(5000), Some(3), None));
    assert_eq!((got.cpu_user_usec, got.cpu_system_usec), (Some(3744), Some(1256)));
    assert_eq!(got.pressure.cpu.some, full(11, [0, 0, 12]));
    assert_eq!(got.pressure.memory, Stalls::default());
}

/// [`V1`] with some of its files otherwise, a figure of it, and why it is null.
fn v1_with<T>(files: &[(&'static str, &'static str)], figure: &str, of: fn(&Resources) -> T) -> (T, Option<String>) {
    let mut all: BTreeMap<&str, &str> = V1.iter().copied().collect();
    all.extend(files.iter().copied());
    let got = leaf(&all.into_iter().collect::<Vec<_>>());
    let facts = facts(Path::new("/none"), &["memory", "cpuacct", "cpu", "pids", "blkio", "unified"]);
    (of(&got), unmeasured(&got, &facts).into_iter().find(|u| u.figure == figure).map(|u| u.why))
}

#[test]
fn reaching_one_limit_of_memory_and_swap_is_not_told_as_never_where_nobody_counts_it() {
    const ONE: (&str, &str) =
        ("memory/memory.stat", "total_cache 1\nhierarchical_memory_limit 67108864\nhierarchical_memsw_limit 67108864\n");
    const TWO: (&str, &str) =
        ("memory/memory.stat", "total_cache 1\nhierarchical_memory_limit 67108864\nhierarchical_memsw_limit 99999744\n");
    const NONE: (&str, &str) =
        ("memory/memory.stat", "hierarchical_memory_limit 9223372036854771712\nhierarchical_memsw_limit 9223372036854771712\n");
    let max = |stat, failed, both| {
        let files = [stat, ("memory/memory.failcnt", failed), ("memory/memory.memsw.failcnt", both)];
        v1_with(&files, "memory_events.max", |r| r.memory_events.max)
    };
    let (figure, why) = max(ONE, "0\n", "0\n");
    assert!(figure.is_none() && why.as_ref().is_some_and(|why| why.contains("no proof")), "{why:?}");
    assert_eq!(max(ONE, "0\n", "7\n"), (Some(7), None), "older kernels count it");
    assert_eq!((max(TWO, "0\n", "0\n"), max(NONE, "0\n", "0\n")), ((Some(0), None), (Some(0), None)), "that of memory alone is counted");
}

#[test]
fn network_buffers_are_counted_where_they_are_limited() {
    let sock = |limit, used| {
        let files = [("memory/memory.kmem.tcp.limit_in_bytes", limit), ("memory/memory.kmem.tcp.usage_in_bytes", used)];
        v1_with(&files, "memory_by_kind.sock", |r| r.memory_by_kind.sock)
    };
    assert_eq!((sock("67108864\n", "40960\n"), sock("67108864\n", "0\n")), ((Some(40_960), None), (Some(0), None)));
    let (figure, why) = sock("9223372036854771712\n", "0\n");
    assert!(figure.is_none() && why.is_some_and(|why| why.contains("only where they are limited")));
}

#[test]
fn a_worker_that_no_tick_has_met_has_no_time_by_mode() {
    let times = |user, system| {
        let files = [("cpuacct/cpuacct.usage_user", user), ("cpuacct/cpuacct.usage_sys", system)];
        v1_with(&files, "cpu_user_usec", |r| (r.cpu_user_usec, r.cpu_system_usec))
    };
    assert_eq!(times("4000000\n", "0\n"), ((Some(4000), Some(0)), None));
    let (figures, why) = times("0\n", "0\n");
    assert!(figures == (None, None) && why.is_some_and(|why| why.contains("tick")), "it has used five milliseconds");
}

#[test]
fn a_device_without_figures_is_a_sum_of_nothing_and_a_figure_that_no_device_has_is_none() {
    let io = |text| {
        let got = leaf(&[("io.stat", text)]);
        (got.io_read_bytes, got.io_write_ops)
    };
    assert_eq!(io(""), (Some(0), Some(0)), "v2 counts every device: nothing went anywhere");
    assert_eq!(io("7:1 \n"), (Some(0), Some(0)));
    assert_eq!(io("8:0 rbytes=5 wbytes=2\n"), (Some(5), None));
    assert_eq!(io("nonsense\n"), (None, None));
}

#[test]
fn every_null_has_one_reason_and_nothing_else_has_one() {
    let mounts = |dirs: &[&str]| facts(Path::new("/none"), dirs);
    for (resources, facts) in [
        (leaf(V2), mounts(&["unified"])),
        (leaf(V1), mounts(&["memory", "cpuacct", "cpu", "pids", "blkio", "unified"])),
        (Resources::default(), mounts(&["unified"])),
        (Resources { memory_current: Some(1), ..Resources::default() }, mounts(&["memory"])),
    ] {
        assert_eq!(unexplained(&resources, &facts), Vec::<String>::new());
    }
    let v1 = unmeasured(&leaf(V1), &mounts(&["memory", "cpuacct", "cpu", "pids", "blkio", "unified"]));
    let why = |figure: &str| v1.iter().find(|u| u.figure == figure).map(|u| u.why.as_str());
    assert_eq!(why("memory_by_kind.slab"), Some("cgroup v1 counts the kernel's memory as one sum"));
    assert_eq!(why("pids_peak"), Some("Linux before 6.1 keeps no peak of tasks (pids.peak)"));
    assert_eq!((why("memory_peak"), why("pressure")), (None, None));
    assert_eq!(unmeasured(&leaf(V2), &mounts(&["unified"])).iter().map(|u| u.figure.as_str()).collect::<Vec<_>>(), ["swap_peak"]);
}

/// Figures that are null without a reason, have several, or have one and are not null.
fn unexplained(resources: &Resources, facts: &CgroupFacts) -> Vec<String> {
    let told = unmeasured(resources, facts);
    let value = serde_json::to_value(resources).unwrap();
    let mut leaves = Vec::new();
    look(&value, "", &mut leaves);
    let covers = |figure: &str, path: &str| path == figure || path.strip_prefix(figure).is_some_and(|rest| rest.starts_with('.'));
    leaves.retain(|(path, null)| told.iter().filter(|u| covers(&u.figure, path) && !u.why.is_empty()).count() != usize::from(*null));
    leaves.into_iter().map(|(path, _)| path).collect()
}

fn look(value: &serde_json::Value, path: &str, leaves: &mut Vec<(String, bool)>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                look(member, &path, leaves);
            }
        }
        other => leaves.push((path.to_owned(), other.is_null())),
    }
}

#[test]
fn bytes_on_v1_are_those_of_its_processes_whatever_the_throttled_devices_have_counted() {
    let facts = facts(Path::new("/none"), &["memory", "cpuacct", "cpu", "pids", "blkio", "unified"]);
    let why = |resources: &Resources, figure: &str| unmeasured(resources, &facts).into_iter().find(|u| u.figure == figure).map(|u| u.why);
    // There are figures in both files of V1: a bound that somebody set an hour ago has begun them.
    let got = leaf(V1);
    assert!(got.lacks_io() && got.io_read_ops.is_none() && got.io_write_ops.is_none(), "{got:?}");
    assert!(why(&got, "io_read_bytes").unwrap().contains("by process it was not counted"));
    let counted = got.or_io(Some(crate::protocol::IoBytes { read: 3, written: 4 }));
    assert_eq!((counted.io_read_bytes, counted.io_write_bytes), (Some(3), Some(4)));
    assert_eq!(why(&counted, "io_write_bytes"), None);
    assert!(why(&counted, "io_write_ops").unwrap().contains("only bytes"));
    assert!(got.or_io(None).lacks_io());
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
        let _ = collect(&mut |_, _| Some(text.clone()));
        let _ = memory_limit(&|_, _| Some(text.clone()));
    }

    #[test]
    fn what_no_file_says_is_not_zero(v2 in any::<bool>(), there in proptest::collection::vec(any::<bool>(), 24), cut in 0usize..400) {
        // Some files are missing, the others break off somewhere: a figure is what the whole text says, or null.
        let files: BTreeMap<&str, &str> =
            if v2 { V2.to_vec() } else { V1.iter().map(|(f, t)| (f.split_once('/').unwrap().1, *t)).collect() }.into_iter().collect();
        let read = |whole: bool| {
            let mut number = 0;
            collect(&mut |home, file| {
                number += 1;
                let text = files.get(file).filter(|_| v2 == (home == Home::V2) || file.ends_with("pressure"))?;
                // io.stat with nothing in it says that nothing was read or written.
                let end = if file == "io.stat" { text.len() } else { cut.min(text.len()) };
                if whole { Some((*text).to_owned()) } else { there[number % there.len()].then(|| text[..end].rsplit_once('\n').map_or("", |c| c.0).to_owned()) }
            })
        };
        let (all, some) = (serde_json::to_value(read(true)).unwrap(), serde_json::to_value(read(false)).unwrap());
        let mut figures = Vec::new();
        look(&some, "", &mut figures);
        for (path, null) in figures {
            let pointer = format!("/{}", path.replace('.', "/"));
            // Sums over devices are as long as the text is.
            if !null && !path.starts_with("io_") && path != "page_faults.minor" {
                prop_assert_eq!(some.pointer(&pointer), all.pointer(&pointer), "{}", path);
            }
        }
    }

    #[test]
    fn every_null_is_explained_whatever_was_measured(text in "([a-z_]{1,12} [0-9]{1,4}\n){0,6}", missing in any::<u64>(), mounts in 0usize..4) {
        let mut number = 0;
        let resources = collect(&mut |_, _| {
            number += 1;
            (missing >> (number % 64) & 1 == 0).then(|| text.clone())
        });
        let keys: [&[&str]; 4] = [&[], &["unified"], &["memory", "cpu"], &["memory", "cpu", "cpuacct", "pids", "blkio", "unified"]];
        prop_assert_eq!(unexplained(&resources, &facts(Path::new("/none"), keys[mounts])), Vec::<String>::new());
    }
}
