//! What the fault table rests on: whatever is left, lost or told falsely is seen.

use std::process::{Command, Stdio};

use crash_tests::arena::{Arena, VICTIM};
use crash_tests::fault::POLICIES;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use test_support::{eventually, require_root};

#[track_caller]
fn sees(arena: &mut Arena, what: &str) {
    let left = arena.is_quiet().expect_err("something is left");
    assert!(left.iter().any(|line| line.contains(what)), "not seen: {what}, but {left:?}");
}

#[test]
fn a_cgroup_a_file_a_process_and_a_port_that_are_left_are_seen() {
    require_root!();
    let mut arena = Arena::open(1);
    arena.board.set("launcher.directories.forget#victim=errno:EIO@2");
    arena.use_it().expect("only its records stay");
    sees(&mut arena, "/state/workers/victim");
    arena.board.clear();
    arena.use_it().expect("the records are removed with the next of that name");
    assert_eq!(arena.is_quiet(), Ok(()));

    arena.board.set("launcher.cgroup.remove#w-victim=errno:EBUSY");
    arena.spawn(VICTIM, POLICIES[0], &[]).expect("a worker");
    let _ = arena.call("worker_stop", json!({"worker_id": VICTIM}));
    sees(&mut arena, "w-victim");
    arena.board.clear();
    arena.use_it().expect("its cgroups are removed by now, or with the next of that name");
    assert_eq!(arena.is_quiet(), Ok(()));

    let program = arena.hive.directory().join("bin/mock-worker");
    let port = arena.bystanders[0].port + 10;
    let mut stray = Command::new(program).args(["--port", &port.to_string()]).stdin(Stdio::null()).spawn().expect("start a stray worker");
    eventually("it to listen", std::time::Duration::from_secs(10), || {
        let left = arena.is_quiet().err().unwrap_or_default();
        (left.iter().any(|l| l.contains("processes mock-worker")) && left.iter().any(|l| l.contains(&format!("port {port}")))).then_some(())
    });
    stray.kill().expect("end the stray worker");
    stray.wait().expect("wait for it");
    assert_eq!(arena.is_quiet(), Ok(()));
}

#[test]
fn a_bystander_that_ends_is_seen_whatever_the_hive_says() {
    require_root!();
    let mut arena = Arena::open(2);
    assert_eq!(arena.bystanders_live(), Ok(()));
    let worker = arena.bystanders[1].clone();
    kill(Pid::from_raw(worker.main.pid), Signal::SIGKILL).expect("kill a worker that we started");
    eventually("it to end", std::time::Duration::from_secs(10), || (!worker.main.goes_on()).then_some(()));
    let why = arena.bystanders_live().expect_err("one has ended");
    assert!(why.contains(&worker.id), "{why}");
    arena.populate().expect("start it again");
    // The same name and place, and another process.
    assert_eq!(arena.bystanders_live(), Ok(()));
    assert!(arena.lives_as_before(&worker).is_err());
    assert_eq!(arena.is_quiet(), Ok(()));
}
