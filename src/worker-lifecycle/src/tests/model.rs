//! The core that several tasks share, in every order in which threads can come to its locks (loom, with at most [`PREEMPTIONS`] of them cut in
//! where they would have gone on).
//!
//! Loom and not shuttle: what can go wrong here lies between two critical sections, of which a case has a dozen at most. All orders of so few are
//! tried in seconds, and a proof is worth more than samples. Tokio's channels are not modelled (that is done where they are made): what is between
//! two locks happens at once.

use std::sync::{Arc, LazyLock};

use loom::future::block_on;
use loom::thread::{self, JoinHandle};
use rbee_hive_devices::{DeviceSpec, Holder, Inventory, LeaseRequest, Terms};
use rbee_hive_policy::{NetworkMode, WorkerId};
use serde_json::json;

use crate::channel::Answers;
use crate::leases::{Leases, Outcome};
use crate::registry::WorkerRegistry;
use crate::task::{Command, WorkerHandle};
use crate::{WorkerEntry, WorkerStatus, WorkerView};

/// Most bugs of that kind show with two (Musuvathi and Qadeer, "Iterative context bounding", 2007).
const PREEMPTIONS: usize = 3;

/// What a thread of a case has for its stack; loom's own are made for less than a table of leases. Words.
const STACK: usize = 64 * 1024;

fn spawn<T: Send + 'static>(thread: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().stack_size(STACK).spawn(thread).unwrap()
}

fn in_every_order(case: impl Fn() + Sync + Send + 'static) {
    let case = Arc::new(case);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let case = Arc::clone(&case);
        spawn(move || case()).join().unwrap();
    });
}

#[test]
fn who_waits_for_an_answer_gets_it_or_hears_that_there_is_none() {
    in_every_order(|| {
        let answers = Arc::new(Answers::<u8>::default());
        let expected = answers.expect();
        let seq = expected.seq;
        let giver = spawn({
            let answers = Arc::clone(&answers);
            move || answers.give(seq, 7)
        });
        let ender = spawn({
            let answers = Arc::clone(&answers);
            move || answers.fail_all()
        });
        // Nobody waits for ever: that would be a deadlock, which loom tells.
        assert!(matches!(block_on(expected.get()), Some(7) | None));
        giver.join().unwrap();
        ender.join().unwrap();
        assert_eq!(answers.waiting(), 0);
    });
}

#[test]
fn who_stops_waiting_while_the_answer_comes_leaves_nothing_and_takes_no_other_s() {
    in_every_order(|| {
        let answers = Arc::new(Answers::<u8>::default());
        let (left, kept) = (answers.expect(), answers.expect());
        let (first, second) = (left.seq, kept.seq);
        let giver = spawn({
            let answers = Arc::clone(&answers);
            move || {
                answers.give(first, 1);
                answers.give(second, 2);
            }
        });
        drop(left);
        assert_eq!(block_on(kept.get()), Some(2));
        giver.join().unwrap();
        assert_eq!(answers.waiting(), 0);
    });
}

fn entry(id: &str) -> WorkerEntry {
    WorkerEntry {
        id: id.into(),
        model_id: "m".into(),
        device: "CPU-0".into(),
        pid: None,
        port: None,
        status: WorkerStatus::Starting,
        started_at: std::time::SystemTime::UNIX_EPOCH,
    }
}

/// A handle, and what keeps it alive.
fn handle(id: &str) -> (WorkerHandle, tokio::sync::mpsc::Receiver<Command>) {
    let view: WorkerView = serde_json::from_value(json!({
        "worker_id": id, "model": "m", "devices": [], "policy": "p", "labels": {}, "state": "stopped", "generation": 1, "restarts": 0,
        "pid": null, "init_pid": null, "port": null, "endpoint": null, "created_at": "", "started_at": null, "ready_at": null,
        "ended_at": null, "cgroup": {"mode": "none", "path": null}, "limits": {}, "not_in_force": [], "drift": [], "verified": null,
        "resources": crate::tests::model::no_resources(), "unmeasured": [], "verdict": null,
    }))
    .unwrap();
    let (commands, kept) = crate::task::commands();
    let view = tokio::sync::watch::Sender::new(view).subscribe();
    (WorkerHandle { id: WorkerId::parse(id).unwrap(), commands, view, usage: Arc::default(), known: Arc::default() }, kept)
}

fn no_resources() -> serde_json::Value {
    serde_json::to_value(rbee_hive_sandbox::protocol::Resources::default()).unwrap()
}

#[test]
fn of_two_that_want_one_name_one_gets_it() {
    in_every_order(|| {
        let registry = Arc::new(WorkerRegistry::new());
        let other = spawn({
            let registry = Arc::clone(&registry);
            move || registry.register(entry("w")).is_ok()
        });
        let mine = registry.register(entry("w")).is_ok();
        assert!(mine ^ other.join().unwrap(), "both have it, or neither");
        assert_eq!(registry.len(), 1);
    });
}

#[test]
fn the_slower_of_two_deletes_takes_no_new_worker_of_that_name_off_the_list() {
    in_every_order(|| {
        let registry = Arc::new(WorkerRegistry::new());
        let (old, _kept) = handle("w");
        registry.register(entry("w")).unwrap();
        registry.attach("w", old.clone());
        let deletes = [(); 2].map(|()| {
            let (registry, old) = (Arc::clone(&registry), old.clone());
            spawn(move || registry.remove_this(&old, || {}))
        });
        // It is tried until the name is free, as a client does.
        let (new, _kept_too) = handle("w");
        let started = registry.register(entry("w")).is_ok();
        if started {
            registry.attach("w", new.clone());
        }
        deletes.into_iter().for_each(|delete| delete.join().unwrap());
        assert_eq!(registry.contains("w"), started, "the new worker is on no list, or the old one stays");
        assert!(!started || registry.handle("w").is_some_and(|h| h.is(&new)));
    });
}

#[test]
fn a_port_is_one_worker_s_and_free_when_it_is_given_back() {
    let ports = crate::tests::forks::none_here();
    in_every_order(|| {
        let registry = WorkerRegistry::with_ports(29_500..=29_501);
        let reserve = {
            let pool = Arc::clone(registry.ports());
            move || pool.reserve(NetworkMode::Private)
        };
        let first = reserve().unwrap();
        let (giving_back, other) = (spawn(move || drop(first)), reserve.clone());
        let other = spawn(move || other());
        let mine = reserve();
        giving_back.join().unwrap();
        let other = other.join().unwrap();
        let given: Vec<u16> = [&mine, &other].into_iter().flatten().map(crate::PortLease::port).collect();
        assert!(!given.is_empty() && (given.len() < 2 || given[0] != given[1]), "{given:?}");
        drop((mine, other));
        let all: Vec<_> = (0..2).map(|_| reserve()).collect();
        assert!(all.iter().all(Result::is_ok), "a port that was given back is not to be had");
    });
    drop(ports);
}

fn one_gpu() -> Arc<Leases> {
    static HOST: LazyLock<Inventory> =
        LazyLock::new(|| Inventory::from_simulation("[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n", "d.toml").unwrap());
    Leases::open(HOST.clone(), Arc::default(), None)
}

fn wants(name: &str) -> LeaseRequest {
    let spec = DeviceSpec::parse(&json!({"gpus": [0], "when_busy": "queue"})).unwrap();
    LeaseRequest { holder: Holder::Worker(name.into()), spec, terms: Terms::unbounded() }
}

fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

/// Takes the GPU, waiting for it, and gives it back; nobody else has it meanwhile.
fn use_it(leases: &Arc<Leases>, name: &str) {
    let lease = match leases.ask(wants(name)).unwrap() {
        Outcome::Granted(lease) => lease,
        Outcome::Queued(waiting, _) => block_on(waiting.served(None)).expect("its place in line is its own").expect("a lease"),
    };
    let holders: Vec<String> = leases.list_all().into_iter().map(|held| held.lease.holder).collect();
    assert_eq!((lease.holder.name(), holders), (name, vec![name.to_owned()]));
    leases.release_worker(&id(name));
}

#[test]
fn a_gpu_is_one_worker_s_at_a_time_and_everybody_in_line_is_served() {
    in_every_order(|| {
        let leases = one_gpu();
        let others = ["b", "c"].map(|name| {
            let leases = Arc::clone(&leases);
            spawn(move || use_it(&leases, name))
        });
        use_it(&leases, "a");
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(leases.list_all().is_empty());
    });
}

#[test]
fn who_leaves_the_line_while_it_is_served_leaves_the_gpu_to_the_next() {
    in_every_order(|| {
        let leases = one_gpu();
        let Outcome::Granted(_) = leases.ask(wants("a")).unwrap() else { panic!("the GPU is free") };
        let Outcome::Queued(leaver, _) = leases.ask(wants("b")).unwrap() else { panic!("the GPU is taken") };
        let releasing = spawn({
            let leases = Arc::clone(&leases);
            move || leases.release_worker(&id("a"))
        });
        let next = spawn({
            let leases = Arc::clone(&leases);
            move || use_it(&leases, "c")
        });
        drop(leaver);
        releasing.join().unwrap();
        next.join().unwrap();
        assert!(leases.list_all().is_empty(), "a lease without a holder");
    });
}
