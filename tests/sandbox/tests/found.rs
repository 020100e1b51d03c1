//! What a launcher finds of the workers of a launcher that was killed: asked by hand, as a hive does it.

#![allow(clippy::expect_used, clippy::panic, reason = "a world that can't be made ends its test")]

mod launchers;

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{chown, symlink};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use launchers::{Found, Launcher, Worker, World, lives};
use rbee_hive_policy::{LimitKey, LimitValue};
use rbee_hive_sandbox::protocol::{Channel, FoundHow, FromInit, FromLauncher, LaunchErrorKind, ToInit, ToLauncher};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::{Value, json};
use test_support::{eventually, require_root};

/// What a hive would have of a worker that it was told of.
struct Adopted {
    init: Channel<ToInit, FromInit>,
    worker: OwnedFd,
    port: Option<OwnedFd>,
    state: rbee_hive_sandbox::protocol::Attached,
}

fn attach(found: Found) -> Adopted {
    assert!(matches!(found.how, FoundHow::Living), "{:?}", found.how);
    let mut fds = found.fds.into_iter();
    let (_init, control) = (fds.next().expect("the init's pidfd"), fds.next().expect("a channel to the init"));
    rustix::io::ioctl_fionbio(&control, false).expect("wait for the init");
    let init = Channel::<ToInit, FromInit>::new(control);
    let (FromInit::Attached { state }, fds) = init.recv().expect("the init's first words") else { panic!("another message came first") };
    let mut fds = fds.into_iter();
    Adopted { init, worker: fds.next().expect("the worker's pidfd"), port: fds.next(), state: *state }
}

#[test]
fn a_worker_of_a_killed_launcher_is_the_next_ones_with_all_that_it_had() {
    require_root!();
    let world = World::new("adopts");
    let mut first = Launcher::start(&world);
    let worker = first.spawn("w1", "shared", json!({"devices": ["GPU-0"], "port": 9100, "lease": {"id": "lease:1", "share": {"ways": 2}}}));
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("its address");
    worker.init.send(&ToInit::KeepPort, &[listener.as_fd()]).expect("hand the port over");
    // Answered after it, so that it was read by then.
    worker.init.send(&ToInit::Made { seq: 1 }, &[]).expect("ask");
    worker.hear(|message| matches!(message, FromInit::Made { .. }));
    drop(listener);
    let (init_pid, made_from) = (worker.init_pid, worker.plan.clone());
    drop(worker);
    first.kill();
    let caller = TcpStream::connect(address).expect("it listens without a hive");

    let mut second = Launcher::start(&world);
    let found = second.found();
    let [found] = <[Found; 1]>::try_from(found).expect("one worker");
    assert_eq!((found.id.as_str(), found.init_pid, found.plan.as_ref()), ("w1", Some(init_pid), Some(&made_from)));
    assert_eq!(found.cgroup, Some(format!("{}/workers/w-w1/worker", world.cgroup_root)));
    let adopted = attach(found);
    assert!(adopted.state.start_ticks.is_some() && adopted.state.port && !adopted.state.ending, "{:?}", adopted.state);
    assert!(lives(init_pid) && !launchers::has_ended(&adopted.worker));
    let port = TcpListener::from(adopted.port.expect("the port"));
    drop(port.accept().expect("who came while no hive was there"));
    assert_eq!((&caller).read(&mut [0]).expect("the end of the connection"), 0);

    // It is in the ledger as before: name, port, share of the GPU, limits.
    let refused = |launcher: &mut Launcher, id: &str, policy: &str, change: Value| launcher.refusal(id, policy, change);
    assert_eq!(refused(&mut second, "w1", "mock", json!({})), LaunchErrorKind::AlreadyExists);
    assert_eq!(refused(&mut second, "w2", "mock", json!({"port": 9100})), LaunchErrorKind::AlreadyExists);
    assert_eq!(refused(&mut second, "w2", "leased", json!({"devices": ["GPU-0"]})), LaunchErrorKind::DeviceBusy);
    let sharer = second.spawn("w2", "shared", json!({"devices": ["GPU-0"], "lease": {"id": "lease:2", "share": {"ways": 2}}}));
    assert_ne!(sharer.plan.credentials.uid, made_from.credentials.uid, "its uid is its own");
    let limits = [(LimitKey::PidsMax, LimitValue::Count(17))].into();
    let worker_id = launchers::id("w1");
    let answer = second.ask(&ToLauncher::Update { seq: 900, worker_id: worker_id.clone(), limits, below_use: Default::default() }, &[]);
    assert!(matches!(answer, FromLauncher::Updated { .. }), "{answer:?}");
    let answer = second.ask(&ToLauncher::Inspect { seq: 901, worker_id: worker_id.clone() }, &[]);
    let FromLauncher::Inspected { program, .. } = answer else { panic!("{answer:?}") };
    assert!(program.ours.is_none_or(|ours| program.attached.contains(&ours)), "its device program is still there: {program:?}");

    adopted.init.send(&ToInit::Stop { by: StoppedBy::Request, grace_ms: 5000 }, &[]).expect("stop it");
    let verdict = launchers::ended(&adopted.init);
    assert!(matches!(verdict, Verdict::Stopped { by: StoppedBy::Request, .. }), "{verdict:?}");
    adopted.init.send(&ToInit::Ack, &[]).expect("acknowledge");
    let (code, signal, left) = second.released("w1");
    assert_eq!((signal, left), (None, vec![]));
    assert!(matches!(code, None | Some(0)), "{code:?}");
    assert!(world.groups_of("w1").is_empty(), "{:?}", world.groups_of("w1"));
    assert!(matches!(second.ask(&ToLauncher::Forget { seq: 902, worker_id }, &[]), FromLauncher::Done { .. }));
    drop(sharer);
    second.shut_down();
    world.end();
}

#[test]
fn limits_that_were_changed_and_what_was_not_told_outlive_two_launchers() {
    require_root!();
    let world = World::new("twice");
    let mut first = Launcher::start(&world);
    let worker = first.spawn("w1", "mock", json!({}));
    let limits = [(LimitKey::PidsMax, LimitValue::Count(19))].into();
    let answer = first.ask(&ToLauncher::Update { seq: 900, worker_id: launchers::id("w1"), limits, below_use: Default::default() }, &[]);
    assert!(matches!(answer, FromLauncher::Updated { .. }), "{answer:?}");
    worker.init.send(&ToInit::Freeze { seq: 2 }, &[]).expect("freeze it");
    let frozen = worker.hear(|message| matches!(message, FromInit::Settled { .. } | FromInit::NotDone { .. }));
    drop(worker);
    first.kill();
    for _ in 0..2 {
        let mut next = Launcher::start(&world);
        let found = next.found().pop().expect("the worker");
        let plan = found.plan.clone().expect("its plan");
        assert_eq!(plan.limits[&LimitKey::PidsMax].value, LimitValue::Count(19));
        let adopted = attach(found);
        assert_eq!(adopted.state.frozen, matches!(frozen, FromInit::Settled { .. }), "it stands still as it did");
        drop(adopted);
        next.kill();
    }
    let mut last = Launcher::start(&world);
    let adopted = attach(last.found().pop().expect("the worker"));
    adopted.init.send(&ToInit::Stop { by: StoppedBy::Request, grace_ms: 0 }, &[]).expect("stop it");
    assert!(matches!(launchers::ended(&adopted.init), Verdict::Stopped { forced: true, .. }));
    drop(adopted);
    last.released("w1");
    last.shut_down();
    world.end();
}

#[test]
fn who_ended_meanwhile_is_told_with_its_verdict_and_whose_init_was_killed_is_lost() {
    require_root!();
    let world = World::new("meanwhile");
    let mut first = Launcher::start(&world);
    let (ends, killed) = (first.spawn("ends", "mock", json!({})), first.spawn("killed", "mock", json!({})));
    let (ended_pid, killed_pid) = (ends.init_pid, killed.init_pid);
    let (ends_worker, killed_init) = (ends.worker, killed.init_fd);
    drop((ends.init, killed.init));
    first.kill();
    pidfd_send_signal(&ends_worker, Signal::USR2).expect("signal a worker that we started");
    pidfd_send_signal(&killed_init, Signal::KILL).expect("kill an init that we started");
    eventually("both inits to end", Duration::from_secs(10), || (!lives(ended_pid) && !lives(killed_pid)).then_some(()));
    for _ in 0..2 {
        let mut next = Launcher::start(&world);
        let found = next.found();
        assert_eq!(found.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["ends", "killed"]);
        assert!(found.iter().all(|f| f.fds.is_empty() && f.plan.is_some()));
        let verdict = Verdict::Signaled { signal: Signal::USR2.as_raw(), core_dumped: false };
        let FoundHow::Ended { verdict: Some(told), resources: Some(resources) } = &found[0].how else { panic!("{:?}", found[0].how) };
        assert_eq!((told, resources.pids_current.unwrap_or(0)), (&verdict, 0));
        let FoundHow::Lost { why, left } = &found[1].how else { panic!("{:?}", found[1].how) };
        assert!(why.contains("init") && left.is_empty(), "{why} {left:?}");
        assert!(world.groups_of("ends").is_empty() && world.groups_of("killed").is_empty());
        // Nobody has forgotten them: the next one is told of them again.
        next.kill();
    }
    let mut last = Launcher::start(&world);
    last.found();
    for id in ["ends", "killed"] {
        let answer = last.ask(&ToLauncher::Forget { seq: 7, worker_id: launchers::id(id) }, &[]);
        assert!(matches!(answer, FromLauncher::Done { .. }), "{answer:?}");
    }
    last.shut_down();
    world.end();
}

#[test]
fn a_worker_that_ends_with_its_hive_is_not_found_alive_by_the_next_launcher() {
    require_root!();
    let world = World::new("dies");
    let mut first = Launcher::start(&world);
    let worker = first.spawn("w1", "dies", json!({}));
    let init = worker.init_pid;
    first.kill();
    // And the channel to the init, at once after it.
    drop(worker);
    let mut second = Launcher::start(&world);
    let found = second.found().pop().expect("the worker");
    // It may still be at it.
    if let FoundHow::Living = found.how {
        let adopted = attach(found);
        assert!(matches!(launchers::ended(&adopted.init), Verdict::Stopped { by: StoppedBy::HiveExit, .. }));
        drop(adopted);
        second.released("w1");
    } else {
        assert!(
            matches!(found.how, FoundHow::Ended { verdict: Some(Verdict::Stopped { by: StoppedBy::HiveExit, .. }), .. }),
            "{:?}",
            found.how
        );
    }
    eventually("its init to end", Duration::from_secs(10), || (!lives(init)).then_some(()));
    second.shut_down();
    world.end();
}

#[test]
fn another_launcher_that_comes_while_a_hive_is_there_takes_its_place() {
    require_root!();
    let world = World::new("supersedes");
    let mut first = Launcher::start(&world);
    let worker = first.spawn("w1", "dies", json!({}));
    first.kill();
    let mut second = Launcher::start(&world);
    let adopted = attach(second.found().pop().expect("the worker"));
    worker.hear(|message| matches!(message, FromInit::Superseded));
    let init = worker.init_pid;
    // Its end is nobody's end, whatever the policy says of a hive's.
    drop(worker);
    adopted.init.send(&ToInit::Made { seq: 1 }, &[]).expect("ask");
    let (answer, _) = adopted.init.recv().expect("an answer");
    assert!(matches!(answer, FromInit::Made { seq: 1, .. }) && lives(init), "{answer:?}");
    drop(adopted);
    second.released("w1");
    assert!(!lives(init), "and this one's is");
    second.shut_down();
    world.end();
}

/// A process of somebody else's; ended when dropped.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("start sleep"))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is wrong with what lies on disk, and how it is made so.
type Spoiled = (&'static str, fn(&World, &str), &'static str);

fn record(world: &World, id: &str) -> Value {
    serde_json::from_slice(&fs::read(world.state(id).join("plan.json")).expect("a record")).expect("JSON")
}

fn write(world: &World, id: &str, value: &Value) {
    fs::write(world.state(id).join("plan.json"), value.to_string()).expect("write the record");
}

fn changed(world: &World, id: &str, change: impl FnOnce(&mut Value)) {
    let mut value = record(world, id);
    change(&mut value);
    write(world, id, &value);
}

fn replaced(world: &World, id: &str, make: impl FnOnce(&std::path::Path)) {
    let path = world.state(id).join("plan.json");
    fs::rename(&path, world.path("aside.json")).expect("put the record aside");
    make(&path);
}

const SPOILED: [Spoiled; 14] = [
    ("empty", |w, id| fs::write(w.state(id).join("plan.json"), "").expect("write"), "is empty"),
    ("truncated", |w, id| fs::write(w.state(id).join("plan.json"), &record(w, id).to_string()[..99]).expect("write"), "can't be read"),
    ("future", |w, id| changed(w, id, |r| r["version"] = json!(3)), "has version 3"),
    ("past", |w, id| changed(w, id, |r| r["version"] = json!(1)), "has version 1"),
    ("huge", |w, id| changed(w, id, |r| r["padding"] = json!("x".repeat(2 << 20))), "is too long"),
    ("link", |w, id| replaced(w, id, |path| symlink(w.path("aside.json"), path).expect("symlink")), "is a link"),
    ("fifo", |w, id| replaced(w, id, |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo")), "no plain file"),
    ("foreign", |w, id| chown(w.state(id).join("plan.json"), Some(65534), None).expect("chown"), "belongs to uid 65534"),
    ("directory", |w, id| chown(w.state(id), Some(65534), None).expect("chown"), "its directory belongs to uid 65534"),
    ("anothers", |w, id| changed(w, id, |r| r["plan"]["worker_id"] = json!("empty")), "is about the worker empty"),
    ("reboot", |w, id| changed(w, id, |r| r["boot_id"] = json!("0")), "started anew"),
    ("recycled", |w, id| changed(w, id, |r| r["init"]["start_ticks"] = json!(1)), "is another one"),
    ("deaf", |w, id| fs::remove_file(w.state(id).join("init.sock")).expect("remove the socket"), "init.sock"),
    ("gone", |w, id| fs::remove_file(w.state(id).join("plan.json")).expect("remove the record"), "is not there"),
];

#[test]
fn what_can_t_be_believed_is_not_adopted_but_lost_and_its_sandbox_goes() {
    require_root!();
    let world = World::new("hostile");
    let mut first = Launcher::start(&world);
    let workers: Vec<Worker> = SPOILED.iter().map(|(name, ..)| first.spawn(name, "mock", json!({}))).collect();
    let (sound, number) = (first.spawn("sound", "mock", json!({})), first.spawn("number", "mock", json!({})));
    let inits: Vec<i32> = workers.iter().map(|worker| worker.init_pid).collect();
    first.kill();
    SPOILED.iter().for_each(|(name, spoil, _)| spoil(&world, name));
    // A number that is another process's by now, down to its start time.
    let stranger = Stranger::start();
    let ticks = procfs::process::Process::new(stranger.pid()).and_then(|p| p.stat()).expect("its start time").starttime;
    changed(&world, "number", |r| r["init"] = json!({"pid": stranger.pid(), "start_ticks": ticks}));
    let mut second = Launcher::start(&world);
    let found = second.found();
    assert_eq!(found.len(), SPOILED.len() + 2);
    let mut wrong = Vec::new();
    for found in &found {
        let why = SPOILED.iter().find(|(name, ..)| *name == found.id.as_str()).map(|(.., why)| *why);
        match (&found.how, why) {
            (FoundHow::Living, None) if found.id.as_str() == "sound" => {}
            (FoundHow::Lost { why, left }, expected) if found.id.as_str() != "sound" => {
                let expected = expected.unwrap_or("and its init is");
                if !why.contains(expected) || !left.is_empty() || !world.groups_of(found.id.as_str()).is_empty() {
                    wrong.push(format!("{}: {why:?} (not {expected:?}), left {left:?}", found.id));
                }
            }
            (how, _) => wrong.push(format!("{}: {how:?}", found.id)),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    inits.iter().for_each(|pid| assert!(!lives(*pid), "{pid} outlived its sandbox"));
    assert!(!lives(number.init_pid) && lives(sound.init_pid));
    assert!(lives(stranger.pid()), "a number in a file is nobody's death");
    drop((found, workers, sound, number));
    second.shut_down();
    world.end();
}

#[test]
fn strangers_in_a_workers_cgroup_are_left_alone_and_told() {
    require_root!();
    let world = World::new("strangers");
    let mut first = Launcher::start(&world);
    let (lost, living) = (first.spawn("lost", "mock", json!({})), first.spawn("living", "mock", json!({})));
    first.kill();
    fs::write(world.state("lost").join("plan.json"), "{}").expect("spoil the record");
    let stranger = Stranger::start();
    for group in world.groups_of("lost") {
        fs::write(group.join("worker/cgroup.procs"), stranger.pid().to_string()).expect("put a stranger there");
    }
    let mut second = Launcher::start(&world);
    let found = second.found();
    let how = |id: &str| &found.iter().find(|f| f.id.as_str() == id).expect("it was found").how;
    let FoundHow::Lost { left, .. } = how("lost") else { panic!("{:?}", how("lost")) };
    assert!(left.iter().any(|line| line.contains(&stranger.pid().to_string()) && line.contains("left alone")), "{left:?}");
    eventually("the sandbox to go", Duration::from_secs(5), || (!lives(lost.init_pid)).then_some(()));
    assert!(lives(stranger.pid()) && matches!(how("living"), FoundHow::Living));
    // Its name is not to be had, for its cgroup is not.
    assert_eq!(second.refusal("lost", "mock", json!({})), LaunchErrorKind::SetupFailed);
    assert!(lives(stranger.pid()));
    drop((found, lost, living));
    let status = second.shut_down_anyhow();
    assert!(!status.success() && lives(stranger.pid()), "a stranger is no worker that was left");
    drop(stranger);
    let mut last = Launcher::start(&world);
    last.found();
    last.shut_down();
    world.end();
}

#[test]
fn a_record_that_can_t_be_written_is_a_spawn_that_fails_and_leaves_nothing() {
    require_root!();
    let world = World::new("full");
    let state = launchers::SmallDisk::mount(&world.path("state"));
    let mut launcher = Launcher::start(&world);
    let mut steps = Vec::new();
    for free in 0..64 {
        state.leave_free(free);
        match launcher.try_spawn("w1", "mock", json!({})) {
            Ok(worker) => {
                drop(worker);
                break;
            }
            Err(error) => {
                assert_eq!(error.kind, LaunchErrorKind::SetupFailed, "{error:?}");
                assert!(error.message.contains("ENOSPC"), "{error:?}");
                steps.push(error.step.expect("a step"));
                assert!(world.groups_of("w1").is_empty() && !world.state("w1").exists() && !world.path("log/workers/w1").exists());
            }
        }
    }
    steps.dedup();
    assert!(steps.contains(&"write the plan".to_owned()) && steps.contains(&"put the init on record".to_owned()), "{steps:?}");
    state.read_only();
    let refused = launcher.try_spawn("w2", "mock", json!({})).err().expect("nothing can be written");
    assert!(refused.step.as_deref() == Some("make directories") && refused.message.contains("EROFS"), "{refused:?}");
    assert!(world.groups_of("w2").is_empty());
    launcher.shut_down();
    drop(state);
    world.end();
}
