//! Whether another life follows, case by case.

use std::collections::BTreeMap;
use std::time::Duration;

use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::protocol::{CgroupFacts, CgroupMode, FoundHow};
use rbee_hive_sandbox::{StoppedBy, Verdict};

use super::{Case, Down, Facts, FoundWorker, News, join};
use crate::WorkerState;
use crate::explanation::LifeView;
use crate::records::{Asked, WorkerRecord};
use crate::supervision::Backoff;
use crate::task::said;
use crate::tests::hive::{id, params};
use crate::tests::plans;

const NOW: &str = "2026-01-01T01:00:00Z";
const CRASH: Verdict = Verdict::Exited { code: 3 };

/// Ready for half an hour by the time of its end, which was five seconds ago.
fn record(state: WorkerState) -> WorkerRecord {
    let mut view = plans::view("w");
    (view.state, view.policy, view.restarts) = (state, "slowly".into(), 0);
    (view.started_at, view.ready_at) = (Some("2026-01-01T00:29:00Z".into()), Some("2026-01-01T00:29:55Z".into()));
    WorkerRecord { asked: Some(Asked::from(&params("w", "m", "slowly"))), ..WorkerRecord::bare(view, "boot") }
}

/// As the hive before leaves one that has fallen.
fn fallen(due_at: &str) -> WorkerRecord {
    let mut record = record(WorkerState::Restarting);
    (record.worker.init_pid, record.worker.pid) = (None, None);
    record.worker.verdict = Some(said(CRASH));
    record.backoff = Backoff { in_a_row: 2, due_at: Some(due_at.into()) };
    record.lives.push(LifeView { started_at: None, ready_at: None, ended_at: "then".into(), verdict: said(CRASH) });
    record
}

fn found(policy: &str, how: FoundHow) -> FoundWorker {
    FoundWorker {
        worker_id: id("w"),
        plan: Some(Box::new(plans::named("w", policy))),
        cgroup: None,
        init_pid: Some(6),
        not_in_force: vec![],
        policy_digest: None,
        how,
        init: None,
        released: None,
    }
}

fn ended(verdict: Verdict) -> FoundHow {
    FoundHow::Ended { verdict: Some(verdict), resources: None }
}

fn joined(there: Option<FoundWorker>, record: WorkerRecord) -> Case {
    let cgroup = CgroupFacts { mode: CgroupMode::None, root: "/".into(), mounts: BTreeMap::new(), notes: vec![] };
    let ended_at = |_: &WorkerId| Some("2026-01-01T00:59:55Z".to_owned());
    let facts = Facts { boot_id: "boot", cgroup: &cgroup, now: NOW.parse().unwrap(), ended_at: &ended_at };
    let mut cases = join(there.into_iter().map(|found| (found, None)).collect(), (vec![record], &[]), &facts);
    assert_eq!(cases.len(), 1);
    cases.remove(0)
}

fn down(case: Case) -> Down {
    let Case::Down(down) = case else { panic!("{case:?}") };
    *down
}

fn over(case: Case) -> (WorkerState, String) {
    let Case::Over(over) = case else { panic!("{case:?}") };
    (over.record.worker.state, over.record.worker.verdict.unwrap().message)
}

#[test]
fn an_end_is_counted_by_the_policy_and_its_pause_has_begun_with_it() {
    let mut before = record(WorkerState::Ready);
    before.backoff.in_a_row = 2;
    let again = down(joined(Some(found("slowly", ended(CRASH))), before));
    assert_eq!(again.next, (1, Duration::from_secs(5)), "it was stable: the first one, and five of its ten seconds are over");
    let view = &again.record.worker;
    assert_eq!((view.state, view.pid, view.init_pid, &view.ended_at), (WorkerState::Restarting, None, None, &None));
    assert_eq!((again.news, view.verdict.as_ref().map(|v| &v.verdict)), (News::Ended, Some(&CRASH)));
    assert_eq!((again.record.lives.len(), again.record.lives[0].ended_at.as_str()), (1, "2026-01-01T00:59:55Z"));
    assert_eq!(again.record.backoff, Backoff { in_a_row: 1, due_at: Some("2026-01-01T01:00:05.000Z".into()) });
}

#[test]
fn what_is_no_failure_was_wanted_or_never_ran_is_over() {
    let by = Verdict::Stopped { by: StoppedBy::HiveExit, forced: true, code: None, signal: Some(9) };
    for verdict in [Verdict::Exited { code: 0 }, by] {
        assert!(!over(joined(Some(found("slowly", ended(verdict))), record(WorkerState::Ready))).1.contains("started again"));
    }
    let stopping = WorkerRecord { stopping: Some(StoppedBy::Request), ..record(WorkerState::Stopping) };
    over(joined(Some(found("slowly", ended(CRASH))), stopping));
    let mut unborn = record(WorkerState::Starting);
    (unborn.worker.started_at, unborn.worker.ready_at) = (None, None);
    over(joined(Some(found("slowly", ended(CRASH))), unborn));
    over(joined(Some(found("unix", ended(CRASH))), record(WorkerState::Ready)));
}

#[test]
fn after_its_last_try_it_is_given_up() {
    let mut often = record(WorkerState::Starting);
    (often.worker.ready_at, often.backoff.in_a_row) = (None, 5);
    let (state, message) = over(joined(Some(found("slowly", ended(CRASH))), often));
    assert!(state == WorkerState::Failed && message.ends_with("it was given up after 5 restarts in a row"), "{message}");
}

#[test]
fn who_fell_before_waits_for_the_rest_of_its_pause_and_no_longer() {
    let all = 20;
    for (due_at, rest) in [("2026-01-01T01:00:07Z", 7), ("2026-01-01T00:10:00Z", 0), ("2027-01-01T00:00:00Z", all), ("soon", 0)] {
        let waits = down(joined(Some(found("slowly", ended(CRASH))), fallen(due_at)));
        assert_eq!((waits.next, waits.news), ((2, Duration::from_secs(rest)), News::Old));
        assert_eq!(waits.record, fallen(due_at), "as it was left");
    }
}

#[test]
fn what_stands_in_the_way_is_said() {
    let lost = |left: &[&str]| FoundHow::Lost { why: "w".into(), left: left.iter().map(ToString::to_string).collect() };
    let unknown = |record| WorkerRecord { asked: None, ..record };
    let due = "2026-01-01T01:00:07Z";
    for (there, record, why) in [
        (Some(found("slowly", ended(CRASH))), unknown(record(WorkerState::Ready)), "nobody knows any more how"),
        (Some(found("slowly", ended(CRASH))), unknown(fallen(due)), "nobody knows any more how"),
        (Some(FoundWorker { plan: None, ..found("slowly", ended(CRASH)) }), fallen(due), "nobody knows any more how"),
        (Some(found("slowly", lost(&["/w: 7"]))), record(WorkerState::Ready), "something of it is still there"),
        (Some(found("slowly", lost(&["/w: 7"]))), fallen(due), "something of it is still there"),
        (Some(found("dies", ended(CRASH))), fallen(due), "its policy has it end with its hive"),
        (None, fallen(due), "the launcher's record of it is gone, and nothing of it was found"),
        (None, WorkerRecord { boot_id: "another".into(), ..fallen(due) }, "the machine was started anew meanwhile"),
    ] {
        let (state, message) = over(joined(there, record));
        assert!(state == WorkerState::Failed && message.ends_with(&format!("it is not started again: {why}")), "{message}");
    }
}
