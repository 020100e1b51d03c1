//! Restarts and liveness: from the file to the plan.

use super::*;

#[test]
fn how_a_worker_is_restarted_and_asked_whether_it_lives_reaches_its_plan_and_no_other_sandbox() {
    let text = "[worker]\nbinary = \"x\"\n[restart]\nwhen = \"on-failure\"\nstable = \"1min\"\nbackoff = \"1s\"\n[liveness]\ntcp = true";
    let policy = parse(text).unwrap();
    let restart = RestartPlan { when: RestartWhen::OnFailure, max_restarts: 5, stable_ms: 60_000, backoff_ms: 1_000 };
    let liveness = LivenessPlan {
        probe: LivenessProbe::Tcp,
        interval_ms: 10_000,
        timeout_ms: 5_000,
        failures: 3,
        successes: 1,
        unhealthy_timeout_ms: 30_000,
        then: OnUnhealthy::Restart,
    };
    let plan = compile(&policy, &request(), &facts()).unwrap();
    assert_eq!((plan.restart, plan.liveness), (restart, Some(liveness)));
    assert!(plan.not_in_force.iter().all(|note| note.setting != "restart"), "{:?}", plan.not_in_force);
    let run = WorkerRequest { command: Command::Run { argv: vec!["x".into()] }, ..request() };
    let plan = compile(&policy, &run, &facts()).unwrap();
    assert_eq!((plan.restart, plan.liveness), (RestartPlan::default(), None), "a command in the foreground is its caller's");
    let never = parse("[worker]\nbinary = \"x\"\n[liveness]\nwatchdog = true").unwrap().liveness.unwrap();
    assert_eq!((never.then, never.failures), (OnUnhealthy::Stop, 1), "without a restart it can only be ended");
}

#[test]
fn what_contradicts_itself_about_restarts_and_liveness_is_refused() {
    for bad in [
        "[restart]\nwhen = \"on-failure\"\nmax_restarts = 0",
        "[restart]\nwhen = \"always\"\nbackoff = \"50ms\"",
        "[restart]\nwhen = \"always\"\nstable = \"0\"",
        "[restart]\ndelay = \"1s\"",
        "[liveness]\ninterval = \"5s\"",
        "[liveness]\nthen = \"stop\"",
        "[liveness]\nhttp = \"health\"",
        "[liveness]\nhttp = \"/health\"\ntcp = true",
        "[liveness]\nhttp = \"/health\"\ninterval = \"500ms\"",
        "[liveness]\nhttp = \"/health\"\ntimeout = \"0\"",
        "[liveness]\nhttp = \"/health\"\nfailures = 0",
        "[liveness]\nhttp = \"/health\"\nsuccesses = 0",
        "[liveness]\nhttp = \"/health\"\nthen = \"restart\"",
        "[liveness]\nhttp = \"/health\"\nnotify = true",
        "[liveness]\nwatchdog = true\ntimeout = \"1s\"",
        "command = [\"{binary}\"]\n[readiness]\nnone = true\n[liveness]\nhttp = \"/health\"",
    ] {
        assert!(parse(&format!("[worker]\nbinary = \"x\"\n{bad}")).is_err(), "accepted:\n{bad}");
    }
}
