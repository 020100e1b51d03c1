//! What is done with the worker so that the step is come to, while the fault waits for it there.
//!
//! Must never know: what follows from the fault.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use test_support::{RpcError, http_get, poll};

use crate::arena::{Arena, OTHER, VICTIM, Worker};
use crate::fault::Fault;
use crate::points::{Process, Scene};

/// How long the step may take to be come to once all is done.
const AFTER: Duration = Duration::from_secs(2);

/// What came of a scene.
#[derive(Debug)]
pub struct Played {
    /// Whether the fault was injected.
    pub reached: bool,
    /// The worker, where it ran before.
    pub before: Option<Worker>,
    /// What the hive said to what it was asked last.
    pub answer: Option<Result<Value, RpcError>>,
    /// What it said to who started and deleted another worker meanwhile, where that did not go well.
    pub trouble: Option<RpcError>,
}

impl Played {
    /// Of a scene that asks the hive for nothing.
    pub fn without_answer(reached: bool, before: Option<Worker>) -> Self {
        Self { reached, before, answer: None, trouble: None }
    }
}

/// Plays the scene with the fault in place.
///
/// # Errors
/// Where what comes before the fault fails.
pub fn play(arena: &mut Arena, fault: &Fault, pause: Duration) -> Result<Played, String> {
    let before = prepare(arena, fault)?;
    if fault.is_from_outside() {
        return from_outside(arena, fault, (before, pause));
    }
    if matches!(fault.scene, Scene::Boot | Scene::Adopt) {
        return boot(arena, fault, before);
    }
    arena.board.set(&fault.line(VICTIM));
    match fault.scene {
        Scene::Shutdown | Scene::LoseHive => {
            arena.hive.signal(if fault.scene == Scene::Shutdown { Signal::SIGTERM } else { Signal::SIGKILL });
            arena.until_the_hive_ended()?;
            let reached = arena.board.fired(AFTER).is_some();
            Ok(Played::without_answer(reached, before))
        }
        _ => ask(arena, fault, before),
    }
}

fn prepare(arena: &Arena, fault: &Fault) -> Result<Option<Worker>, String> {
    let args: &[&str] = match fault.scene {
        Scene::Spawn | Scene::Boot => return Ok(None),
        Scene::Kill | Scene::Stopping => &["--ignore-sigterm"],
        Scene::Starting => &["--never-ready"],
        _ => &[],
    };
    let worker = arena.spawn(VICTIM, fault.policy, args)?;
    if fault.scene == Scene::Frozen {
        arena.call("worker_freeze", json!({"worker_id": VICTIM})).map_err(|error| format!("freeze: {error}"))?;
    }
    Ok(Some(worker))
}

/// The hive ends, well or not, and its next start meets the fault.
fn boot(arena: &mut Arena, fault: &Fault, before: Option<Worker>) -> Result<Played, String> {
    arena.hive.signal(if fault.scene == Scene::Boot { Signal::SIGTERM } else { Signal::SIGKILL });
    arena.until_the_hive_ended()?;
    arena.board.set(&fault.line(VICTIM));
    let started = arena.start_hive();
    let reached = arena.board.fired(AFTER).is_some();
    match started {
        Err(why) if !reached => Err(why),
        _ => Ok(Played::without_answer(reached, before)),
    }
}

fn ask(arena: &Arena, fault: &Fault, before: Option<Worker>) -> Result<Played, String> {
    let id = VICTIM;
    let asking = || match fault.scene {
        Scene::Spawn => arena.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": fault.policy, "device": "cpu"})),
        Scene::Kill => arena.call("worker_stop", json!({"worker_id": id, "grace_ms": 50})),
        Scene::Delete => arena.call("worker_delete", json!({"worker_id": id})),
        Scene::Exit => {
            // It ends without an answer.
            let _ = before.as_ref().map(|worker| http_get(worker.port, "/exit?code=3"));
            arena.call("worker_wait", json!({"worker_id": id, "for": "exit", "timeout_ms": 10_000}))
        }
        _ => arena.call("worker_stop", json!({"worker_id": id})),
    };
    let (reached, answer, trouble) = thread::scope(|scope| {
        let other = fault.busy.then(|| scope.spawn(|| come_and_go(arena)));
        let asked = scope.spawn(asking);
        let reached = poll(Duration::from_secs(15), || {
            let fired = arena.board.hits().iter().any(|hit| hit.fired);
            (fired || asked.is_finished()).then_some(())
        });
        let reached = reached.is_some() && arena.board.fired(AFTER).is_some();
        (reached, asked.join(), other.and_then(|other| other.join().ok()).and_then(Result::err))
    });
    let answer = answer.map_err(|_| "the request ended in a panic".to_owned())?;
    Ok(Played { reached, before, answer: Some(answer), trouble })
}

/// Another worker's whole life.
fn come_and_go(arena: &Arena) -> Result<(), RpcError> {
    let id = json!({"worker_id": OTHER});
    arena.call("worker_spawn", json!({"worker_id": OTHER, "model": "m", "policy": "dies", "device": "cpu"}))?;
    arena.call("worker_delete", id).map(drop)
}

/// No step: a kill at some moment, with the worker in some state.
fn from_outside(arena: &Arena, fault: &Fault, (before, pause): (Option<Worker>, Duration)) -> Result<Played, String> {
    let worker = before.ok_or("no worker to kill")?;
    let pid = match fault.point.process {
        Process::Hive => arena.hive.pid().as_raw(),
        Process::Launcher => arena.launcher().ok_or("no launcher to kill")?,
        Process::Init => worker.init.pid,
        Process::Worker => worker.main.pid,
    };
    let answer = thread::scope(|scope| {
        let stopping = (fault.scene == Scene::Stopping)
            .then(|| scope.spawn(|| arena.call("worker_stop", json!({"worker_id": VICTIM, "grace_ms": 200}))));
        wait(pause);
        kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(|errno| format!("kill the {}: {errno}", fault.point.process))?;
        Ok::<_, String>(stopping.and_then(|thread| thread.join().ok()))
    })?;
    Ok(Played { reached: true, before: Some(worker), answer, trouble: None })
}

#[expect(clippy::disallowed_methods, reason = "nothing is waited for: the kill comes at some moment, whatever happens there")]
fn wait(pause: Duration) {
    thread::sleep(pause);
}
