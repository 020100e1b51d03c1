//! One fault from end to end: injected, its consequences looked at from outside, everything whole again.
//!
//! ```text
//!  prepare ─► set ─► act ─► fired? ─► what lives, what is told ─► (start again) ─► use it ─► nothing is left
//! ```

use std::time::Duration;

use serde_json::{Value, json};
use test_support::poll;

use crate::arena::{Arena, VICTIM, Worker};
use crate::fault::{Action, Fault};
use crate::points::{Process, Scene};
use crate::scene::{Played, play};
use crate::truth::{untrue, untrue_refusal};

/// Whether a hive that starts takes over the workers that the one before has left. Without it they end.
const ADOPTS: bool = true;

/// Within that time workers die with their hive.
const WITH_THE_HIVE: Duration = Duration::from_secs(1);
/// Within that time everything is told.
const TOLD: Duration = Duration::from_secs(15);

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was lost.
    Survived,
    /// The step was never come to; nothing was lost either.
    NotReached,
    /// What was lost, left or invented.
    Lost(Vec<String>),
}

/// Injects one fault.
pub fn run(arena: &mut Arena, fault: &Fault, pause: Duration) -> Outcome {
    let mut wrong = Vec::new();
    let played = play(arena, fault, pause).unwrap_or_else(|why| {
        wrong.push(why);
        Played::without_answer(true, None)
    });
    arena.board.clear();
    if let (true, Err(why)) = (wrong.is_empty(), look(arena, fault, &played)) {
        wrong.push(why);
    }
    let reached = played.reached;
    if let Err(why) = make_whole(arena, fault, played.before) {
        wrong.push(why);
    } else if let Err(left) = arena.is_quiet() {
        wrong.extend(left);
    }
    match (wrong.is_empty(), reached) {
        (true, true) => Outcome::Survived,
        (true, false) => Outcome::NotReached,
        (false, _) => Outcome::Lost(wrong),
    }
}

/// What is and what is told right after the fault.
fn look(arena: &mut Arena, fault: &Fault, played: &Played) -> Result<(), String> {
    let hive_went = fault.kills() == Some(Process::Hive) && played.reached;
    if hive_went || matches!(fault.scene, Scene::LoseHive | Scene::Shutdown | Scene::Boot | Scene::Adopt) {
        return without_a_hive(arena, fault, played);
    }
    arena.bystanders_live()?;
    if fault.kills() == Some(Process::Launcher) && played.reached {
        without_a_launcher(arena)?;
    }
    if let (Some(error), false) = (&played.trouble, fault.kills() == Some(Process::Launcher)) {
        return Err(format!("the fault was another worker's, and this one had trouble: {error}"));
    }
    answer_is_true(fault, played)?;
    victim_is_told(arena, fault)
}

/// What the hive said to the request is what is the case.
fn answer_is_true(fault: &Fault, played: &Played) -> Result<(), String> {
    match &played.answer {
        Some(Err(error)) if error.code == 0 => Err(format!("the hive lives, and does not answer: {error}")),
        Some(Err(error)) if fault.scene == Scene::Spawn => untrue_refusal(fault, &error.data).map_or(Ok(()), Err),
        Some(Err(error)) if fault.kills() == Some(Process::Launcher) && error.kind() == "launcher_gone" => Ok(()),
        Some(Err(error)) => Err(format!("what was asked for has failed: {error}")),
        Some(Ok(view)) if fault.scene == Scene::Spawn => match Worker::of(view, fault.policy) {
            None if !matches!(fault.kills(), Some(Process::Init)) => Err(format!("a worker is said to run that does not: {view}")),
            _ => Ok(()),
        },
        Some(Ok(_)) | None => Ok(()),
    }
}

/// The victim is gone, has ended with a verdict that is true, or lives as it is told.
fn victim_is_told(arena: &Arena, fault: &Fault) -> Result<(), String> {
    let mut last = Value::Null;
    let settled = poll(TOLD, || match arena.call("worker_status", json!({"worker_id": VICTIM})) {
        Err(error) if error.kind() == "not_found" => Some(Ok(())),
        Err(error) => Some(Err(format!("the hive does not tell how the worker is: {error}"))),
        Ok(view) => {
            let state = view["state"].as_str().unwrap_or_default().to_owned();
            last = view.clone();
            match state.as_str() {
                "stopped" | "failed" => Some(untrue(fault, &view["verdict"]).map_or(Ok(()), Err)),
                "ready" | "frozen" if lives(&view) => Some(limits_hold(arena, fault, &view)),
                "starting" if fault.scene == Scene::Starting && lives(&view) => Some(Ok(())),
                _ => None,
            }
        }
    });
    settled.unwrap_or_else(|| Err(format!("the worker is neither ended nor as it is told: {last}")))
}

fn lives(view: &Value) -> bool {
    Worker::of(view, "").is_some()
}

/// A worker that came up although something failed is held to what is said to be in force.
fn limits_hold(arena: &Arena, fault: &Fault, view: &Value) -> Result<(), String> {
    if !matches!(fault.action, Action::Fail(_)) {
        return Ok(());
    }
    let wanted = |name: &str| if name.starts_with("pids") { "64" } else { "268435456" };
    let setting = |name: &str| if name.starts_with("pids") { "pids_max" } else { "memory_max" };
    let excused = |name: &str| view["not_in_force"].as_array().is_some_and(|all| all.iter().any(|note| note["setting"] == setting(name)));
    for (file, value) in arena.limits_in_force(VICTIM) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if value != wanted(&name) && !excused(&name) {
            return Err(format!("{} is {value} and nothing is said of it", file.display()));
        }
    }
    Ok(())
}

/// Workers go on, nothing is started, and what runs can be stopped.
fn without_a_launcher(arena: &Arena) -> Result<(), String> {
    let refused = poll(Duration::from_secs(5), || {
        let asked = arena.call("worker_spawn", json!({"worker_id": "late", "model": "m", "policy": "keeps", "device": "cpu"}));
        asked.err().filter(|error| error.kind() == "launcher_gone")
    });
    refused.ok_or("a hive without a launcher does not say so")?;
    match arena.call("worker_stop", json!({"worker_id": VICTIM, "grace_ms": 500})) {
        Err(error) if error.kind() != "not_found" => Err(format!("without a launcher the worker can't be stopped: {error}")),
        _ => Ok(()),
    }
}

/// The hive is gone: workers have ended or live on as their policies say.
fn without_a_hive(arena: &mut Arena, fault: &Fault, played: &Played) -> Result<(), String> {
    if matches!(fault.scene, Scene::Boot | Scene::Adopt) {
        let ends = fault.kills() == Some(Process::Hive) && played.reached;
        return if ends { arena.until_the_hive_ended() } else { Ok(()) };
    }
    arena.until_the_hive_ended()?;
    let ended_in_order = fault.scene == Scene::Shutdown && fault.kills() != Some(Process::Hive);
    let victim = played.before.iter();
    let mut all: Vec<Worker> = arena.bystanders.iter().chain(victim).cloned().collect();
    let dies = |worker: &Worker| worker.policy == "dies" || ended_in_order;
    let late = poll(WITH_THE_HIVE, || all.iter().all(|w| !dies(w) || !w.main.goes_on()).then_some(()));
    if late.is_none() {
        let names: Vec<&str> = all.iter().filter(|w| dies(w) && w.main.goes_on()).map(|w| w.id.as_str()).collect();
        return Err(format!("{} live on without their hive", names.join(", ")));
    }
    // What was told to end, or lost its init, may end.
    all.retain(|w| !dies(w) && w.id != VICTIM && fault.scene != Scene::Shutdown);
    match all.iter().find(|w| !w.main.goes_on()) {
        Some(worker) => Err(format!("{} was to live on without its hive", worker.id)),
        None => Ok(()),
    }
}

/// A hive, a launcher, all bystanders and a free name for the next victim.
fn make_whole(arena: &mut Arena, fault: &Fault, victim: Option<Worker>) -> Result<(), String> {
    let mut before = arena.bystanders.clone();
    before.extend(victim);
    let ended = poll(Duration::from_millis(20), || arena.hive.has_ended().then_some(())).is_some();
    if ended {
        arena.start_hive()?;
    } else if arena.launcher().is_none() {
        arena.restart()?;
    }
    if ended || fault.scene == Scene::Adopt {
        taken_over(arena, fault, &before)?;
    }
    arena.populate()?;
    arena.use_it()?;
    arena.bystanders_live()
}

/// What the hive before has left: nobody's, or this one's.
fn taken_over(arena: &Arena, fault: &Fault, before: &[Worker]) -> Result<(), String> {
    if !ADOPTS {
        return match before.iter().find(|worker| worker.main.goes_on()) {
            Some(worker) => Err(format!("{} runs, and no hive knows it", worker.id)),
            None => Ok(()),
        };
    }
    before.iter().filter(|worker| is_to_live(fault, worker)).try_for_each(|worker| arena.lives_as_before(worker))?;
    victim_is_told(arena, fault)
}

/// Whether a worker has nothing to end for, although its hive has ended.
fn is_to_live(fault: &Fault, worker: &Worker) -> bool {
    if worker.policy != "keeps" || matches!(fault.scene, Scene::Shutdown | Scene::Boot) {
        return false;
    }
    let untouched = matches!(fault.scene, Scene::Ready | Scene::LoseHive | Scene::Adopt);
    worker.id != VICTIM || (untouched && !matches!(fault.kills(), Some(Process::Init | Process::Worker)))
}
