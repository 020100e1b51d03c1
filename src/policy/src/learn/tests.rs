use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::{
    Bind, BindSource, Command, DeviceAccess, DeviceKind, DeviceNode, HostFacts, LimitKey, LimitValue, NetworkMode, WorkerId, WorkerRequest,
    compile, embedded,
};

const BASE: &str = r#"
[worker]
binary = "x"
[limits]
memory_max = "256MiB"
pids_max = 64
[filesystem]
read_only = ["/usr", "/lib", { path = "/etc/ld.so.cache", optional = true }]
read_write = ["/srv/data"]
[devices]
nodes = [{ path = "/dev/fuse", reason = "mounts" }]
[environment]
set = { LANG = "C" }
[request]
may_set = ["args", "limits"]
"#;

fn base(text: &str) -> WatchPlan {
    let base = Policy::parse("base", "base.toml", text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
    WatchPlan { profile: base.seccomp.rules.clone(), base }
}

fn plan(watch: WatchPlan) -> SandboxPlan {
    let request = WorkerRequest {
        worker_id: WorkerId::parse("w").unwrap(),
        policy: "base".into(),
        command: Command::Run { argv: vec!["x".into()] },
        devices: vec!["CPU-0".into()],
        lease: None,
        mps: None,
        env: BTreeMap::new(),
        limits: BTreeMap::new(),
        port: None,
    };
    let symlinks = BTreeMap::from([(PathBuf::from("/lib"), PathBuf::from("usr/lib"))]);
    let mut plan = compile(&watch.base, &request, &HostFacts { symlinks, host_cpus: "0".into(), ..HostFacts::default() }).unwrap();
    plan.watch = Some(Box::new(watch));
    plan
}

/// The proposal, and the policy that it is read as.
fn proposed(plan: &SandboxPlan, seen: &Observations, command: &[&str]) -> (Proposal, Policy) {
    let command: Vec<String> = command.iter().map(|w| (*w).to_owned()).collect();
    let watched = Watched { name: "mine", command: &command, plan, seen, memory_peak: Some(10 << 20), end: "it exited with status 0" };
    let proposal = propose(&watched).unwrap();
    let text =
        |name: &str| if name == "seccomp/mine" { Some(proposal.profile.clone()) } else { embedded::fragment(name).map(str::to_owned) };
    let policy = Policy::parse("mine", "mine.toml", &proposal.policy, &text)
        .unwrap_or_else(|e| panic!("{e}\n{}\n{}", proposal.policy, proposal.profile));
    (proposal, policy)
}

fn of(seen: &Observations) -> (Proposal, Policy) {
    proposed(&plan(base(BASE)), seen, &["x"])
}

fn file(kind: Kind, uses: &[Use]) -> SeenFile {
    SeenFile { kind, uses: uses.iter().copied().collect(), by: Programs::of("prog") }
}

type SeenAt = (&'static str, Kind, Use);

fn files(list: &[SeenAt]) -> Observations {
    Observations { files: list.iter().map(|(path, kind, what)| (path.into(), file(*kind, &[*what]))).collect(), ..Observations::default() }
}

fn read_only(policy: &Policy) -> Vec<&str> {
    policy.filesystem.read_only.iter().filter_map(|p| p.path.to_str()).collect()
}

#[test]
fn files_are_shown_by_themselves_and_what_was_listed_as_a_whole() {
    use {Kind::*, Use::*};
    let cases: [(&[SeenAt], &[&str]); 8] = [
        (&[("/usr/bin/dash", File, Execute), ("/usr/bin/sh", Link, Look)], &["/usr/bin/dash", "/usr/bin/sh"]),
        (&[("/usr/share/doc", Directory, List), ("/usr/share/doc/a", File, Read)], &["/usr/share/doc"]),
        (&[("/usr/lib", Directory, Look), ("/usr/lib/a.so", File, Read)], &["/usr/lib/a.so"]),
        (&[("/usr/share/x", Directory, Look)], &["/usr/share/x"]),
        (&[("/lib", Link, Look), ("/etc/ld.so.cache", File, Read)], &["/etc/ld.so.cache", "/lib"]),
        (&[("/etc/passwd", File, Read), ("/home/worker/x", File, Write), ("/", Directory, List)], &[]),
        (&[("/srv/data/a", File, Read)], &["/srv/data/a"]),
        (&[], &[]),
    ];
    for (seen, want) in cases {
        assert_eq!(read_only(&of(&files(seen)).1), want, "{seen:?}");
    }
    let (proposal, policy) = of(&files(&[("/etc/ld.so.cache", File, Read)]));
    assert!(policy.filesystem.read_only[0].optional, "the base's own word on it");
    assert!(proposal.policy.contains("# opened by prog while learning"), "{}", proposal.policy);
}

#[test]
fn what_is_written_in_is_shown_as_a_whole_because_renames_do_not_cross_mounts() {
    let seen = files(&[("/srv/data/deep/a", Kind::File, Use::Read), ("/srv/data/b", Kind::File, Use::Write)]);
    let (_, policy) = of(&seen);
    let writable: Vec<_> = policy.filesystem.read_write.iter().map(|p| p.path.as_path()).collect();
    assert_eq!((writable, read_only(&policy)), (vec![Path::new("/srv/data")], vec![]));
}

#[test]
fn many_entries_are_gathered_in_their_directory_and_never_above_the_base() {
    let many = |n: usize, path: &dyn Fn(usize) -> String| Observations {
        files: (0..n).map(|i| (path(i).into(), file(Kind::File, &[Use::Read]))).collect(),
        ..Observations::default()
    };
    assert_eq!(read_only(&of(&many(11, &|i| format!("/usr/lib/l/{i}"))).1).len(), 11);
    assert_eq!(read_only(&of(&many(12, &|i| format!("/usr/lib/l/{i}"))).1), ["/usr/lib/l"]);
    let spread = of(&many(300, &|i| format!("/usr/lib/{}/{}/f", i / 10, i % 10))).1;
    assert!(!spread.filesystem.read_only.is_empty() && spread.filesystem.read_only.len() <= 64, "{:?}", read_only(&spread));
    let far = of(&many(5000, &|i| format!("/usr/{i}/{i}/{i}"))).1;
    assert_eq!(read_only(&far), ["/usr"]);
}

#[test]
fn a_gap_leaves_the_base_as_it_is() {
    for gap in [Gap::Words, Gap::Ways, Gap::Paths] {
        let seen = Observations { gaps: [gap].into(), ..files(&[("/usr/a", Kind::File, Use::Read)]) };
        let (proposal, policy) = of(&seen);
        assert_eq!(read_only(&policy), ["/usr", "/lib", "/etc/ld.so.cache"]);
        assert!(proposal.policy.contains("not every path could be seen"), "{}", proposal.policy);
    }
}

#[test]
fn the_least_network_that_was_enough() {
    let text =
        |mode: &str| format!("[worker]\nbinary = \"x\"\ncommand = [\"x\"]\n[network]\nmode = \"{mode}\"\n[readiness]\nnone = true\n");
    let on = |mode: &str| plan(base(&text(mode)));
    let none = SeenNetwork::default();
    let serves = SeenNetwork { ports: [9100].into(), listens: true, ..SeenNetwork::default() };
    let asks_itself = SeenNetwork { targets: [Target::Loopback(9100)].into(), ..serves.clone() };
    let asks_another = SeenNetwork { targets: [Target::Loopback(80)].into(), ..SeenNetwork::default() };
    let abroad = SeenNetwork { targets: [Target::Elsewhere].into(), ..SeenNetwork::default() };
    let datagrams = SeenNetwork { datagrams: true, ..SeenNetwork::default() };
    use NetworkMode::{Host, None, Private};
    let cases = [
        ("host", &none, None),
        ("host", &serves, Private),
        ("host", &asks_itself, Private),
        ("host", &asks_another, Host),
        ("host", &abroad, Host),
        ("host", &datagrams, Host),
        ("private", &none, None),
        ("private", &serves, Private),
        ("private", &abroad, None),
        ("none", &serves, None),
    ];
    for (mode, network, want) in cases {
        let seen = Observations { network: network.clone(), ..Observations::default() };
        assert_eq!(proposed(&on(mode), &seen, &["x"]).1.network, want, "{mode} {network:?}");
    }
    let gap = Observations { gaps: [Gap::Addresses].into(), ..Observations::default() };
    assert_eq!(proposed(&on("host"), &gap, &["x"]).1.network, Host);
}

#[test]
fn the_port_becomes_the_hives_and_odd_words_stay_a_requests() {
    let seen = Observations {
        program: Some("/usr/bin/server".into()),
        network: SeenNetwork { ports: [9100].into(), listens: true, ..SeenNetwork::default() },
        ..Observations::default()
    };
    let command = |words: &[&str]| proposed(&plan(base(BASE)), &seen, words).1.worker;
    assert_eq!(command(&["server", "--port", "9100"]).command, ["server", "--port", "{port}"]);
    assert_eq!(command(&["server", "--listen=0.0.0.0:9100"]).command, ["server", "--listen=0.0.0.0:{port}"]);
    assert_eq!(command(&["server", "9100", "9100"]).command, ["server", "9100", "9100"], "which one is not known");
    assert_eq!(command(&["server", "19100"]).command, ["server", "19100"]);
    assert_eq!(command(&["sh", "-c", "echo {args}"]).command, ["{binary}", "{args}"]);
    assert_eq!(command(&["sh", "-c", "echo {\"a\": 1}"]).command, ["sh", "-c", "echo {\"a\": 1}"]);
    assert_eq!(command(&["server"]).binary, "/usr/bin/server");
    assert!(proposed(&plan(base(BASE)), &seen, &["server", "9100"]).1.takes_port());
    assert!(!proposed(&plan(base(BASE)), &Observations::default(), &["server", "9100"]).1.takes_port());
}

#[test]
fn limits_have_room_and_stay_within_the_base() {
    let seen = Observations { tasks: Some(3), descriptors: Some(256), ..Observations::default() };
    let limits = of(&seen).1.limits;
    let count = |key: LimitKey| limits.get(&key).and_then(|l| l.value.count());
    assert_eq!(count(LimitKey::MemoryMax), Some(42 << 20), "10 MiB and room for 32");
    assert_eq!((count(LimitKey::PidsMax), count(LimitKey::OpenFiles)), (Some(11), Some(512)));
    let more = Observations { tasks: Some(60), ..Observations::default() };
    assert_eq!(of(&more).1.limits[&LimitKey::PidsMax].value, LimitValue::Count(64), "the base's");
    assert_eq!(of(&Observations::default()).1.limits[&LimitKey::PidsMax].value, LimitValue::Count(64), "nothing was counted");
}

#[test]
fn devices_are_the_bases_as_far_as_they_were_opened() {
    let opened = |uses: &[Use]| Observations { files: [("/dev/fuse".into(), file(Kind::Device, uses))].into(), ..Observations::default() };
    assert!(of(&Observations::default()).1.devices.nodes.is_empty());
    assert!(of(&opened(&[Use::Look])).1.devices.nodes.is_empty());
    let nodes = of(&opened(&[Use::Read])).1.devices.nodes;
    assert_eq!((nodes.len(), nodes[0].access.read, nodes[0].access.write), (1, true, false));
    assert_eq!(nodes[0].reason, "opened by prog while learning; mounts");
    let strange = Observations { files: [("/dev/kmsg".into(), file(Kind::Device, &[Use::Read]))].into(), ..Observations::default() };
    assert!(of(&strange).1.devices.nodes.is_empty(), "the base does not list it");
}

#[test]
fn a_gpu_that_was_used_is_leased_as_the_base_leases_it() {
    let lease = "[devices]\ngpus = \"leased\"\ncount = 2\nshare = { memory = \"20GiB\" }\naffinity = \"device\"\nvram_min = \"1GiB\"\n\
         gpu_memory_action = \"warn\"\nmps = \"if_available\"\nmps_active_threads = 50\nnodes = []\n";
    let text = BASE.replace("[devices]\nnodes = [{ path = \"/dev/fuse\", reason = \"mounts\" }]\n", lease);
    let mut plan = plan(base(&text));
    plan.leased = vec!["GPU-0".into()];
    let access = DeviceAccess { read: true, write: true, mknod: false };
    plan.devices = vec![DeviceNode { path: "/dev/zero".into(), kind: DeviceKind::Char, major: 1, minor: 5, access }];
    let seen = Observations { files: [("/dev/zero".into(), file(Kind::Device, &[Use::Read]))].into(), ..Observations::default() };
    let learned = proposed(&plan, &seen, &["x"]).1.devices;
    assert_eq!(learned, plan.watch.unwrap().base.devices);
}

#[test]
fn calls_have_their_makers_and_refusals_that_still_mean_something_stay() {
    let calls = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), Programs::of("prog"))).collect();
    let seen = Observations { calls: calls(&["read", "socket", "ptrace", "no_such_call", "451"]), ..Observations::default() };
    let rules = of(&seen).1.seccomp.rules.unwrap();
    let allowed: Vec<&str> = rules.allow.iter().flat_map(|a| &a.calls).map(String::as_str).collect();
    assert!(allowed.contains(&"read") && allowed.contains(&"restart_syscall"), "{allowed:?}");
    assert!(!allowed.contains(&"ptrace") && !allowed.contains(&"write") && !allowed.contains(&"sched_yield"), "{allowed:?}");
    assert!(rules.allow.iter().any(|a| a.reason == "made by prog while learning"));
    let refused = |call: &str| rules.refuse.iter().filter(|r| r.calls.iter().any(|c| c == call)).count();
    let shipped = base(BASE).base.seccomp.rules.unwrap();
    let of_the_base = shipped.refuse.iter().filter(|r| r.calls.iter().any(|c| c == "socket")).count();
    assert!(of_the_base > 1 && refused("socket") == of_the_base, "{of_the_base}");
    assert_eq!((refused("ioctl"), refused("clone3"), refused("ptrace")), (0, 1, 1));
    let free = base("[worker]\nbinary = \"x\"\n[seccomp]\nprofile = \"none\"\nreason = \"a test\"\n");
    let rules = proposed(&plan(free), &seen, &["x"]).1.seccomp.rules.unwrap();
    assert!(rules.refuse.is_empty() && rules.allow.iter().any(|a| a.calls.contains(&"ptrace".to_owned())));
}

#[test]
fn a_workers_words_break_out_of_no_line() {
    let mut seen = files(&[("/usr/a\n]\nread_write = [\"/\"]", Kind::File, Use::Read), ("/usr/q\"\\", Kind::File, Use::Read)]);
    for file in seen.files.values_mut() {
        // As if it did not come by way of `add`.
        file.by = serde_json::from_str("[\"x\\n[network]\\nmode = \\\"host\\\"\"]").unwrap();
    }
    seen.missing.insert("/a\n[worker]".into());
    seen.calls.insert("read".into(), serde_json::from_str("[\"\\\"\\n[[allow]]\"]").unwrap());
    let (proposal, policy) = proposed(&plan(base(BASE)), &seen, &["sh", "-c", "a\n[network]\nmode = \"host\"\t\u{1}\""]);
    assert_eq!((policy.network, policy.filesystem.read_only.len()), (NetworkMode::None, 2), "{}", proposal.policy);
    assert_eq!(policy.worker.command[2], "a\n[network]\nmode = \"host\"\t\u{1}\"");
    assert!(policy.filesystem.read_write.is_empty());
}

#[test]
fn what_can_not_be_watched_is_the_bases_own() {
    // Whole sections are compared, so that a key to come is not forgotten.
    let text = r#"
[worker]
binary = "x"
stop_signal = "SIGINT"
stop_grace = "3s"
on_hive_exit = "kill"
on_oom = "stop"
[filesystem]
tmp_size = "5MiB"
shm_size = "4097B"
[environment]
pass = ["LANG"]
set = { A = "x y" }
[credentials]
user = "user-namespace"
[landlock]
enforce = "none"
reason = "a \"test\""
[restart]
when = "on-failure"
max_restarts = 3
[process]
umask = "0077"
oom_score_adj = 5
scheduler = "batch"
nice = { value = 3, enforce = "if_available" }
io_class = "best-effort"
io_priority = 6
numa = "interleave"
timer_slack = "70us"
[verify]
interval = "0"
on_drift = "kill"
[pressure]
memory = "300ms/4s"
"#;
    let watch = base(text);
    let own = watch.base.clone();
    let policy = proposed(&plan(watch), &Observations::default(), &["x"]).1;
    assert_eq!((&policy.process, &policy.verify, &policy.restart), (&own.process, &own.verify, &own.restart));
    assert_eq!((&policy.environment, &policy.credentials, &policy.landlock), (&own.environment, &own.credentials, &own.landlock));
    assert_eq!((policy.filesystem.tmp_size, policy.filesystem.shm_size), (own.filesystem.tmp_size, own.filesystem.shm_size));
    assert_eq!((&policy.worker.stop, policy.worker.on_hive_exit), (&own.worker.stop, own.worker.on_hive_exit));
    assert_eq!((policy.worker.on_oom, policy.pressure), (own.worker.on_oom, own.pressure));
    let watch = base("[worker]\nbinary = \"x\"\n[filesystem]\nroot = \"/srv/root\"\nread_only = [\"/usr\"]\n");
    let own = watch.base.clone();
    let policy = proposed(&plan(watch), &files(&[("/usr/a", Kind::File, Use::Read)]), &["x"]).1;
    assert_eq!(policy.filesystem, own.filesystem, "as a whole");
}

#[test]
fn without_a_watched_plan_there_is_no_proposal() {
    let plan = SandboxPlan { watch: None, ..plan(base(BASE)) };
    let seen = Observations::default();
    assert!(propose(&Watched { name: "n", command: &[], plan: &plan, seen: &seen, memory_peak: None, end: "" }).is_err());
}

fn some_path() -> impl Strategy<Value = PathBuf> {
    let part = prop::sample::select(vec!["usr", "lib", "etc", "srv", "data", "a", "b", "ld.so.cache", "dev", "fuse", "..", "root"]);
    prop::collection::vec(part, 1..6).prop_map(|parts| PathBuf::from(format!("/{}", parts.join("/"))))
}

fn some_file() -> impl Strategy<Value = SeenFile> {
    let kind = prop::sample::select(vec![Kind::File, Kind::Directory, Kind::Link, Kind::Device]);
    let uses = prop::collection::btree_set(prop::sample::select(vec![Use::Look, Use::Read, Use::Write, Use::Execute, Use::List]), 1..4);
    (kind, uses, "\\PC{0,5}").prop_map(|(kind, uses, by)| SeenFile { kind, uses, by: Programs::of(&by) })
}

prop_compose! {
    fn anything()(
        files in prop::collection::btree_map(some_path(), some_file(), 0..40),
        calls in prop::collection::btree_set(prop::sample::select(vec!["read", "mount", "bpf", "kexec_load", "clone", "ioctl", "x"]), 0..6),
        ports in prop::collection::btree_set(any::<u16>(), 0..3),
        listens in any::<bool>(),
        datagrams in any::<bool>(),
        tasks in any::<Option<u64>>(),
        descriptors in any::<Option<u64>>(),
    ) -> Observations {
        let network = SeenNetwork { ports, listens, datagrams, targets: [Target::Elsewhere].into() };
        let calls = calls.into_iter().map(|c| (c.to_owned(), Programs::of("p"))).collect();
        Observations { files, calls, network, tasks, descriptors, ..Observations::default() }
    }
}

fn shows(base: &Policy, path: &Path, writable: bool) -> bool {
    let writes = base.filesystem.read_write.iter().any(|p| path == p.path);
    writable && writes || !writable && base.listed_paths().any(|p| path.starts_with(p))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_goes_beyond_the_base_whatever_was_seen(seen in anything()) {
        let watch = base(BASE);
        let (_, policy) = proposed(&plan(watch.clone()), &seen, &["x"]);
        for listed in &policy.filesystem.read_only {
            prop_assert!(shows(&watch.base, &listed.path, false), "{listed:?}");
        }
        for listed in &policy.filesystem.read_write {
            prop_assert!(shows(&watch.base, &listed.path, true), "{listed:?}");
        }
        let calls = |p: &SeccompProfile| p.allow.iter().flat_map(|a| a.calls.clone()).collect::<BTreeSet<_>>();
        let (own, all) = (policy.seccomp.rules.unwrap(), watch.profile.unwrap());
        prop_assert!(calls(&own).is_subset(&calls(&all)));
        // Of what the base refuses in some uses, an allowed call keeps every one.
        for refused in all.refuse.iter().filter(|r| !r.when.is_empty()) {
            for call in refused.calls.iter().filter(|c| calls(&own).contains(*c)) {
                let kept = own.refuse.iter().any(|r| r.when == refused.when && r.errno == refused.errno && r.calls.contains(call));
                prop_assert!(kept, "{call} {:?}", refused.when);
            }
        }
        prop_assert!(policy.network != NetworkMode::Host);
        for (key, limit) in &watch.base.limits {
            prop_assert!(policy.limits[key].value.within(&limit.value), "{key:?}");
        }
        prop_assert!(policy.devices.nodes.iter().all(|n| watch.base.devices.nodes.iter().any(|b| b.path == n.path)));
        prop_assert!(policy.request.may_set.is_subset(&watch.base.request.may_set) && policy.request.max.is_empty());
    }

    #[test]
    fn parts_are_bounded_and_put_together_again(seen in anything(), bytes in 600usize..4000) {
        let parts = seen.clone().into_parts(bytes);
        for part in parts.iter().skip(1) {
            prop_assert!(serde_json::to_vec(part).unwrap().len() <= bytes + 600, "{}", serde_json::to_vec(part).unwrap().len());
        }
        let mut whole = Observations::default();
        parts.into_iter().for_each(|part| whole.absorb(part));
        prop_assert_eq!(whole, seen);
    }
}

#[test]
fn the_plans_binds_are_what_the_base_shows() {
    // The other tests rest on this.
    let plan = plan(base(BASE));
    let target = |b: &Bind| matches!(&b.source, BindSource::Path { path } if *path == b.target);
    assert!(plan.binds.iter().all(target) && plan.binds.iter().any(|b| b.writable));
}
