use super::*;
use crate::{NotInForce, embedded};

const TIGHT: &str = "[worker]\nbinary = \"x\"\n[landlock]\nenforce = \"required\"\n[limits]\nmemory_max = \"1GiB\"\nswap_max = \"0\"\n\
    pids_max = 64\ncpus = 1.0\nopen_files = 512\n";

fn policy(text: &str) -> Policy {
    Policy::parse("test", "test.toml", text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap()
}

fn score(text: &str) -> f64 {
    exposure(&policy(text), &[]).score
}

fn point(exposure: &Exposure, setting: &str) -> Point {
    exposure.points.iter().find(|p| p.setting == setting).cloned().unwrap()
}

fn gap(setting: &str, extent: Extent) -> Gap {
    Gap { setting: setting.into(), why: "not here".into(), extent }
}

#[test]
fn the_tightest_policy_has_0_and_the_most_open_one_10() {
    let tight = exposure(&policy(TIGHT), &[]);
    assert_eq!((tight.score, tight.rating), (0.0, Rating::Tight));
    assert!(tight.points.iter().all(|p| p.remedy.is_none() && p.adds == 0.0), "{tight:#?}");
    let open = exposure(
        &policy(
            "[worker]\nbinary = \"x\"\n[network]\nmode = \"host\"\n[seccomp]\nprofile = \"none\"\nreason = \"t\"\n[landlock]\nenforce = \"none\"\nreason = \"t\"\n\
             [credentials]\ncapabilities = [{ name = \"CAP_SYS_ADMIN\", reason = \"t\" }]\n[filesystem]\nread_write = [\"/usr\"]\nread_only = [\"/etc\"]\n\
             [devices]\ngpus = \"leased\"\nshare = { ways = 2 }\nnodes = [{ path = \"/dev/fuse\", reason = \"t\", access = \"rwm\" }]\n[environment]\npass = [\"HF_TOKEN\"]\n\
             [limits]\npids_max = \"max\"\n[request]\nmay_set = [\"args\", \"env\", \"limits\"]\nmax = { memory_max = \"max\" }\n[process]\numask = \"0000\"\n",
        ),
        &[gap("credentials.user", Extent::Whole)],
    );
    assert!(open.score >= 9.7 && open.rating == Rating::Open, "{open:#?}");
    assert!(open.points.iter().all(|p| p.adds > 0.0), "{open:#?}");
}

#[test]
fn taking_any_layer_away_raises_the_score() {
    let without = |from: &str, to: &str| TIGHT.replace(from, to);
    let add = |more: &str| format!("{TIGHT}{more}");
    let cases = [
        ("network.mode", add("[network]\nmode = \"host\"\n")),
        ("seccomp.profile", add("[seccomp]\nprofile = \"none\"\nreason = \"t\"\n")),
        ("landlock.enforce", without("enforce = \"required\"", "enforce = \"none\"\nreason = \"t\"")),
        ("landlock.enforce", without("enforce = \"required\"", "enforce = \"if_available\"")),
        ("credentials.capabilities", add("[credentials]\ncapabilities = [{ name = \"CAP_IPC_LOCK\", reason = \"t\" }]\n")),
        ("filesystem.read_write", add("[filesystem]\nread_write = [\"/data\"]\n")),
        ("filesystem.read_only", add("[filesystem]\nread_only = [\"/usr\", \"/data\"]\n")),
        ("devices.gpus", add("[devices]\ngpus = \"leased\"\n")),
        ("devices.nodes", add("[devices]\nnodes = [{ path = \"/dev/fuse\", reason = \"t\" }]\n")),
        ("environment.pass", add("[environment]\npass = [\"LANG\"]\n")),
        ("limits.memory_max", without("memory_max = \"1GiB\"\n", "")),
        ("limits.swap_max", without("swap_max = \"0\"\n", "")),
        ("limits.pids_max", without("pids_max = 64\n", "")),
        ("limits.cpus", without("cpus = 1.0\n", "")),
        ("limits.open_files", without("open_files = 512\n", "")),
        ("request.may_set", add("[request]\nmay_set = [\"env\"]\n")),
        ("process.umask", add("[process]\numask = \"0020\"\n")),
    ];
    for (setting, text) in &cases {
        let opened = exposure(&policy(text), &[]);
        let point = point(&opened, setting);
        assert!(point.adds > 0.0 && point.remedy.is_some(), "{setting}: {point:?}");
        let others: f64 = opened.points.iter().filter(|p| p.adds > 0.0 && p.setting != *setting).map(|p| p.adds).sum();
        assert!(others == 0.0 || setting.starts_with("seccomp"), "{setting} opens more than itself: {opened:#?}");
    }
    let covered = |row: &str| cases.iter().any(|(setting, _)| *setting == row);
    let uncovered: Vec<&str> = points::POINTS.iter().map(|r| r.setting).filter(|s| !covered(s)).collect();
    assert_eq!(uncovered, ["seccomp.allow", "credentials.user"], "each has a test of its own");
}

#[test]
fn a_gpu_that_others_have_too_is_more_open_than_one_of_its_own() {
    let of =
        |share: &str| point(&exposure(&policy(&format!("{TIGHT}[devices]\ngpus = \"leased\"\nshare = {share}\n")), &[]), "devices.gpus");
    let (own, shared) = (of("\"exclusive\""), of("{ ways = 2 }"));
    assert!(shared.adds > own.adds && own.adds > 0.0 && shared.value.contains("shared"), "{own:?} {shared:?}");
    assert_eq!(of("{ memory = \"1GiB\" }").adds, shared.adds);
}

#[test]
fn a_profile_that_allows_what_filters_are_for_is_open() {
    let calls = "[[allow]]\nreason = \"t\"\ncalls = [\"execve\", \"exit_group\", \"sendmsg\", \"bpf\", \"mount\"]\n";
    let loose = Policy::parse("t", "t.toml", &format!("{TIGHT}[seccomp]\nprofile = \"loose\"\n"), &|name| {
        (name == "seccomp/loose").then(|| calls.to_owned())
    });
    let point = point(&exposure(&loose.unwrap(), &[]), "seccomp.allow");
    assert!(point.adds > 0.0 && point.value == "bpf, mount", "{point:?}");
}

#[test]
fn the_shipped_policies_are_where_they_should_be() {
    let of = |name: &str| score(embedded::policy(name).unwrap());
    for name in ["default", "cpu-gguf", "mock"] {
        assert!(of(name) <= 1.5, "{name}: {}", of(name));
    }
    assert!(of("trusted") >= of("default") + 2.0, "{} against {}", of("trusted"), of("default"));
}

#[test]
fn what_is_not_in_force_counts_as_open() {
    let tight = policy(TIGHT);
    for setting in ["memory_max", "landlock", "credentials.user", "init_isolation", "seccomp", "devices", "something_new"] {
        let whole = exposure(&tight, &[gap(setting, Extent::Whole)]);
        let part = exposure(&tight, &[gap(setting, Extent::Part)]);
        let sum = |e: &Exposure| e.points.iter().map(|p| p.adds).sum::<f64>();
        assert!(sum(&whole) > sum(&part) && sum(&part) > 0.0, "{setting}: {whole:#?}");
        assert!(whole.points.iter().any(|p| p.not_in_force.as_deref() == Some("not here")), "{setting}");
    }
    for harmless in ["restart", "device_program", "devices.affinity", "devices.mps"] {
        assert_eq!(exposure(&tight, &[gap(harmless, Extent::Whole)]).score, 0.0, "{harmless}");
    }
}

#[test]
fn a_part_of_landlock_is_better_than_none() {
    let note = [NotInForce { setting: "landlock".into(), why: "ABI 4".into() }];
    let mut facts = crate::HostFacts { landlock_abi: 4, ..crate::HostFacts::default() };
    let open = policy("[worker]\nbinary = \"x\"\n");
    let request = crate::WorkerRequest {
        worker_id: crate::WorkerId::parse("w").unwrap(),
        policy: "p".into(),
        command: crate::Command::Run { argv: vec!["x".into()] },
        devices: vec!["CPU-0".into()],
        lease: None,
        mps: None,
        env: std::collections::BTreeMap::new(),
        limits: std::collections::BTreeMap::new(),
        port: None,
    };
    let part = Gap::of((&crate::compile(&open, &request, &facts).unwrap()).into(), &note);
    facts.landlock_abi = 0;
    let whole = Gap::of((&crate::compile(&open, &request, &facts).unwrap()).into(), &note);
    assert_eq!((part[0].extent, whole[0].extent), (Extent::Part, Extent::Whole));
}
