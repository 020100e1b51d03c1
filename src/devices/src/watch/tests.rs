use proptest::prelude::*;

use super::*;
use crate::{GpuProcess, Xid};

const GIB: u64 = 1 << 30;

fn good() -> GpuObservation {
    GpuObservation { silent: None, memory_used_bytes: Some(0), processes: Some(vec![]), xids: vec![] }
}

fn silent() -> GpuObservation {
    GpuObservation { silent: Some("no answer within 2 s".into()), memory_used_bytes: None, processes: None, xids: vec![] }
}

fn with(used: u64, processes: &[(i32, Option<u64>)]) -> GpuObservation {
    let processes = processes.iter().map(|(pid, memory_bytes)| GpuProcess { pid: *pid, memory_bytes: *memory_bytes }).collect();
    GpuObservation { memory_used_bytes: Some(used), processes: Some(processes), ..good() }
}

fn faulty(code: u32, pid: Option<i32>, id: &str) -> GpuObservation {
    GpuObservation { xids: vec![Xid { code, pid, id: id.into() }], ..good() }
}

fn at(secs: u64) -> Scene {
    Scene { now: Duration::from_secs(secs), ..Scene::default() }
}

/// GPU 0 is worker `w`'s, with the process 7.
fn held(secs: u64) -> Scene {
    Scene { holders: [(0, ["w".to_owned()].into())].into(), owners: [(7, "w".to_owned())].into(), ..at(secs) }
}

/// The worker `w` has ended, and its lease `l` is awaited.
fn releasing(secs: u64, since: u64) -> Scene {
    let awaited = Awaited { worker: Some("w".into()), since: Duration::from_secs(since) };
    Scene { awaited: [(0, [("l".to_owned(), awaited)].into())].into(), ..at(secs) }
}

fn limited(secs: u64) -> Scene {
    Scene { budgets: [("w".to_owned(), Budget { limit: GIB, gpus: vec![0] })].into(), ..held(secs) }
}

fn step(watch: &mut Watch, gpu: GpuObservation, scene: &Scene) -> Vec<Finding> {
    watch.step(&Observation { gpus: [(0, gpu)].into() }, scene)
}

#[test]
fn a_silent_gpu_is_drained_at_once_and_whole_again_after_three_answers_in_a_row() {
    let mut watch = Watch::default();
    assert_eq!(step(&mut watch, good(), &at(0)), []);
    assert!(matches!(&step(&mut watch, silent(), &at(1))[..], [Finding::Drained { gpu: 0, why }] if why.contains("no answer")));
    assert_eq!(step(&mut watch, silent(), &at(2)), [], "it is told once");
    for gpu in [good(), good(), silent(), good(), good()] {
        assert_eq!(step(&mut watch, gpu, &at(3)), [], "not three in a row");
    }
    assert_eq!(step(&mut watch, good(), &at(4)), [Finding::Healed { gpu: 0 }]);
    assert_eq!(watch.step(&Observation::default(), &at(5)), [], "what was not looked at is not silent");
}

#[test]
fn a_fault_is_told_once_to_whom_it_concerns_and_only_the_hardwares_drains() {
    let mut watch = Watch::default();
    let two = Scene { holders: [(0, ["v".to_owned(), "w".to_owned()].into())].into(), ..held(0) };
    let told = step(&mut watch, faulty(31, Some(7), "a"), &two);
    assert!(
        matches!(&told[..], [Finding::Fault { code: 31, class: XidClass::Application, pid: Some(7), workers, .. }] if *workers == ["w"])
    );
    assert_eq!(step(&mut watch, faulty(31, Some(7), "a"), &two), [], "the same fault, read once more");
    let all = ["v".to_owned(), "w".to_owned()];
    let unblamed = step(&mut watch, faulty(31, None, "b"), &two);
    assert!(matches!(&unblamed[..], [Finding::Fault { workers, .. }] if *workers == all), "{unblamed:?}");
    let hardware = step(&mut watch, faulty(79, Some(7), "c"), &two);
    let drained = matches!(&hardware[..], [Finding::Fault { workers, .. }, Finding::Drained { why, .. }] if *workers == all && why.contains("Xid 79"));
    assert!(drained, "{hardware:?}");
    assert!(matches!(&step(&mut watch, faulty(9999, None, "d"), &two)[..], [Finding::Fault { class: XidClass::Unknown, .. }]));
}

#[test]
fn a_programs_fault_at_an_mps_server_is_told_to_every_holder() {
    let mut watch = Watch::default();
    let all = ["v".to_owned(), "w".to_owned()];
    let holders = [(0, all.clone().into()), (1, ["part".to_owned()].into())].into();
    let scene = Scene { holders, owners: [(5, "mps-1".to_owned()), (9, "part".to_owned())].into(), ..at(0) };
    let told = step(&mut watch, faulty(31, Some(5), "a"), &scene);
    assert!(matches!(&told[..], [Finding::Fault { pid: Some(5), workers, .. }] if *workers == all), "{told:?}");
    let told = step(&mut watch, faulty(31, Some(9), "b"), &scene);
    assert!(matches!(&told[..], [Finding::Fault { workers, .. }] if *workers == ["part"]), "the whole GPU tells of its parts: {told:?}");
}

#[test]
fn a_strangers_process_is_told_when_it_was_there_twice_and_when_it_is_gone() {
    let mut watch = Watch::default();
    let both = || with(GIB, &[(7, Some(1)), (99, Some(1))]);
    assert_eq!(step(&mut watch, both(), &held(0)), [], "it may be a worker's that was not known yet");
    assert_eq!(step(&mut watch, both(), &held(1)), [Finding::Foreign { gpu: 0, pids: [99].into() }]);
    assert_eq!(watch.foreign(0), [99].into());
    assert_eq!(step(&mut watch, both(), &held(2)), []);
    assert_eq!(step(&mut watch, GpuObservation { processes: None, ..good() }, &held(3)), [], "no list is no empty list");
    assert_eq!(step(&mut watch, with(GIB, &[(7, Some(1))]), &held(4)), [Finding::Foreign { gpu: 0, pids: [].into() }]);
    let lent = Scene { lent: [0].into(), ..at(5) };
    assert_eq!((step(&mut watch, both(), &lent), step(&mut watch, both(), &lent)), (vec![], vec![]), "it is another's lease");
    let ended = Scene { ended: [98].into(), ..held(6) };
    assert_eq!(step(&mut watch, with(GIB, &[(98, None)]), &ended), []);
    assert_eq!(step(&mut watch, with(GIB, &[(98, None)]), &ended), []);
}

#[test]
fn memory_is_back_when_it_is_down_to_what_it_was() {
    let mut watch = Watch::default();
    step(&mut watch, with(3 << 20, &[]), &at(0));
    step(&mut watch, with(8 * GIB, &[(7, Some(8 * GIB))]), &held(1));
    assert_eq!(step(&mut watch, with(8 * GIB, &[(7, Some(8 * GIB))]), &releasing(3, 2)), [], "its process is still listed");
    assert_eq!(step(&mut watch, with(6 * GIB, &[]), &releasing(4, 2)), [], "and its memory still taken");
    let back = Finding::Back { gpu: 0, lease: "l".into(), after: Duration::from_secs(3), proof: Proof::Measured };
    assert_eq!(step(&mut watch, with(4 << 20, &[]), &releasing(5, 2)), [back]);
}

#[test]
fn a_process_that_ended_before_it_was_ever_seen_is_no_strangers() {
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    let dead = || with(9 * GIB, &[(7, Some(9 * GIB))]);
    let scene = |secs| Scene { ended: [7].into(), ..releasing(secs, 2) };
    assert_eq!(step(&mut watch, dead(), &scene(3)), []);
    assert!(matches!(&step(&mut watch, dead(), &scene(32))[..], [Finding::Leaked { .. }]));
}

#[test]
fn who_is_faster_than_the_first_look_hides_no_leak() {
    let mut watch = Watch::default();
    step(&mut watch, with(9 * GIB, &[(7, Some(8 * GIB))]), &held(1));
    assert_eq!(step(&mut watch, with(4 * GIB, &[]), &releasing(3, 2)), []);
    assert!(matches!(&step(&mut watch, with(GIB, &[]), &releasing(4, 2))[..], [Finding::Back { .. }]), "the driver had that before");
}

#[test]
fn what_is_not_back_in_time_has_leaked_and_may_still_come_back() {
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    let leaked =
        |found: &[Finding]| matches!(found, [Finding::Leaked { gpu: 0, lease, why }] if lease == "l" && why.contains("bytes are in use"));
    assert_eq!(step(&mut watch, with(6 * GIB, &[]), &releasing(31, 2)), []);
    assert!(leaked(&step(&mut watch, with(6 * GIB, &[]), &releasing(32, 2))));
    assert_eq!(step(&mut watch, with(6 * GIB, &[]), &releasing(40, 2)), [], "told once");
    assert_eq!(step(&mut watch, with(6 * GIB, &[]), &at(50)), [], "the table has let go of the lease, and the memory is still away");
    assert_eq!(step(&mut watch, good(), &at(60)), [Finding::Healed { gpu: 0 }]);
}

/// Somebody has a lease of GPU 0 who is no worker.
fn lent(secs: u64) -> Scene {
    Scene { lent: [0].into(), ..at(secs) }
}

/// His lease `l` was given back.
fn returned(secs: u64, since: u64) -> Scene {
    let awaited = Awaited { worker: None, since: Duration::from_secs(since) };
    Scene { awaited: [(0, [("l".to_owned(), awaited)].into())].into(), ..at(secs) }
}

#[test]
fn what_an_external_holder_leaves_behind_is_not_the_drivers_own() {
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    step(&mut watch, with(5 * GIB, &[(99, Some(5 * GIB))]), &lent(1));
    step(&mut watch, with(5 * GIB, &[]), &lent(2));
    assert_eq!(step(&mut watch, with(5 * GIB, &[]), &returned(4, 3)), []);
    assert!(matches!(&step(&mut watch, with(5 * GIB, &[]), &returned(40, 3))[..], [Finding::Leaked { .. }]));
}

#[test]
fn an_external_lease_whose_gpu_was_never_seen_idle_is_not_measured() {
    let mut watch = Watch::default();
    step(&mut watch, with(5 * GIB, &[]), &lent(1));
    let back = step(&mut watch, with(5 * GIB, &[]), &returned(4, 3));
    assert!(matches!(&back[..], [Finding::Back { proof: Proof::NotMeasured, .. }]), "{back:?}");
}

#[test]
fn after_a_fault_that_only_a_reset_mends_good_answers_heal_nothing_before_it() {
    for (code, reset) in [(48, true), (64, true), (79, true), (95, true), (140, true), (62, false), (119, false)] {
        let mut watch = Watch::default();
        let why = |found: &[Finding]| matches!(found, [_, Finding::Drained { why, .. }] if why.contains("device_heal") == reset);
        assert!(why(&step(&mut watch, faulty(code, None, "a"), &at(0))), "{code}");
        let three = |watch: &mut Watch| (0..3).flat_map(|n| step(watch, good(), &at(n))).collect::<Vec<_>>();
        assert_eq!(three(&mut watch).is_empty(), reset, "{code}");
        let mut again = Watch::default();
        again.restore(watch.known());
        assert!(!reset || three(&mut again).is_empty(), "{code}: nor does a restart");
        again.was_reset(0);
        assert_eq!(three(&mut again).len(), usize::from(reset), "{code}");
    }
}

#[test]
fn that_only_a_reset_mends_it_is_told_of_a_gpu_that_is_silent_too_and_of_one_that_was_before() {
    let drained = |found: &[Finding]| match found {
        [Finding::Fault { .. }, Finding::Drained { why, .. }]
        | [Finding::Fault { .. }, Finding::Fault { .. }, Finding::Drained { why, .. }] => why.clone(),
        other => panic!("{other:?}"),
    };
    let mut watch = Watch::default();
    let both = |code, id: &str| GpuObservation { xids: faulty(code, None, id).xids, ..silent() };
    let why = drained(&step(&mut watch, both(79, "a"), &at(0)));
    assert!(why.starts_with("no answer within 2 s; Xid 79") && why.contains("device_heal"), "{why}");
    assert!(matches!(&step(&mut watch, both(48, "b"), &at(1))[..], [Finding::Fault { .. }]), "it needs a reset already");

    let mut watch = Watch::default();
    step(&mut watch, silent(), &at(0));
    assert!(matches!(&step(&mut watch, both(62, "a"), &at(1))[..], [Finding::Fault { .. }]), "it is out of use, and may heal by itself");
    assert!(drained(&step(&mut watch, both(79, "b"), &at(2))).contains("device_heal"));
    assert_eq!(step(&mut watch, silent(), &at(3)), []);

    let mut watch = Watch::default();
    let two = GpuObservation { xids: [faulty(62, None, "a").xids, faulty(79, None, "b").xids].concat(), ..good() };
    assert!(drained(&step(&mut watch, two, &at(0))).contains("Xid 79"), "the one that says what mends it");
}

#[test]
fn who_looks_anew_goes_on_from_what_was_known() {
    let again = |watch: &Watch| {
        let mut again = Watch::default();
        again.restore(serde_json::from_value(serde_json::to_value(watch.known()).unwrap()).unwrap());
        again
    };
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    step(&mut watch, with(8 * GIB, &[(7, Some(8 * GIB))]), &held(1));
    let mut watch = again(&watch);
    assert_eq!(step(&mut watch, with(8 * GIB, &[(7, Some(8 * GIB))]), &releasing(1, 0)), [], "its process of before is still listed");
    assert_eq!(step(&mut watch, with(8 * GIB, &[]), &releasing(2, 0)), [], "and that is not the idle use");
    assert!(matches!(&step(&mut watch, with(8 * GIB, &[]), &releasing(30, 0))[..], [Finding::Leaked { .. }]));
    let mut watch = again(&watch);
    assert_eq!(step(&mut watch, with(8 * GIB, &[]), &at(1)), [], "it has leaked still");
    assert_eq!(step(&mut watch, good(), &at(2)), [Finding::Healed { gpu: 0 }]);
    step(&mut watch, silent(), &at(3));
    let mut watch = again(&watch);
    let healed: Vec<Finding> = (0..3).flat_map(|n| step(&mut watch, good(), &at(n))).collect();
    assert_eq!(healed, [Finding::Healed { gpu: 0 }], "out of use until it answers, as before");
}

#[test]
fn where_no_process_is_listed_the_least_that_was_in_use_is_the_drivers_own() {
    let mut watch = Watch::default();
    let unlisted = |used| GpuObservation { processes: None, memory_used_bytes: Some(used), ..good() };
    step(&mut watch, unlisted(0), &at(0));
    step(&mut watch, unlisted(5 * GIB), &at(1));
    step(&mut watch, unlisted(6 * GIB), &held(2));
    assert_eq!(step(&mut watch, unlisted(5 * GIB), &releasing(4, 3)), [], "it may be the worker's");
    assert!(matches!(&step(&mut watch, unlisted(0), &releasing(5, 3))[..], [Finding::Back { proof: Proof::Measured, .. }]));
}

#[test]
fn where_nothing_is_told_of_memory_an_end_is_taken_for_one_and_said_to_be_not_measured() {
    let mut watch = Watch::default();
    let told = GpuObservation { memory_used_bytes: None, processes: None, ..good() };
    assert!(matches!(&step(&mut watch, told, &releasing(3, 2))[..], [Finding::Back { proof: Proof::NotMeasured, .. }]));
}

#[test]
fn what_leaked_is_not_taken_for_the_idle_use_and_answering_alone_does_not_heal_it() {
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    step(&mut watch, with(6 * GIB, &[]), &releasing(40, 2));
    step(&mut watch, silent(), &at(41));
    for secs in 42..50 {
        assert_eq!(step(&mut watch, with(6 * GIB, &[]), &at(secs)), [], "it answers, and its memory is away");
    }
    assert_eq!(step(&mut watch, good(), &at(50)), [Finding::Healed { gpu: 0 }]);
}

#[test]
fn strangers_memory_is_not_taken_for_a_leak_and_a_silent_gpu_gives_nothing_back() {
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    let used = with(5 * GIB, &[(99, Some(5 * GIB))]);
    assert!(matches!(&step(&mut watch, used, &releasing(3, 2))[..], [Finding::Back { .. }]));
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    assert!(matches!(&step(&mut watch, silent(), &releasing(3, 2))[..], [Finding::Drained { .. }]));
    assert!(matches!(&step(&mut watch, silent(), &releasing(33, 2))[..], [Finding::Leaked { why, .. }] if why.contains("does not answer")));
}

#[test]
fn who_shares_a_gpu_is_back_when_its_processes_are_gone() {
    let mut watch = Watch::default();
    step(&mut watch, good(), &at(0));
    let others = |secs, since| Scene {
        holders: [(0, ["v".to_owned()].into())].into(),
        owners: [(8, "v".to_owned())].into(),
        ..releasing(secs, since)
    };
    step(
        &mut watch,
        with(9 * GIB, &[(7, Some(GIB)), (8, Some(8 * GIB))]),
        &Scene { owners: [(7, "w".into()), (8, "v".into())].into(), ..held(1) },
    );
    assert_eq!(step(&mut watch, with(9 * GIB, &[(7, Some(GIB)), (8, Some(8 * GIB))]), &others(3, 2)), []);
    assert!(matches!(&step(&mut watch, with(8 * GIB, &[(8, Some(8 * GIB))]), &others(4, 2))[..], [Finding::Back { .. }]));
}

#[test]
fn a_worker_over_its_limit_is_told_then_to_be_stopped_when_that_lasts() {
    let mut watch = Watch::default();
    let over = || with(2 * GIB, &[(7, Some(2 * GIB))]);
    let told = Finding::Over { worker: "w".into(), gpu: 0, used: 2 * GIB, limit: GIB };
    assert_eq!(step(&mut watch, with(GIB, &[(7, Some(GIB))]), &limited(0)), [], "up to the limit is within it");
    assert_eq!(step(&mut watch, over(), &limited(1)), std::slice::from_ref(&told));
    assert_eq!(step(&mut watch, good(), &limited(5)), [Finding::Within { worker: "w".into() }]);
    assert_eq!(step(&mut watch, over(), &limited(6)), [told], "the time begins anew");
    assert_eq!(step(&mut watch, with(2 * GIB, &[(7, None)]), &limited(12)), [], "what is not known is neither over nor within");
    assert_eq!(step(&mut watch, over(), &limited(15)), []);
    assert_eq!(step(&mut watch, over(), &limited(16)), [Finding::Exceeded { worker: "w".into(), gpu: 0, used: 2 * GIB, limit: GIB }]);
    assert_eq!(step(&mut watch, over(), &limited(60)), [], "asked for once");
}

#[test]
fn memory_of_a_worker_is_the_sum_of_its_processes_where_all_are_told() {
    let gpus = [(0, with(9, &[(7, Some(2)), (8, Some(3)), (99, Some(4))])), (1, with(9, &[(7, None)])), (2, good()), (3, silent())];
    let usage = Usage::of(&Observation { gpus: gpus.into() }, &[(7, "w".into()), (8, "w".into())].into());
    assert_eq!((0..4).map(|gpu| usage.on("w", gpu)).collect::<Vec<_>>(), [Some(5), None, Some(0), None]);
    assert_eq!((usage.total("w", &[0, 2]), usage.total("w", &[0, 1]), usage.total("v", &[0])), (Some(5), None, Some(0)));
}

fn any_gpu() -> impl Strategy<Value = GpuObservation> {
    let process = (5i32..9, proptest::option::of(0u64..4 * GIB)).prop_map(|(pid, memory_bytes)| GpuProcess { pid, memory_bytes });
    let xid =
        (proptest::sample::select(vec![13u32, 31, 62, 7777]), 0u8..6).prop_map(|(code, id)| Xid { code, pid: None, id: format!("{id}") });
    let silent = proptest::option::weighted(0.2, Just("x".to_owned()));
    let processes = proptest::option::weighted(0.8, proptest::collection::vec(process, 0..4));
    (silent, proptest::option::of(0u64..9 * GIB), processes, proptest::collection::vec(xid, 0..2))
        .prop_map(|(silent, memory_used_bytes, processes, xids)| GpuObservation { silent, memory_used_bytes, processes, xids })
}

proptest! {
    /// Whatever drivers say: what begins is told before what ends it, and neither twice in a row.
    #[test]
    fn findings_come_in_pairs_and_concern_only_who_is_there(looks in proptest::collection::vec((any_gpu(), 1u64..20, any::<bool>()), 1..60)) {
        let (mut watch, mut now) = (Watch::default(), 0);
        let (mut drained, mut over, mut exceeded) = (false, false, false);
        let mut foreign = BTreeSet::new();
        for (gpu, wait, holds) in looks {
            now += wait;
            let scene = if holds { limited(now) } else { releasing(now, now.saturating_sub(wait * 3)) };
            let unheard = gpu.silent.is_some();
            for finding in step(&mut watch, gpu.clone(), &scene) {
                match finding {
                    Finding::Drained { .. } => drained = true,
                    Finding::Healed { .. } => { prop_assert!(drained && !unheard); drained = false; }
                    Finding::Fault { workers, .. } => prop_assert!(workers.iter().all(|w| holds && w == "w")),
                    Finding::Foreign { pids, .. } => {
                        prop_assert!(pids != foreign && !unheard);
                        let listed = gpu.processes.as_deref().unwrap_or_default();
                        prop_assert!(pids.iter().all(|pid| listed.iter().any(|p| p.pid == *pid) && !scene.owners.contains_key(pid)));
                        foreign = pids;
                    }
                    Finding::Back { .. } => prop_assert!(!holds && !unheard),
                    Finding::Leaked { .. } => { prop_assert!(!holds); drained = true; }
                    Finding::Over { used, limit, .. } => { prop_assert!(holds && !over && used > limit); over = true; }
                    Finding::Exceeded { used, limit, .. } => { prop_assert!(over && !exceeded && used > limit); exceeded = true; }
                    Finding::Within { .. } => { prop_assert!(over); (over, exceeded) = (false, false); }
                }
            }
            if !holds {
                // The limit went with the worker.
                (over, exceeded) = (false, false);
            }
        }
    }

    #[test]
    fn a_gpu_that_answers_and_has_given_everything_back_is_free_within_three_looks(looks in proptest::collection::vec(any_gpu(), 0..30)) {
        let mut watch = Watch::default();
        step(&mut watch, good(), &at(0));
        let mut drained = false;
        for gpu in looks {
            for finding in step(&mut watch, gpu, &releasing(40, 2)) {
                drained = match finding { Finding::Drained { .. } | Finding::Leaked { .. } => true, Finding::Healed { .. } => false, _ => drained };
            }
        }
        let found: Vec<Finding> = (0..3).flat_map(|_| step(&mut watch, good(), &releasing(41, 2))).collect();
        prop_assert_eq!(found.iter().filter(|f| matches!(f, Finding::Back { .. })).count(), 3, "each look says so until it is taken");
        prop_assert_eq!(found.iter().any(|f| matches!(f, Finding::Healed { .. })), drained);
        prop_assert!(watch.foreign(0).is_empty());
    }
}
