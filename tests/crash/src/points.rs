//! The named steps at which a fault is injected, and what brings a process there.
//!
//! One line a step. Names are those of `fail_point!` and of the steps of making a sandbox; a test compares both. Must never know: what follows.

use std::fmt;

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// `rbee-hive serve`.
    Hive,
    /// `rbee-hive launcher`.
    Launcher,
    /// PID 1 of a sandbox.
    Init,
    /// The worker before its `execve`, and after it.
    Worker,
}

/// What is done so that a step is come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// A worker is asked for.
    Spawn,
    /// A worker that obeys is stopped.
    Stop,
    /// A worker that does not obey is stopped, with a short grace.
    Kill,
    /// A worker that runs is deleted.
    Delete,
    /// A worker exits by itself, with status 3.
    Exit,
    /// The hive is killed while the worker is ready.
    LoseHive,
    /// The hive is told to end.
    Shutdown,
    /// The hive starts.
    Boot,
    /// The hive is killed while the worker is ready, and started again.
    Adopt,
    /// Nothing: the process is killed from outside, with the worker in that state.
    Starting,
    /// As [`Scene::Starting`].
    Ready,
    /// As [`Scene::Starting`].
    Frozen,
    /// As [`Scene::Starting`].
    Stopping,
}

/// A step.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Whose.
    pub process: Process,
    /// Its name, without the process.
    pub name: &'static str,
    /// What its subject has to have in it; `{}` stands for the worker's name.
    pub who: &'static str,
    /// How it is come to.
    pub scenes: &'static [Scene],
    /// Errors that the call at the step may end with.
    pub errors: &'static [&'static str],
}

impl fmt::Display for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Hive => "hive",
            Self::Launcher => "launcher",
            Self::Init => "init",
            Self::Worker => "worker",
        })
    }
}

const NONE: &[&str] = &[];
const DISK: &[&str] = &["ENOSPC", "EIO", "EROFS", "EDQUOT"];
const KERNEL: &[&str] = &["EPERM", "ENOMEM", "EIO"];
const SPAWN: &[Scene] = &[Scene::Spawn];
const ADOPT: &[Scene] = &[Scene::Adopt];
const ALL: &[Scene] = &[Scene::Spawn, Scene::Stop, Scene::Kill, Scene::Exit, Scene::Delete, Scene::Adopt];
const ENDS: &[Scene] = &[Scene::Stop, Scene::Kill, Scene::Exit, Scene::Delete];
const STATES: &[Scene] = &[Scene::Starting, Scene::Ready, Scene::Frozen, Scene::Stopping];

const fn point(process: Process, name: &'static str, scenes: &'static [Scene]) -> Point {
    Point { process, name, who: "{}", scenes, errors: NONE }
}

const fn call(process: Process, name: &'static str, who: &'static str, scenes: &'static [Scene], errors: &'static [&'static str]) -> Point {
    Point { process, name, who, scenes, errors }
}

/// A point whose subject is no worker.
const fn of_all(process: Process, name: &'static str, scenes: &'static [Scene]) -> Point {
    Point { process, name, who: "", scenes, errors: NONE }
}

const fn step(process: Process, name: &'static str) -> Point {
    Point { process, name, who: "{}", scenes: SPAWN, errors: KERNEL }
}

use Process::{Hive, Init, Launcher, Worker};

/// Every step.
pub const POINTS: &[Point] = &[
    point(Hive, "spawn.registered", SPAWN),
    point(Hive, "spawn.leased", SPAWN),
    point(Hive, "spawn.asking", SPAWN),
    of_all(Hive, "launcher.asked", SPAWN),
    point(Hive, "spawn.answered", SPAWN),
    point(Hive, "task.started_heard", SPAWN),
    point(Hive, "task.answered", SPAWN),
    point(Hive, "task.ready_shown", SPAWN),
    point(Hive, "stop.asking", &[Scene::Stop, Scene::Kill, Scene::Delete]),
    point(Hive, "stop.asked", &[Scene::Stop, Scene::Kill, Scene::Delete]),
    point(Hive, "task.end_heard", ENDS),
    point(Hive, "task.end_acknowledged", ENDS),
    point(Hive, "task.released", ENDS),
    point(Hive, "task.given_back", ENDS),
    point(Hive, "task.end_shown", ENDS),
    point(Hive, "delete.stopped", &[Scene::Delete]),
    point(Hive, "delete.forgotten", &[Scene::Delete]),
    of_all(Hive, "shutdown.begun", &[Scene::Shutdown]),
    of_all(Hive, "shutdown.stopped", &[Scene::Shutdown]),
    of_all(Hive, "shutdown.over", &[Scene::Shutdown]),
    of_all(Hive, "boot.launcher_started", &[Scene::Boot]),
    of_all(Hive, "boot.bound", &[Scene::Boot]),
    of_all(Hive, "boot.announced", &[Scene::Boot]),
    of_all(Hive, "boot.found_heard", &[Scene::Boot, Scene::Adopt]),
    point(Hive, "adopt.born", ADOPT),
    point(Hive, "adopt.begun", ADOPT),
    of_all(Hive, "adopt.listed", ADOPT),
    of_all(Hive, "adopt.done", ADOPT),
    point(Hive, "task.attached_heard", ADOPT),
    call(Hive, "record.create", "victim.json", ALL, DISK),
    call(Hive, "record.write", "victim.json", ALL, DISK),
    call(Hive, "record.rename", "victim.json", ALL, DISK),
    of_all(Hive, "at any time", STATES),
    point(Launcher, "spawn.admitted", SPAWN),
    point(Launcher, "spawn.resolved", SPAWN),
    call(Launcher, "cgroup.make", "w-{}", SPAWN, &["EIO", "ENOMEM", "ENOSPC", "EPERM"]),
    call(Launcher, "cgroup.write", "w-{}/worker", SPAWN, &["EIO", "ENOMEM", "EPERM"]),
    point(Launcher, "spawn.leaves_made", SPAWN),
    call(Launcher, "directories.make", "{}", SPAWN, DISK),
    point(Launcher, "spawn.directories_made", SPAWN),
    call(Launcher, "record.create", "plan.json", SPAWN, DISK),
    call(Launcher, "record.write", "plan.json", SPAWN, DISK),
    call(Launcher, "record.rename", "plan.json", SPAWN, DISK),
    point(Launcher, "spawn.plan_written", SPAWN),
    point(Launcher, "spawn.cloned", SPAWN),
    point(Launcher, "spawn.init_on_record", SPAWN),
    point(Launcher, "spawn.entered", SPAWN),
    point(Launcher, "spawn.told", SPAWN),
    point(Launcher, "release.reaped", ENDS),
    call(Launcher, "cgroup.remove", "w-{}", ENDS, &["EBUSY", "EIO"]),
    point(Launcher, "release.leaves_removed", ENDS),
    point(Launcher, "release.forgotten", ENDS),
    of_all(Launcher, "release.told", ENDS),
    call(Launcher, "directories.forget", "{}", &[Scene::Delete], DISK),
    point(Launcher, "directories.half_forgotten", &[Scene::Delete]),
    of_all(Launcher, "shutdown.asked", &[Scene::Shutdown]),
    of_all(Launcher, "shutdown.killed", &[Scene::Shutdown]),
    of_all(Launcher, "greet.entered", &[Scene::Boot]),
    of_all(Launcher, "adopt.knocked", ADOPT),
    of_all(Launcher, "adopt.heard", ADOPT),
    of_all(Launcher, "adopt.swept", ADOPT),
    of_all(Launcher, "adopt.taken_on", ADOPT),
    of_all(Launcher, "at any time", STATES),
    step(Init, "step.close inherited descriptors"),
    step(Init, "step.limit open files"),
    step(Init, "step.open process numbers"),
    step(Init, "step.load deny-list"),
    step(Init, "step.map user"),
    step(Init, "step.die with the launcher"),
    step(Init, "step.join init cgroup"),
    step(Init, "step.make mounts private"),
    step(Init, "step.mount root"),
    step(Init, "step.mount scratch"),
    step(Init, "step.mount dev"),
    step(Init, "step.mount proc"),
    step(Init, "step.mount sys"),
    step(Init, "step.bind files"),
    step(Init, "step.write etc"),
    step(Init, "step.pivot root"),
    step(Init, "step.mask paths"),
    step(Init, "step.seal root"),
    step(Init, "step.set host name"),
    step(Init, "step.bring loopback up"),
    step(Init, "step.bind notify socket"),
    step(Init, "step.open output pipes"),
    step(Init, "step.listen for another hive"),
    point(Init, "executed", SPAWN),
    point(Init, "started_told", SPAWN),
    point(Init, "stop.asked", &[Scene::Stop, Scene::Kill, Scene::Delete]),
    point(Init, "stop.signalled", &[Scene::Stop, Scene::Kill, Scene::Delete]),
    point(Init, "stop.killed", &[Scene::Kill]),
    point(Init, "main_reaped", ENDS),
    call(Init, "cgroup.write", "{}", ENDS, &["EIO", "EPERM"]),
    point(Init, "ending.killed", ENDS),
    point(Init, "ending.empty", ENDS),
    point(Init, "ending.drained", ENDS),
    call(Init, "record.create", "{} verdict.json", ENDS, DISK),
    call(Init, "record.write", "{} verdict.json", ENDS, DISK),
    call(Init, "record.rename", "{} verdict.json", ENDS, DISK),
    point(Init, "ending.verdict_written", ENDS),
    point(Init, "ending.told", ENDS),
    point(Init, "ending.acknowledged", ENDS),
    point(Init, "hive_lost", &[Scene::LoseHive]),
    point(Init, "attach.asked", ADOPT),
    point(Init, "attach.held_told", ADOPT),
    point(Init, "attach.told", ADOPT),
    of_all(Init, "at any time", STATES),
    step(Worker, "step.join worker cgroup"),
    step(Worker, "step.unshare cgroup namespace"),
    step(Worker, "step.start a session"),
    step(Worker, "step.reset signals"),
    step(Worker, "step.set resource limits"),
    step(Worker, "step.set scheduling"),
    step(Worker, "step.install standard streams"),
    step(Worker, "step.drop privileges"),
    step(Worker, "step.enter working directory"),
    step(Worker, "step.enter Landlock domain"),
    step(Worker, "step.close descriptors"),
    step(Worker, "step.load seccomp filters"),
    of_all(Worker, "at any time", STATES),
];
