//! The comparison: an honest sandbox, and one difference at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use rbee_hive_policy::{
    Bind, BindSource, Command, DeviceAccess, DeviceKind, DeviceNode, HostFacts, LimitKey, NetworkMode, Policy, SandboxPlan, WorkerId,
    WorkerRequest, compile, embedded,
};

use super::*;
use crate::protocol::{
    CgroupFacts, CgroupMode, Descriptor, Inside, InsideProcess, Made, MountSeen, Namespaces, Place, ProgramSeen, Rlimit,
};

const LEAF: &str = "/r/workers/w-w1/worker";
const UID: u32 = 4711;
const MAIN: i32 = 900;

/// A sandbox and all that is seen of it.
#[derive(Clone)]
struct Case {
    expected: Expected,
    outside: Outside,
    inside: Option<Inside>,
    program: Option<ProgramSeen>,
}

impl Case {
    fn findings(&self) -> Findings {
        compare(&self.expected, Seen { outside: &self.outside, inside: self.inside.as_ref(), program: self.program.as_ref() })
    }

    fn inside(&mut self) -> &mut Inside {
        self.inside.as_mut().unwrap()
    }

    fn main(&mut self) -> &mut ProcessSeen {
        &mut self.outside.processes[0]
    }
}

/// Compiled once: its seccomp profile is long.
static PLAN: LazyLock<SandboxPlan> = LazyLock::new(plan);

pub(crate) fn plan() -> SandboxPlan {
    let text = "[worker]\nbinary = \"x\"\n[limits]\nmemory_max = \"1MiB\"\nopen_files = 64\n[request]\nmay_set = []\n";
    let policy = Policy::parse("t", "t.toml", text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
    let request = WorkerRequest {
        worker_id: WorkerId::parse("w1").unwrap(),
        policy: "t".into(),
        command: Command::Worker { model: "m".into(), args: vec![] },
        devices: vec!["CPU-0".into()],
        lease: None,
        mps: None,
        env: BTreeMap::new(),
        limits: BTreeMap::new(),
        port: Some(9100),
    };
    let access = DeviceAccess { read: true, write: true, mknod: false };
    let facts = HostFacts {
        uid: UID,
        gid: UID,
        binary: "/bin/x".into(),
        binds: vec![Bind { source: BindSource::Path { path: "/usr".into() }, target: "/usr".into(), writable: false, optional: false }],
        symlinks: [("/lib".into(), "usr/lib".into())].into(),
        device_nodes: vec![DeviceNode { path: "/dev/null".into(), kind: DeviceKind::Char, major: 1, minor: 3, access }],
        host_cpus: "0".into(),
        landlock_abi: 7,
        ..HostFacts::default()
    };
    compile(&policy, &request, &facts).unwrap()
}

fn mount(id: u32, point: &str, options: &str, kind: &str) -> MountSeen {
    MountSeen {
        id,
        parent: 1,
        device: "0:9".into(),
        point: point.into(),
        options: options.into(),
        propagation: String::new(),
        kind: kind.into(),
    }
}

fn table() -> Vec<MountSeen> {
    vec![
        mount(10, "/", "ro,nosuid,nodev,relatime", "tmpfs"),
        mount(11, "/tmp", "rw,nosuid,nodev,relatime", "tmpfs"),
        mount(12, "/dev/null", "rw,nosuid,noexec,relatime", "devtmpfs"),
        mount(13, "/dev/shm", "rw,nosuid,nodev,relatime", "tmpfs"),
        mount(14, "/proc", "rw,nosuid,nodev,noexec,relatime", "proc"),
        mount(15, "/proc/kcore", "rw,relatime", "devtmpfs"),
        mount(16, "/usr", "ro,nosuid,nodev,relatime", "ext4"),
        mount(17, "/usr/lib/inner", "ro,nosuid,nodev,relatime", "ext4"),
        mount(18, "/home/worker", "rw,nosuid,nodev,relatime", "tmpfs"),
        mount(19, "/run/worker", "rw,nosuid,nodev,noexec,relatime", "tmpfs"),
    ]
}

fn groups() -> String {
    format!("4:memory:{LEAF}\n3:devices:{LEAF}\n2:foreign:/somewhere\n0::{LEAF}\n")
}

fn process(pid: i32, inner: i32) -> ProcessSeen {
    let status = Status {
        name: "x".into(),
        uids: [UID; 4],
        gids: [UID; 4],
        inner,
        depth: 2,
        no_new_privs: true,
        seccomp: 2,
        filters: Some(9),
        ..Status::default()
    };
    ProcessSeen { pid, start_ticks: 5, status, groups: groups(), limits: limits(), oom_score_adj: Some(0) }
}

fn limits() -> BTreeMap<String, Rlimit> {
    let limit = |n| Rlimit { soft: n, hard: n };
    [("Max open files", Some(64)), ("Max core file size", Some(0)), ("Max locked memory", Some(8192)), ("Max cpu time", None)]
        .map(|(name, n)| (name.to_owned(), limit(n)))
        .into()
}

fn namespaces(base: u64) -> Namespaces {
    let kinds = ["mnt", "pid", "ipc", "uts", "net", "user", "time", "cgroup"];
    kinds.into_iter().zip(base..).map(|(kind, n)| (kind.to_owned(), if kind == "user" || kind == "time" { 1 } else { n })).collect()
}

fn honest() -> Case {
    let cgroup = CgroupFacts {
        mode: CgroupMode::Hybrid,
        root: "/r".into(),
        mounts: [("memory", "/m"), ("devices", "/d"), ("unified", "/u")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        notes: vec![],
    };
    let made =
        Made { mounts: table(), groups: groups().lines().map(str::to_owned).collect(), limits: limits(), filters: Some(9), unseen: vec![] };
    let own = namespaces(100);
    let worker = Namespaces::from_iter(own.clone().into_iter().chain([("cgroup".to_owned(), 500)]));
    let inner = |pid| InsideProcess { pid, name: "x".into(), groups: Some(0), namespaces: Some(0), descriptors: Some(vec![]) };
    let inside = Inside {
        own,
        groups: vec![groups()],
        namespaces: vec![worker],
        processes: vec![inner(2), inner(3)],
        members: vec![2, 3],
        unseen: vec![],
    };
    let outside = Outside {
        own: namespaces(10),
        depth: 1,
        main: Some(MAIN),
        processes: vec![process(MAIN, 2), process(MAIN + 1, 3)],
        mounts: table(),
        limits: vec![LimitSeen { key: LimitKey::MemoryMax, file: "memory.limit_in_bytes".into(), text: "1048576".into() }],
        device_list: Some("c 1:3 rw\nb *:* m\nc *:* m\n".into()),
        unseen: vec![],
    };
    let program = Some(ProgramSeen { ours: Some(77), attached: vec![5, 77], error: None });
    Case {
        expected: Expected { plan: PLAN.clone(), leaf: Some(LEAF.into()), cgroup: Arc::new(cgroup), made: Some(made) },
        outside,
        inside: Some(inside),
        program,
    }
}

#[test]
fn an_honest_sandbox_has_no_drift_and_nothing_unseen() {
    assert_eq!(honest().findings(), Findings::default());
}

#[test]
fn what_narrows_or_is_the_workers_own_to_change_is_no_drift() {
    let mut case = honest();
    case.outside.processes[1].limits.insert("Max open files".into(), Rlimit { soft: Some(3), hard: Some(3) });
    case.outside.processes[1].groups = groups().replace(LEAF, &format!("{LEAF}/inner"));
    case.main().oom_score_adj = Some(900);
    case.main().status.filters = Some(12);
    case.main().limits.insert("Max locked memory".into(), Rlimit { soft: Some(0), hard: Some(0) });
    case.program.as_mut().unwrap().attached.push(99);
    let newborn = InsideProcess { pid: 9, name: "new".into(), groups: Some(0), namespaces: Some(0), descriptors: Some(vec![]) };
    case.inside().processes.push(newborn);
    let own = Descriptor { number: 7, target: "net:[104]".into(), place: Place::Namespace { kind: "net".into(), number: 104 } };
    case.inside().processes[0].descriptors = Some(vec![own]);
    assert_eq!(case.findings().drift, []);
}

type Break = fn(&mut Case);

/// One difference each: what is broken, what it is named under, a word of the sentence.
const TABLE: &[(&str, Break, Aspect, &str)] = &[
    ("a uid", |c| c.main().status.uids[2] = 0, Aspect::Identity, "planned 4711"),
    ("a gid", |c| c.main().status.gids[0] = 0, Aspect::Identity, "gids"),
    ("groups", |c| c.main().status.groups = vec![27], Aspect::Identity, "[27]"),
    ("inheritable", |c| c.main().status.capabilities[0] = 1, Aspect::Capabilities, "inheritable"),
    ("permitted", |c| c.main().status.capabilities[1] = 1, Aspect::Capabilities, "permitted"),
    ("effective", |c| c.main().status.capabilities[2] = 1, Aspect::Capabilities, "effective"),
    ("bounding", |c| c.main().status.capabilities[3] = 1, Aspect::Capabilities, "bounding"),
    ("ambient", |c| c.main().status.capabilities[4] = 1, Aspect::Capabilities, "ambient"),
    ("no_new_privs", |c| c.main().status.no_new_privs = false, Aspect::NoNewPrivs, "process 900"),
    ("seccomp off", |c| c.outside.processes[1].status.seccomp = 0, Aspect::Seccomp, "process 901"),
    ("a filter less", |c| c.main().status.filters = Some(8), Aspect::Seccomp, "8 seccomp filters, 9"),
    ("oom_score_adj", |c| c.main().oom_score_adj = Some(-1), Aspect::OomScoreAdj, "-1"),
    ("open files raised", |c| nofile(c, 65), Aspect::Limits, "\"Max open files\" 65, planned 64"),
    ("open files lowered", |c| nofile(c, 63), Aspect::Limits, "63, planned 64"),
    ("another limit raised", raise_locked_memory, Aspect::Limits, "unlimited, planned 8192"),
    ("memory_max raised", |c| c.outside.limits[0].text = "2097152".into(), Aspect::Limits, "memory.limit_in_bytes"),
    ("moved in one hierarchy", |c| c.main().groups = groups().replacen(LEAF, "/out", 1), Aspect::Cgroup, "/out of memory"),
    ("moved within the container", |c| c.main().groups = groups().replacen(LEAF, &format!("/x{LEAF}"), 1), Aspect::Cgroup, "/x/r"),
    ("moved out of sight", |c| stray(c), Aspect::Cgroup, "process 8 (gone) of the sandbox"),
    ("a stranger in the leaf", |c| c.outside.processes.push(process(4000, 4000)), Aspect::Cgroup, "not of its sandbox"),
    ("a stranger of the same number", |c| c.outside.processes[1].status.depth = 1, Aspect::Cgroup, "not of its sandbox"),
    ("the hive's mounts", |c| share(c, "mnt", 10), Aspect::Namespaces, "no mnt namespace of its own"),
    ("the hive's network", |c| share(c, "net", 14), Aspect::Namespaces, "no net namespace of its own"),
    ("a child elsewhere", |c| elsewhere(c, "net", 999), Aspect::Namespaces, "process 3 (x) of the sandbox is in another net"),
    ("a user namespace", |c| elsewhere(c, "user", 999), Aspect::Namespaces, "another user"),
    ("the hive's cgroup namespace", |c| elsewhere(c, "cgroup", 17), Aspect::Namespaces, "the hive's cgroup namespace"),
    ("another cgroup namespace", |c| elsewhere(c, "cgroup", 999), Aspect::Namespaces, "than the rest of the worker"),
    ("a mount more", |c| c.outside.mounts.push(mount(99, "/tmp/x", "rw,nosuid,nodev", "ext4")), Aspect::Mounts, "ext4 on /tmp/x"),
    ("a mount less", |c| drop(c.outside.mounts.remove(5)), Aspect::Mounts, "/proc/kcore is gone"),
    ("the root writable", |c| remount(c, "/", "rw,nosuid,nodev,relatime"), Aspect::Mounts, "/ lacks ro"),
    ("a bind writable", |c| remount(c, "/usr/lib/inner", "rw,nosuid,nodev"), Aspect::Mounts, "/usr/lib/inner lacks ro"),
    ("set-uid in scratch", |c| remount(c, "/tmp", "rw,nodev"), Aspect::Mounts, "/tmp lacks nosuid"),
    ("devices in scratch", |c| remount(c, "/home/worker", "rw,nosuid"), Aspect::Mounts, "lacks nodev"),
    ("a remount that no plan speaks of", |c| remount(c, "/proc", "rw,relatime"), Aspect::Mounts, "it was made"),
    ("propagation", |c| c.outside.mounts[1].propagation = "shared:7".into(), Aspect::Mounts, "shared:7, planned private"),
    ("a device more", |c| c.outside.device_list = Some("a *:* rwm".into()), Aspect::Devices, "a *:* rwm"),
    ("a device less", |c| c.outside.device_list = Some("b *:* m\nc *:* m".into()), Aspect::Devices, "lacks c 1:3 rw"),
    ("the program detached", |c| c.program.as_mut().unwrap().attached = vec![5], Aspect::Devices, "77 is no longer attached"),
    ("a directory outside", |c| descriptor(c, Place::Mount { id: 1 }), Aspect::Descriptors, "a mount that is not the sandbox's"),
    ("a socket outside", |c| descriptor(c, Place::Socket), Aspect::Descriptors, "another network namespace"),
    (
        "a namespace outside",
        |c| descriptor(c, Place::Namespace { kind: "net".into(), number: 14 }),
        Aspect::Descriptors,
        "a namespace that",
    ),
];

fn nofile(case: &mut Case, hard: u64) {
    case.main().limits.insert("Max open files".into(), Rlimit { soft: Some(64), hard: Some(hard) });
}

fn raise_locked_memory(case: &mut Case) {
    case.main().limits.insert("Max locked memory".into(), Rlimit { soft: None, hard: None });
}

#[test]
fn a_user_namespace_of_the_workers_own_is_neither_the_inits_nor_another_ones() {
    let planned = |change: fn(&mut Case)| {
        let mut case = honest();
        case.expected.plan.credentials.inside = Some(rbee_hive_policy::Ids { uid: 1000, gid: 1000 });
        change(&mut case);
        case.findings().drift.iter().map(|d| d.sentence.clone()).collect::<Vec<_>>()
    };
    let own = |case: &mut Case| _ = case.inside().namespaces[0].insert("user".into(), 4);
    assert_eq!(planned(own), Vec::<String>::new());
    assert!(planned(|_| ()).iter().all(|m| m.contains("is in the hive's user namespace")) && planned(|_| ()).len() == 2);
    let nested = planned(|case| {
        case.inside().namespaces[0].insert("user".into(), 4);
        elsewhere(case, "user", 5);
    });
    assert!(nested.len() == 1 && nested[0].contains("another user namespace"), "{nested:?}");
}

fn stray(case: &mut Case) {
    case.inside().groups.push("4:memory:/\n3:devices:/\n0::/\n".into());
    case.inside().processes.push(InsideProcess { pid: 8, name: "gone".into(), groups: Some(1), ..InsideProcess::default() });
}

fn share(case: &mut Case, kind: &str, number: u64) {
    case.inside().own.insert(kind.into(), number);
    case.inside().namespaces[0].insert(kind.into(), number);
}

fn elsewhere(case: &mut Case, kind: &str, number: u64) {
    let mut other = case.inside().namespaces[0].clone();
    other.insert(kind.into(), number);
    case.inside().namespaces.push(other);
    case.inside().processes[1].namespaces = Some(1);
}

fn remount(case: &mut Case, point: &str, options: &str) {
    case.outside.mounts.iter_mut().find(|m| m.point == point).unwrap().options = options.into();
}

fn descriptor(case: &mut Case, place: Place) {
    case.inside().processes[1].descriptors = Some(vec![Descriptor { number: 5, target: "t".into(), place }]);
}

#[test]
fn each_difference_is_named_under_its_aspect() {
    for (what, damage, aspect, word) in TABLE {
        let mut case = honest();
        damage(&mut case);
        let found = case.findings();
        assert!(found.drift.iter().any(|d| d.aspect == *aspect && d.sentence.contains(word)), "{what}: {:?}", found.drift);
        assert!(found.drift.iter().all(|d| d.aspect == *aspect), "{what} is no other aspect's: {:?}", found.drift);
    }
}

#[test]
fn what_is_not_in_force_or_granted_is_no_drift() {
    let mut case = honest();
    case.outside.limits[0].text = "max".into();
    case.expected.plan.not_in_force.push(rbee_hive_policy::NotInForce { setting: "memory_max".into(), why: "w".into() });
    case.expected.plan.network = NetworkMode::Host;
    share(&mut case, "net", 14);
    descriptor(&mut case, Place::Socket);
    case.expected.plan.credentials.capabilities = vec!["CAP_MKNOD".into()];
    case.main().status.capabilities[1] = 1 << 27;
    assert_eq!(case.findings().drift, []);
    case.main().status.capabilities[1] = 3 << 27;
    assert_eq!(case.findings().drift.len(), 1);
}

#[test]
fn a_user_namespace_of_the_workers_alone_is_neither_the_inits_nor_shared() {
    let mut case = honest();
    case.expected.plan.credentials.inside = Some(rbee_hive_policy::Ids { uid: 1000, gid: 1000 });
    let found = case.findings().drift;
    assert!(found.iter().all(|d| d.sentence.contains("the hive's user namespace")) && found.len() == 2, "{found:?}");
    case.inside().namespaces[0].insert("user".into(), 700);
    assert_eq!(case.findings().drift, []);
    elsewhere(&mut case, "user", 701);
    assert!(case.findings().drift[0].sentence.contains("than the rest of the worker"), "{:?}", case.findings().drift);
}

#[test]
fn who_has_not_told_is_unseen_and_what_has_ended_is_not_judged() {
    let mut case = honest();
    (case.inside, case.program, case.expected.made) = (None, None, None);
    let found = case.findings();
    assert_eq!((found.drift.len(), found.unseen.len()), (0, 3), "{found:?}");
    let mut blind = honest();
    blind.inside = Some(Inside { unseen: vec!["no /proc".into()], ..Inside::default() });
    assert_eq!(blind.findings(), Findings { drift: vec![], unseen: vec!["no /proc".into()] });
    let mut unlisted = honest();
    unlisted.inside().processes.pop();
    unlisted.inside().members = vec![2, 3];
    assert_eq!(unlisted.findings().drift, []);
    let mut ended = honest();
    ended.main().status.no_new_privs = false;
    ended.outside.main = None;
    assert_eq!(ended.findings().drift, []);
}

#[test]
fn a_flood_of_differences_is_cut() {
    let mut case = honest();
    for id in 100..400 {
        case.outside.mounts.push(mount(id, &format!("/tmp/{id}"), "rw", "ext4"));
    }
    let found = case.findings().drift;
    assert_eq!(found.len(), 32);
    assert!(found[31].sentence.contains("more differences"), "{:?}", found[31]);
}

proptest! {
    #[test]
    fn a_capability_is_drift_if_and_only_if_it_is_not_planned(set in any::<u64>(), which in 0usize..5) {
        let mut case = honest();
        case.expected.plan.credentials.capabilities = vec!["CAP_NET_BIND_SERVICE".into(), "CAP_MKNOD".into()];
        case.main().status.capabilities[which] = set;
        let planned = 1 << 10 | 1 << 27;
        prop_assert_eq!(case.findings().drift.is_empty(), set & !planned == 0);
    }

    #[test]
    fn two_differences_are_both_told_whatever_their_order(one in 0..TABLE.len(), two in 0..TABLE.len()) {
        let (first, second) = (&TABLE[one], &TABLE[two]);
        prop_assume!(first.2 != second.2);
        let mut case = honest();
        (first.1)(&mut case);
        (second.1)(&mut case);
        let found = case.findings().drift;
        for (what, _, aspect, _) in [first, second] {
            prop_assert!(found.iter().any(|d| d.aspect == *aspect), "{} is hidden: {:?}", what, found);
        }
    }

    #[test]
    fn no_text_of_a_kernel_file_makes_it_panic(groups in "([0-9]{1,2}:[a-z=,]{0,8}:[ -~]{0,30}\n){0,4}", list in "[ -~\n]{0,60}", text in "[ -~]{0,20}") {
        let mut case = honest();
        case.main().groups = groups;
        case.outside.device_list = Some(list);
        case.outside.limits[0].text = text;
        let _ = case.findings();
    }
}
