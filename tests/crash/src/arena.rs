//! A hive with fail-points, the workers that live beside the one that a fault is for, and what is on the machine while nothing happens.
//!
//! Owns: starting all that, again and again. Must never know: faults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, RpcError, hive_with_fail_points, http_get, poll, rpc_over_unix};

use crate::board::{self, Board};
use crate::fault::POLICIES;
use crate::machine::{Life, Machine, Owner, descriptors};

/// Name of the worker that a fault is for.
pub const VICTIM: &str = "victim";

/// Name of one that comes and goes meanwhile.
pub const OTHER: &str = "other";

/// How long a call may take, and what is awaited.
pub const SOON: Duration = Duration::from_secs(20);

/// As many as `reach/sockets.rs` has of a worker at most.
const SOCKETS_OF_A_WORKER: usize = 24;

/// A hive and its bystanders.
#[derive(Debug)]
pub struct Arena {
    /// The hive.
    pub hive: Hive,
    /// Where faults are set.
    pub board: Board,
    /// Workers that no fault is for.
    pub bystanders: Vec<Worker>,
    wanted: usize,
    owner: Owner,
    /// What there is with the bystanders alone.
    quiet: Machine,
    /// The open descriptors of the hive and its launcher, as long as this hive lives.
    open: Option<[BTreeMap<String, usize>; 2]>,
}

/// A worker as it was when it became ready.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub id: String,
    /// Its policy.
    pub policy: &'static str,
    /// Its own process.
    pub main: Life,
    /// Its init.
    pub init: Life,
    /// Its port.
    pub port: u16,
}

fn policy(on_hive_exit: &str) -> String {
    format!(
        "[worker]\nbinary = \"mock-worker\"\nstop_grace = \"5s\"\non_hive_exit = \"{on_hive_exit}\"\n[readiness]\nhttp = \"/health\"\n\
         [limits]\nmemory_max = \"256MiB\"\npids_max = 64\n[request]\nmay_set = [\"args\"]\n"
    )
}

impl Arena {
    /// Starts a hive with so many bystanders.
    ///
    /// # Panics
    /// Where that fails.
    pub fn open(bystanders: usize) -> Self {
        // Beside those of hives that other tests start, one range for each test program.
        let first = 20_000 + u16::try_from(std::process::id() % 1_000).unwrap_or(0) * 20;
        let ports = first..=first + 19;
        let options = HiveOptions::default().program(&hive_with_fail_points()).before_start(board::put_up).accept_leftovers();
        let options = options.policy(POLICIES[0], &policy("keep")).policy(POLICIES[1], &policy("kill"));
        let hive = Hive::start(options.argument("--ports").argument(&format!("{first}-{}", first + 19)));
        let owner = Owner { directory: hive.directory().to_path_buf(), cgroup_root: hive.cgroup_root().to_owned(), ports };
        let board = Board::of(hive.directory());
        let mut arena = Self { hive, board, bystanders: vec![], wanted: bystanders, owner, quiet: Machine::default(), open: None };
        arena.populate().expect("start the bystanders");
        arena.use_it().expect("a worker before any fault");
        arena.quiet = arena.look();
        arena
    }

    /// Starts those bystanders that do not live, after a start of the hive.
    ///
    /// # Errors
    /// What could not be started.
    pub fn populate(&mut self) -> Result<(), String> {
        for number in 0..self.wanted {
            let id = format!("b{number}");
            if self.bystanders.iter().any(|b| b.id == id && b.main.goes_on()) {
                continue;
            }
            // Another hive, or other workers: it is counted anew.
            self.open = None;
            let _ = self.call("worker_delete", json!({"worker_id": id}));
            let started = self.spawn(&id, POLICIES[number % POLICIES.len()], &[])?;
            self.bystanders.retain(|b| b.id != id);
            self.bystanders.push(started);
        }
        Ok(())
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The hive's; code 0 where it does not answer.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        rpc_over_unix(self.hive.socket(), (method, params), SOON)
    }

    /// Starts a worker and waits until it is ready.
    ///
    /// # Errors
    /// What the hive says.
    pub fn spawn(&self, id: &str, policy: &'static str, args: &[&str]) -> Result<Worker, String> {
        let wait = if args.contains(&"--never-ready") { "started" } else { "ready" };
        let view = self
            .call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu", "args": args, "wait": wait}))
            .map_err(|error| format!("spawn {id}: {error}"))?;
        Worker::of(&view, policy).ok_or_else(|| format!("{id} is said to run, and does not: {view}"))
    }

    /// What is on the machine now.
    pub fn look(&self) -> Machine {
        Machine::look(&self.owner)
    }

    /// The hive's launcher; none where it is gone.
    pub fn launcher(&self) -> Option<i32> {
        let parent = self.hive.pid().as_raw();
        let is = |pid: &&i32| {
            let process = procfs::process::Process::new(**pid).ok();
            process.is_some_and(|p| {
                p.stat().is_ok_and(|s| s.ppid == parent) && p.cmdline().is_ok_and(|line| line.get(1).is_some_and(|w| w == "launcher"))
            })
        };
        self.look().processes.keys().find(is).copied()
    }

    /// Starts a worker and deletes it: the hive is whole, and the victim's name is free.
    ///
    /// # Errors
    /// What does not work.
    pub fn use_it(&self) -> Result<(), String> {
        for id in [VICTIM, OTHER] {
            let _ = self.call("worker_delete", json!({"worker_id": id}));
        }
        // A hive that died with it has left its records, and they go with the next of that name.
        if self.hive.state_dir().join("workers").join(OTHER).exists() {
            self.spawn(OTHER, POLICIES[1], &[])?;
            self.call("worker_delete", json!({"worker_id": OTHER})).map_err(|error| format!("delete {OTHER}: {error}"))?;
        }
        let worker = self.spawn(VICTIM, POLICIES[0], &[])?;
        worker.serves()?;
        self.call("worker_delete", json!({"worker_id": VICTIM})).map_err(|error| format!("delete the worker after the fault: {error}"))?;
        Ok(())
    }

    /// Whether the bystanders live as before, and the hive knows it.
    ///
    /// # Errors
    /// Which does not.
    pub fn bystanders_live(&self) -> Result<(), String> {
        self.bystanders.iter().try_for_each(|worker| self.lives_as_before(worker))
    }

    /// Whether a worker is the one that it was, and is told so.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn lives_as_before(&self, worker: &Worker) -> Result<(), String> {
        let id = &worker.id;
        if !worker.main.goes_on() || !worker.init.goes_on() {
            return Err(format!("{id} has ended, and nothing was done to it"));
        }
        let view = self.call("worker_status", json!({"worker_id": id})).map_err(|error| format!("{id} lives, and is not told: {error}"))?;
        let same =
            (&view["pid"], &view["init_pid"], &view["port"]) == (&json!(worker.main.pid), &json!(worker.init.pid), &json!(worker.port));
        if view["state"] != "ready" || !same {
            return Err(format!("{id} is told otherwise than it is: {view}"));
        }
        worker.serves()
    }

    /// Whether nothing is on the machine but what was there before any fault, for which there is some time.
    ///
    /// # Errors
    /// What differs.
    pub fn is_quiet(&mut self) -> Result<(), Vec<String>> {
        let quiet = || self.look().differences(&self.quiet);
        if poll(Duration::from_secs(5), || quiet().is_empty().then_some(())).is_none() {
            return Err(quiet());
        }
        let Some(launcher) = self.launcher() else { return Err(vec!["there is no launcher".into()]) };
        let pids = [self.hive.pid().as_raw(), launcher];
        let Some(before) = &self.open else {
            self.open = Some(pids.map(descriptors));
            return Ok(());
        };
        let more = || pids.iter().zip(before).flat_map(|(pid, before)| self.more_than(before, &descriptors(*pid))).collect::<Vec<_>>();
        match poll(Duration::from_secs(5), || more().is_empty().then_some(())) {
            Some(()) => Ok(()),
            None => Err(more()),
        }
    }

    /// Ends the hive as an administrator does, and starts it again.
    ///
    /// # Errors
    /// Where it does not end, or start.
    pub fn restart(&mut self) -> Result<(), String> {
        self.hive.signal(Signal::SIGTERM);
        self.until_the_hive_ended()?;
        self.start_hive()
    }

    /// Starts a hive in the place of the one that has ended.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start_hive(&mut self) -> Result<(), String> {
        self.open = None;
        self.hive.try_to_start_again()
    }

    /// Waits for the hive's end.
    ///
    /// # Errors
    /// Where it goes on.
    pub fn until_the_hive_ended(&mut self) -> Result<(), String> {
        poll(SOON, || self.hive.has_ended().then_some(())).ok_or_else(|| "the hive does not end".to_owned())
    }

    fn more_than(&self, before: &BTreeMap<String, usize>, now: &BTreeMap<String, usize>) -> Vec<String> {
        // Of each worker the hive keeps some sockets that wait to be connected: fewer at one time, more at another.
        let allowed = |kind: &str| if kind == "socket" { SOCKETS_OF_A_WORKER * self.bystanders.len() } else { 0 };
        let more = now.iter().filter_map(|(kind, count)| {
            let had = before.get(kind).copied().unwrap_or(0);
            (*count > had + allowed(kind)).then(|| format!("{count} descriptors {kind}, were {had}"))
        });
        more.collect()
    }

    /// How much memory and how many processes the kernel holds a worker to.
    pub fn limits_in_force(&self, id: &str) -> Vec<(PathBuf, String)> {
        let leaf = format!("w-{id}/worker");
        let files = self.look().cgroups.into_iter().filter(|path| path.ends_with(&leaf));
        let files = files.flat_map(|leaf| ["memory.limit_in_bytes", "memory.max", "pids.max"].map(|name| leaf.join(name)));
        files.filter_map(|file| Some((file.clone(), std::fs::read_to_string(&file).ok()?.trim().to_owned()))).collect()
    }
}

impl Worker {
    /// What a view says, if the processes are there.
    pub fn of(view: &Value, policy: &'static str) -> Option<Self> {
        let number = |field: &str| view[field].as_i64().and_then(|n| i32::try_from(n).ok());
        Some(Self {
            id: view["worker_id"].as_str()?.to_owned(),
            policy,
            main: Life::of(number("pid")?)?,
            init: Life::of(number("init_pid")?)?,
            port: view["port"].as_u64().and_then(|p| u16::try_from(p).ok())?,
        })
    }

    /// Whether it answers on its port.
    ///
    /// # Errors
    /// What came instead.
    pub fn serves(&self) -> Result<(), String> {
        match http_get(self.port, "/health") {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("worker {} does not serve: {other:?}", self.id)),
        }
    }
}
