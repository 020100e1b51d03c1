//! Rules of the crate as a whole: files to policies, policies and requests to plans.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

mod limits;
mod shipped;

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse("test", "test.toml", text, &|name| embedded::fragment(name).map(str::to_owned))
}

fn request() -> WorkerRequest {
    WorkerRequest {
        worker_id: WorkerId::parse("w1").unwrap(),
        policy: "test".into(),
        command: Command::Worker { model: "m".into(), args: vec![] },
        devices: vec!["CPU-0".into()],
        lease: None,
        mps: None,
        env: BTreeMap::new(),
        limits: BTreeMap::new(),
        port: Some(9100),
    }
}

fn facts() -> HostFacts {
    HostFacts {
        uid: 1,
        gid: 1,
        binary: "/bin/llama".into(),
        model: "m".into(),
        host_cpus: "0-3".into(),
        cpuset: Some("0-3".into()),
        ..HostFacts::default()
    }
}

#[test]
fn what_lies_deeper_is_mounted_later_and_keeps_its_own_access() {
    let text = "[worker]\nbinary = \"x\"\n[filesystem]\nread_only = [\"/srv/data/fixed\", \"/usr\"]\nread_write = [\"/srv/data\"]\n";
    let plan = compile(&parse(text).unwrap(), &request(), &facts()).unwrap();
    let binds: Vec<(&str, bool)> = plan.binds.iter().filter_map(|b| Some((b.target.to_str()?, b.writable))).collect();
    assert_eq!(binds, [("/usr", false), ("/srv/data", true), ("/srv/data/fixed", false)]);
}

#[test]
fn a_typo_names_file_line_and_key() {
    let e = parse("[worker]\nbinary = \"x\"\n\n[limits]\nmemory_maks = \"1GiB\"\n").unwrap_err();
    assert_eq!((e.file.as_str(), e.line), ("test.toml", Some(5)), "{e}");
    assert!(e.to_string().contains("memory_maks"), "{e}");
    let e = parse("[worker]\nbinary = \"x\"\nbinnary_dirs = []\n").unwrap_err();
    assert!(e.line == Some(3) && e.to_string().contains("binnary_dirs"), "{e}");
    let e = parse("include = [\"fragments/nope\"]\n[worker]\nbinary = \"x\"\n").unwrap_err();
    assert_eq!(e.line, Some(1), "{e}");
}

#[test]
fn contradictions_and_missing_reasons_are_refused() {
    let with = |tail: &str| parse(&format!("[worker]\nbinary = \"x\"\n{tail}"));
    for bad in [
        "[readiness]\ntcp = true\nnone = true",
        "[network]\nmode = \"none\"",
        "[seccomp]\nprofile = \"none\"",
        "[seccomp]\nprofile = \"nope\"",
        "[limits]\nmemory_max = 5",
        "[limits]\nmemory_max = { value = \"1GiB\", enforce = \"maybe\" }",
        "[limits]\npids_max = 0",
        "[filesystem]\ntmp_size = \"0\"",
        "[filesystem]\nread_only = [\"../x\"]",
        "[filesystem]\nread_only = [\"/proc\"]",
        "[devices]\nnodes = [{ path = \"/dev/mem\", reason = \"x\" }]",
        "[devices]\nnodes = [{ path = \"/dev/null\", reason = \"\" }]",
        "[credentials]\ncapabilities = [{ name = \"CAP_NOPE\", reason = \"x\" }]",
        "[credentials]\ncapabilities = [{ name = \"CAP_MKNOD\", reason = \" \" }]",
        "[process]\noom_score_adj = -1",
        "[verify]\ninterval = \"500ms\"",
        "[verify]\ninterval = 30",
        "[idle]\nafter = \"500ms\"",
        "[idle]\naction = \"freeze\"",
        "[idle]\nafter = \"0\"\naction = \"stop\"",
        "[idle]\nmax_warm = 2",
        "[idle]\nafter = \"1min\"\nmax_warm = 0",
        "[idle]\nafter = \"1min\"\naction = \"sleep\"",
        "[idle]\nafter = \"1min\"\naction = \"freeze\"\n[network]\nmode = \"host\"",
        "[verify]\non_drift = \"restart\"",
        "[pressure]\nmemory = \"3s/2s\"",
        "[pressure]\nmemory = \"150ms/1s\"",
        "[pressure]\nmemory = true",
        "[pressure]\ncpu = \"off\"",
        "stop_grace = \"10\"",
        "command = [\"{binary}\", \"x{args}\"]",
        "command = [\"{nope}\"]",
    ] {
        assert!(with(bad).is_err(), "accepted:\n{bad}");
    }
    assert!(parse("description = \"no binary\"").is_err());
    assert!(with("[network]\nmode = \"none\"\n[readiness]\nnone = true").is_err(), "the default template names {{port}}");
    assert!(with("command = [\"{binary}\"]\n[network]\nmode = \"none\"").is_ok_and(|p| !p.takes_port()));
}

#[test]
fn an_including_file_wins_key_by_key_and_a_cycle_is_refused() {
    let fragment = |name: &str| match name {
        "a" => Some("include = [\"b\"]\n[worker]\nstop_grace = \"1s\"\n[limits]\npids_max = 7\ncpus = 1.0".to_owned()),
        "b" => Some("[worker]\nstop_grace = \"9s\"\nstop_signal = \"SIGINT\"".to_owned()),
        "loop" => Some("include = [\"loop\"]".to_owned()),
        other => embedded::fragment(other).map(str::to_owned),
    };
    let policy = Policy::parse("t", "t.toml", "include = [\"a\"]\n[worker]\nbinary = \"x\"\n[limits]\npids_max = 9", &fragment).unwrap();
    assert_eq!(policy.worker.stop, StopPlan { signal: 2, grace_ms: 1000 });
    assert_eq!(policy.limits[&LimitKey::PidsMax].value, LimitValue::Count(9));
    assert_eq!(policy.limits[&LimitKey::Cpus].value, LimitValue::Decimal(1.0));
    assert!(Policy::parse("t", "t.toml", "include = [\"loop\"]\n[worker]\nbinary = \"x\"", &fragment).is_err());
}

#[test]
fn a_file_that_is_included_many_times_is_read_once() {
    // Nine files that each include all that follow, twice: read each time it would be 3^8 files.
    let read = std::cell::Cell::new(0);
    let fragment = |name: &str| {
        let number: u32 = name.strip_prefix('f')?.parse().ok()?;
        read.set(read.get() + 1);
        let more: Vec<String> = (number + 1..9).flat_map(|n| [format!("\"f{n}\""), format!("\"f{n}\"")]).collect();
        Some(format!("include = [{}]\n[limits]\ncpus = {number}.5\n", more.join(", ")))
    };
    let text = "include = [\"f2\", \"f3\", \"f2\"]\n[worker]\nbinary = \"x\"\n[seccomp]\nprofile = \"none\"\nreason = \"t\"\n";
    let policy = Policy::parse("t", "t.toml", text, &fragment).unwrap();
    assert_eq!(policy.limits[&LimitKey::Cpus].value, LimitValue::Decimal(2.5));
    assert!(read.get() < 100, "{} files were read", read.get());
}

#[test]
fn a_request_narrows_and_never_widens_unless_the_policy_says_up_to_where() {
    let policy =
        parse("[worker]\nbinary = \"x\"\n[limits]\nmemory_max = \"1GiB\"\n[request]\nmay_set = [\"limits\"]\nmax = { pids_max = 900 }")
            .unwrap();
    let ask = |key: LimitKey, value: LimitValue| {
        let mut request = request();
        request.limits.insert(key, value);
        compile(&policy, &request, &facts()).map(|p| p.limits[&key].value.clone())
    };
    assert_eq!(ask(LimitKey::MemoryMax, LimitValue::Count(1 << 20)), Ok(LimitValue::Count(1 << 20)));
    assert!(matches!(ask(LimitKey::MemoryMax, LimitValue::Count(2 << 30)), Err(Violation::PolicyViolation { .. })));
    assert!(matches!(ask(LimitKey::MemoryMax, LimitValue::max()), Err(Violation::PolicyViolation { .. })));
    assert_eq!(ask(LimitKey::PidsMax, LimitValue::Count(900)), Ok(LimitValue::Count(900)));
    assert!(ask(LimitKey::PidsMax, LimitValue::Count(901)).is_err());
    assert_eq!(ask(LimitKey::Cpuset, LimitValue::Text("1".into())), Ok(LimitValue::Text("1".into())));
    assert!(
        matches!(ask(LimitKey::Cpuset, LimitValue::Text("0,77".into())), Err(Violation::NotEnforceable { why, .. }) if why.contains("77"))
    );
}

#[test]
fn how_a_worker_is_verified_is_the_policys_and_reaches_the_plan() {
    let policy = parse("[worker]\nbinary = \"x\"\n[verify]\ninterval = \"0\"\non_drift = \"kill\"").unwrap();
    let verify = VerifyPlan { interval_ms: 0, on_drift: OnDrift::Kill };
    assert_eq!((policy.verify, compile(&policy, &request(), &facts()).unwrap().verify), (verify, verify));
}

#[test]
fn what_may_not_be_set_is_refused() {
    let policy = parse("[worker]\nbinary = \"x\"").unwrap();
    let mut env = request();
    env.env.insert("A".into(), "b".into());
    assert!(compile(&policy, &env, &facts()).is_err());
    let mut args = request();
    args.command = Command::Worker { model: "m".into(), args: vec!["-x".into()] };
    assert!(compile(&policy, &args, &facts()).is_err());
    let open = parse("[worker]\nbinary = \"x\"\n[request]\nmay_set = [\"env\"]").unwrap();
    for name in ["LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "1A", "A=B", ""] {
        let mut request = request();
        request.env.insert(name.into(), "x".into());
        assert!(compile(&open, &request, &facts()).is_err(), "{name:?} was accepted");
    }
    assert_eq!(compile(&open, &env, &facts()).unwrap().env["A"], "b");
}

#[test]
fn required_is_refused_and_if_available_reported_where_the_host_cannot() {
    let text = |enforce: &str| format!("[worker]\nbinary = \"x\"\n[limits]\nmemory_high = {{ value = \"1GiB\", enforce = \"{enforce}\" }}");
    let mut facts = facts();
    facts.unenforceable.insert(LimitKey::MemoryHigh, "cgroup v1 has no memory.high".into());
    let refused = compile(&parse(&text("required")).unwrap(), &request(), &facts);
    assert!(matches!(refused, Err(Violation::NotEnforceable { setting, .. }) if setting == "memory_high"));
    let plan = compile(&parse(&text("if_available")).unwrap(), &request(), &facts).unwrap();
    assert!(!plan.limits.contains_key(&LimitKey::MemoryHigh));
    assert!(plan.not_in_force.iter().any(|n| n.setting == "memory_high"));
}

#[test]
fn a_command_of_run_replaces_the_template_and_takes_no_port() {
    let policy = parse("[worker]\nbinary = \"x\"").unwrap();
    let mut run = request();
    run.command = Command::Run { argv: vec!["sh".into(), "-c".into(), "{port}".into()] };
    let plan = compile(&policy, &run, &facts()).unwrap();
    assert_eq!((plan.port, plan.argv[2].as_str(), plan.executable.to_str()), (None, "{port}", Some("sh")));
}

fn bounded_facts() -> HostFacts {
    HostFacts {
        memory: Some(8 << 30),
        host_mems: "0".into(),
        block_devices: BTreeMap::from([("/dev/vda1".to_owned(), "254:0".to_owned()), ("254:0".to_owned(), "254:0".to_owned())]),
        huge_pages: [2 << 20].into(),
        ..facts()
    }
}

#[test]
fn what_limits_name_is_the_hosts_own_or_refused_by_name() {
    let policy = parse("[worker]\nbinary = \"x\"\n[request]\nmay_set = [\"limits\"]\nmax = { io_max = \"/dev/vda1 rbps=10MiB\" }").unwrap();
    let ask = |key: LimitKey, text: &str| {
        let mut request = request();
        request.limits.insert(key, LimitValue::Text(text.into()));
        compile(&policy, &request, &bounded_facts()).map(|p| p.limits[&key].value.clone())
    };
    assert_eq!(ask(LimitKey::IoMax, "254:0 rbps=1MiB"), Ok(LimitValue::Text("254:0 rbps=1MiB".into())));
    assert_eq!(ask(LimitKey::IoMax, "/dev/vda1 rbps=1MiB"), Ok(LimitValue::Text("254:0 rbps=1MiB".into())), "a partition is its disk's");
    assert!(matches!(ask(LimitKey::IoMax, "/dev/vda1 rbps=20MiB"), Err(Violation::PolicyViolation { .. })));
    for (key, text) in [
        (LimitKey::IoMax, "/dev/nope rbps=1MiB"),
        (LimitKey::IoMax, "254:0 rbps=1MiB; /dev/vda1 wbps=1MiB"),
        (LimitKey::Hugetlb, "1GiB=1GiB"),
        (LimitKey::Dmem, "drm/x=1GiB"),
    ] {
        let refused = ask(key, text);
        assert!(matches!(&refused, Err(Violation::InvalidParams { field, .. }) if field.ends_with(key.name())), "{text}: {refused:?}");
    }
    let wish =
        parse("[worker]\nbinary = \"x\"\n[limits]\nio_max = { value = \"/dev/nope rbps=1MiB\", enforce = \"if_available\" }").unwrap();
    let plan = compile(&wish, &request(), &bounded_facts()).unwrap();
    assert!(plan.not_in_force.iter().any(|n| n.setting == "io_max" && n.why.contains("/dev/nope")), "{:?}", plan.not_in_force);
}

#[test]
fn more_than_the_host_has_is_refused_to_who_asks_and_no_error_of_a_policy() {
    let open = "[request]\nmay_set = [\"limits\"]\nmax = { memory_max = \"64GiB\", cpus = 64.0 }";
    let policy = parse(&format!("[worker]\nbinary = \"x\"\n[limits]\nmemory_max = \"32GiB\"\ncpus = 32.0\n{open}")).unwrap();
    assert!(compile(&policy, &request(), &bounded_facts()).is_ok());
    for (key, value) in [(LimitKey::MemoryMax, LimitValue::Count(9 << 30)), (LimitKey::Cpus, LimitValue::Decimal(4.5))] {
        let mut request = request();
        request.limits.insert(key, value);
        let refused = compile(&policy, &request, &bounded_facts());
        assert!(
            matches!(&refused, Err(Violation::InvalidParams { field, .. }) if field == &format!("limits.{}", key.name())),
            "{refused:?}"
        );
    }
    let mut request = request();
    request.limits.insert(LimitKey::Mems, LimitValue::Text("1".into()));
    assert!(matches!(compile(&policy, &request, &bounded_facts()), Err(Violation::NotEnforceable { .. })));
}

#[test]
fn a_burst_is_saved_from_a_quota_and_is_no_more_than_it() {
    let with = |limits: &str| compile(&parse(&format!("[worker]\nbinary = \"x\"\n[limits]\n{limits}")).unwrap(), &request(), &facts());
    assert!(with("cpus = 0.5\ncpu_burst = \"50ms\"").is_ok());
    assert!(with("cpu_burst = \"0\"").is_ok());
    for bad in ["cpu_burst = \"50ms\"", "cpus = 0.5\ncpu_burst = \"51ms\"", "cpus = \"max\"\ncpu_burst = \"1ms\""] {
        assert!(matches!(with(bad), Err(Violation::InvalidParams { field, .. }) if field == "limits.cpu_burst"), "{bad}");
    }
}

#[test]
fn an_update_is_judged_like_a_spawn_and_leaves_the_rest_alone() {
    let text = |limits: &str| {
        format!("[worker]\nbinary = \"x\"\n[limits]\n{limits}\n[request]\nmay_set = [\"limits\"]\nmax = {{ pids_max = 900 }}")
    };
    let plan = compile(&parse(&text("memory_max = \"1GiB\"\npids_max = 100")).unwrap(), &request(), &facts()).unwrap();
    // The policy says less by now: it counts for what is asked, and for nothing else.
    let policy = parse(&text("memory_max = \"512MiB\"\npids_max = 50")).unwrap();
    let ask = |key, value| update(&policy, &plan, &BTreeMap::from([(key, value)]), &facts());
    let limits = ask(LimitKey::PidsMax, LimitValue::Count(900)).unwrap();
    assert_eq!(limits[&LimitKey::PidsMax], PlannedLimit { value: LimitValue::Count(900), enforce: Enforce::Required });
    assert_eq!(limits[&LimitKey::MemoryMax].value, LimitValue::Count(1 << 30));
    assert!(matches!(ask(LimitKey::MemoryMax, LimitValue::Count(1 << 30)), Err(Violation::PolicyViolation { .. })));
    assert!(matches!(ask(LimitKey::PidsMax, LimitValue::Count(901)), Err(Violation::PolicyViolation { .. })));
    assert_eq!(ask(LimitKey::Cpuset, LimitValue::Text("1".into())).unwrap()[&LimitKey::Cpuset].value, LimitValue::Text("1".into()));
    assert!(matches!(ask(LimitKey::Cpuset, LimitValue::Text("77".into())), Err(Violation::NotEnforceable { .. })));
    assert!(matches!(update(&policy, &plan, &BTreeMap::new(), &facts()), Err(Violation::InvalidParams { .. })));
    let listed = SandboxPlan { limits: ask(LimitKey::Cpuset, LimitValue::Text("1".into())).unwrap(), ..plan.clone() };
    let back = update(&policy, &listed, &BTreeMap::from([(LimitKey::Cpuset, LimitValue::max())]), &facts());
    assert!(matches!(back, Err(Violation::InvalidParams { .. })), "the kernel's list would stay");
    let mut none = facts();
    none.unenforceable.insert(LimitKey::MemoryHigh, "cgroup v1 has no memory.high".into());
    let high = |value| update(&policy, &plan, &BTreeMap::from([(LimitKey::MemoryHigh, value)]), &none);
    assert!(matches!(high(LimitValue::Count(1 << 20)), Err(Violation::NotEnforceable { .. })));
    assert!(!high(LimitValue::max()).unwrap().contains_key(&LimitKey::MemoryHigh), "no limit holds everywhere");
    let closed = parse("[worker]\nbinary = \"x\"").unwrap();
    let refused = update(&closed, &plan, &BTreeMap::from([(LimitKey::PidsMax, LimitValue::Count(1))]), &facts());
    assert!(matches!(refused, Err(Violation::PolicyViolation { .. })));
}

proptest! {
    #[test]
    fn no_update_exceeds_policy_and_maximum(asked in 1u64..(4 << 30)) {
        let policy = parse(embedded::policy("mock").unwrap()).unwrap();
        let plan = compile(&policy, &request(), &facts()).unwrap();
        match update(&policy, &plan, &BTreeMap::from([(LimitKey::MemoryMax, LimitValue::Count(asked))]), &facts()) {
            Ok(limits) => prop_assert!(limits[&LimitKey::MemoryMax].value.within(&LimitValue::Count(1 << 30))),
            Err(e) => prop_assert!(asked > 1 << 30, "{e}"),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
        let _ = parse(&text);
    }

    #[test]
    fn inserted_text_is_never_expanded_again(model in "[a-z{}_]{0,30}", arg in "[a-z{}_]{0,30}") {
        let policy = parse("[worker]\nbinary = \"x\"\ncommand = [\"{binary}\", \"--m={model}\", \"{args}\"]\n[request]\nmay_set = [\"args\"]").unwrap();
        let mut request = request();
        request.command = Command::Worker { model: model.clone(), args: vec![arg.clone()] };
        let mut facts = facts();
        facts.model = model.clone();
        let plan = compile(&policy, &request, &facts).unwrap();
        prop_assert_eq!(plan.argv, vec!["/bin/llama".to_owned(), format!("--m={model}"), arg]);
    }

    #[test]
    fn no_plan_exceeds_policy_and_maximum(asked in 1u64..(4 << 30)) {
        let policy = parse(embedded::policy("mock").unwrap()).unwrap();
        let mut request = request();
        request.limits.insert(LimitKey::MemoryMax, LimitValue::Count(asked));
        match compile(&policy, &request, &facts()) {
            Ok(plan) => prop_assert!(plan.limits[&LimitKey::MemoryMax].value.within(&LimitValue::Count(1 << 30))),
            Err(e) => prop_assert!(asked > 1 << 30, "{e}"),
        }
    }
}

#[test]
fn groups_that_an_ordinary_user_keeps_are_told_by_number() {
    let policy = parse("[worker]\nbinary = \"x\"\n").unwrap();
    let told = |kept_groups: Vec<u32>| {
        let plan = compile(&policy, &request(), &HostFacts { rootless: true, kept_groups, ..facts() }).unwrap();
        plan.not_in_force.into_iter().find(|n| n.setting == "credentials.groups").map(|n| n.why)
    };
    assert_eq!(told(vec![]), None);
    assert!(told(vec![4, 27]).is_some_and(|why| why.contains("groups 4, 27")));
}

#[test]
fn on_oom_kill_asks_the_kernel_for_the_group_and_waiting_need_not_be_told() {
    let words = "[worker]\nbinary = \"x\"\non_oom = \"kill\"\n[pressure]\nmemory = \"limits\"\n";
    let plan = compile(&parse(words).unwrap(), &request(), &facts()).unwrap();
    let group = PlannedLimit { value: LimitValue::Count(1), enforce: Enforce::IfAvailable };
    assert_eq!((plan.on_oom, plan.limits.get(&LimitKey::OomGroup)), (OnOom::Kill, Some(&group)));
    assert_eq!(plan.pressure, PressurePlan { memory: None, enforce: Enforce::Required });
    let old = serde_json::to_value(&plan).unwrap();
    let old: serde_json::Map<_, _> = old
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| *key != "on_oom" && *key != "pressure")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let read: crate::SandboxPlan = serde_json::from_value(old.into()).unwrap();
    assert_eq!((read.on_oom, read.pressure), (OnOom::Continue, PressurePlan::default()), "an older plan means what it meant");
}

#[test]
fn what_is_done_to_idle_workers_reaches_the_plan_and_a_freeze_needs_who_wakes() {
    let policy = parse("[worker]\nbinary = \"x\"\n[idle]\nafter = \"10min\"\naction = \"freeze\"\nmax_warm = 2").unwrap();
    let idle = IdlePlan { after_ms: Some(600_000), action: IdleAction::Freeze, max_warm: Some(2) };
    assert_eq!((policy.idle, compile(&policy, &request(), &facts()).unwrap().idle), (idle, idle));
    let host = "[worker]\nbinary = \"x\"\n[network]\nmode = \"host\"\n[idle]\nafter = \"1s\"\naction = ";
    assert!(parse(&format!("{host}\"freeze\"")).is_err() && parse(&format!("{host}\"stop\"")).is_ok());
    let never = "[worker]\nbinary = \"x\"\n[idle]\nafter = \"0\"";
    assert_eq!(parse(never).unwrap().idle, IdlePlan::default());
}
