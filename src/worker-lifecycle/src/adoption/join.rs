//! What was found, and what was written down, about one and the same worker. Pure, but for the time of an end, which is asked for.

use std::collections::BTreeMap;

use rbee_hive_policy::{MpsPlan, SandboxPlan, WorkerId};
use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::cgroup::unmeasured;
use rbee_hive_sandbox::protocol::{CgroupFacts, FoundHow, Resources};
use tokio::sync::oneshot;

use super::FoundWorker;
use super::down::Down;
use crate::explanation::LifeView;
use crate::launcher::Released;
use crate::records::WorkerRecord;
use crate::state::State;
use crate::task::{Ever, as_told, said};
use crate::view::{now, rfc3339};
use crate::{CgroupView, WorkerState, WorkerView};

/// One worker of before.
#[derive(Debug)]
pub(crate) enum Case {
    /// It lives.
    Living(Box<Living>),
    /// It is over.
    Over(Box<Over>),
    /// Its last life is over, and it is to be started again.
    Down(Box<Down>),
    /// It was deleted, but its directories are still there.
    Deleted(WorkerId),
    /// An MPS daemon, which ends with its hive; where it lives, what tells of its end.
    Daemon(WorkerId, Option<oneshot::Receiver<Released>>),
}

/// A worker that lives.
#[derive(Debug)]
pub(crate) struct Living {
    pub(crate) found: FoundWorker,
    pub(crate) released: oneshot::Receiver<Released>,
    pub(crate) plan: Box<SandboxPlan>,
    /// `None` where it is lost, or another's of that name.
    pub(crate) record: Option<WorkerRecord>,
}

/// A worker that is over, as it is to be listed.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) record: WorkerRecord,
    pub(crate) news: News,
}

/// Whether that it is over has been told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It has.
    Old,
    /// It ended while no hive was there, and its init has said how.
    Ended,
    /// Nobody can say how it ended.
    Lost,
}

/// What is the same for all.
pub(crate) struct Facts<'a> {
    pub(crate) boot_id: &'a str,
    pub(crate) cgroup: &'a CgroupFacts,
    pub(crate) now: jiff::Timestamp,
    /// When a worker has ended, RFC 3339, where that was written down.
    pub(crate) ended_at: &'a dyn Fn(&WorkerId) -> Option<String>,
}

type Found = (FoundWorker, Option<oneshot::Receiver<Released>>);

/// Every worker of before, once.
pub(crate) fn join(found: Vec<Found>, (listed, deleted): (Vec<WorkerRecord>, &[WorkerRecord]), facts: &Facts<'_>) -> Vec<Case> {
    let mut records: BTreeMap<String, WorkerRecord> = listed.into_iter().map(|r| (r.worker.worker_id.clone(), r)).collect();
    let mut cases: Vec<Case> = Vec::new();
    for (found, released) in found {
        let record = records.remove(found.worker_id.as_str()).filter(|record| record.is_of(&found, facts));
        cases.push(facts.case((found, released), record, deleted));
    }
    // Who is written down and was not found.
    cases.extend(records.into_values().map(|record| Case::Over(Box::new(facts.not_found(record)))));
    cases
}

impl WorkerRecord {
    /// Whether it is about the worker that was found, and not about one that had its name before.
    fn is_of(&self, found: &FoundWorker, facts: &Facts<'_>) -> bool {
        let one_init = self.worker.init_pid.zip(found.init_pid).is_none_or(|(written, there)| written == there);
        self.boot_id == facts.boot_id && one_init
    }
}

impl Facts<'_> {
    fn case(&self, (found, released): Found, record: Option<WorkerRecord>, deleted: &[WorkerRecord]) -> Case {
        if matches!(found.plan.as_deref(), Some(SandboxPlan { mps: Some(MpsPlan::Server), .. })) {
            return Case::Daemon(found.worker_id, released);
        }
        if let (FoundHow::Living, Some(released), Some(plan)) = (&found.how, released, found.plan.clone()) {
            return Case::Living(Box::new(Living { found, released, plan, record }));
        }
        let same =
            |d: &WorkerRecord| d.worker.worker_id == found.worker_id.as_str() && d.is_of(&found, self) && d.worker.init_pid.is_some();
        if record.is_none() && deleted.iter().any(same) {
            return Case::Deleted(found.worker_id);
        }
        let (plan, how) = (found.plan.clone(), found.how.clone());
        match record {
            Some(record) if record.worker.state == WorkerState::Restarting => self.goes_on_waiting(record, found),
            record => self.or_again(self.over(found, record), (plan, &how)),
        }
    }

    fn over(&self, found: FoundWorker, record: Option<WorkerRecord>) -> Over {
        let ended_at = (self.ended_at)(&found.worker_id);
        let record = record.unwrap_or_else(|| self.bare(&found));
        if record.worker.has_ended() {
            return Over { record, news: News::Old };
        }
        match found.how {
            FoundHow::Ended { verdict: Some(verdict), resources } => {
                let ever = if record.worker.ready_at.is_some() { Ever::Ready } else { Ever::NotReady };
                // What the probes saw last went with who had sent them.
                let verdict = as_told(verdict, ever, None);
                self.ended(record, (verdict, ended_at, resources.map(|r| *r)), (vec![], News::Ended))
            }
            FoundHow::Ended { verdict: None, .. } => {
                let why = "it ended while no hive was there, and its init has not written how".to_owned();
                self.ended(record, (Verdict::Lost { why }, None, None), (vec![], News::Lost))
            }
            FoundHow::Lost { why, left } => self.ended(record, (Verdict::Lost { why }, None, None), (left, News::Lost)),
            FoundHow::Living => {
                let why = "it lives, but the launcher does not say what it was made from".to_owned();
                self.ended(record, (Verdict::Lost { why }, None, None), (vec![], News::Lost))
            }
        }
    }

    /// A worker that only the hive before knows of.
    fn not_found(&self, record: WorkerRecord) -> Over {
        if record.worker.has_ended() {
            return Over { record, news: News::Old };
        }
        let why = if record.boot_id != self.boot_id {
            "the machine was started anew meanwhile"
        } else if record.worker.init_pid.is_none() && record.worker.state != WorkerState::Restarting {
            "its hive ended while it was being started, and nothing of it runs"
        } else {
            "the launcher's record of it is gone, and nothing of it was found"
        };
        if record.worker.state == WorkerState::Restarting {
            // How its last life ended is known.
            return self.not_again(record, why);
        }
        self.ended(record, (Verdict::Lost { why: why.into() }, None, None), (vec![], News::Lost))
    }

    fn ended(
        &self,
        mut record: WorkerRecord,
        (verdict, ended_at, resources): (Verdict, Option<String>, Option<Resources>),
        (left, news): (Vec<String>, News),
    ) -> Over {
        let view = &mut record.worker;
        view.state = State::Ended { verdict: verdict.clone() }.shown();
        view.generation += 1;
        view.pid = None;
        view.ended_at = ended_at;
        view.resources = resources.unwrap_or_default();
        view.unmeasured = unmeasured(&view.resources, self.cgroup);
        view.drift.extend(left);
        view.verdict = Some(said(verdict.clone()));
        record.frozen_by = None;
        record.lives.push(LifeView {
            started_at: view.started_at.clone(),
            ready_at: view.ready_at.clone(),
            ended_at: view.ended_at.clone().unwrap_or_else(|| rfc3339(self.now)),
            verdict: said(verdict),
        });
        Over { record, news }
    }

    /// What there is to say of a worker without a record of the hive's: nobody knows who had asked for it, and when.
    fn bare(&self, found: &FoundWorker) -> WorkerRecord {
        WorkerRecord::bare(bare_view(found, self.cgroup), self.boot_id)
    }
}

/// A worker as its plan has it.
pub(crate) fn bare_view(found: &FoundWorker, cgroup: &CgroupFacts) -> WorkerView {
    let plan = found.plan.as_deref();
    WorkerView {
        worker_id: found.worker_id.to_string(),
        model: String::new(),
        devices: plan.map(|p| p.leased.clone()).unwrap_or_default(),
        policy: plan.map(|p| p.policy.clone()).unwrap_or_default(),
        labels: BTreeMap::new(),
        state: WorkerState::Starting,
        generation: 1,
        restarts: 0,
        pid: None,
        init_pid: found.init_pid,
        port: plan.and_then(|p| p.port),
        endpoint: plan.and_then(|p| p.port).map(|p| format!("http://127.0.0.1:{p}")),
        // Since when this hive knows of it: nothing else is known.
        created_at: now(),
        started_at: None,
        ready_at: None,
        ended_at: None,
        cgroup: CgroupView { mode: cgroup.mode, path: found.cgroup.clone() },
        limits: plan.map(|p| p.limits.iter().map(|(key, limit)| (*key, limit.value.clone())).collect()).unwrap_or_default(),
        not_in_force: found.not_in_force.clone(),
        drift: vec![],
        verified: None,
        gpu_memory: None,
        resources: Resources::default(),
        unmeasured: unmeasured(&Resources::default(), cgroup),
        verdict: None,
        status_text: None,
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::StoppedBy;
    use rbee_hive_sandbox::protocol::CgroupMode;

    use super::*;
    use crate::tests::hive::id;
    use crate::tests::plans;

    const BOOT: &str = "this run";

    fn record(name: &str) -> WorkerRecord {
        WorkerRecord::bare(plans::view(name), BOOT)
    }

    fn found(name: &str, how: FoundHow) -> FoundWorker {
        FoundWorker {
            worker_id: id(name),
            plan: Some(Box::new(plans::named(name, "bare"))),
            cgroup: None,
            init_pid: Some(6),
            not_in_force: vec![],
            policy_digest: None,
            how,
            init: None,
            released: None,
        }
    }

    fn ended(verdict: Option<Verdict>) -> FoundHow {
        FoundHow::Ended { verdict, resources: None }
    }

    /// What becomes of one worker.
    fn joined(there: Option<FoundHow>, listed: Option<WorkerRecord>, deleted: &[WorkerRecord]) -> Case {
        let cgroup = CgroupFacts { mode: CgroupMode::None, root: "/".into(), mounts: BTreeMap::new(), notes: vec![] };
        let ended_at = |_: &WorkerId| Some("then".to_owned());
        let facts = Facts { boot_id: BOOT, cgroup: &cgroup, now: jiff::Timestamp::now(), ended_at: &ended_at };
        let found = there.map(|how| {
            let released = (how == FoundHow::Living).then(|| oneshot::channel().1);
            (found("w", how), released)
        });
        let mut cases = join(found.into_iter().collect(), (listed.into_iter().collect(), deleted), &facts);
        assert_eq!(cases.len(), 1, "{cases:?}");
        cases.remove(0)
    }

    fn over(case: Case) -> (Over, Verdict) {
        let Case::Over(over) = case else { panic!("{case:?}") };
        let verdict = over.record.worker.verdict.clone().map(|v| v.verdict).expect("a verdict");
        (*over, verdict)
    }

    fn why(case: Case) -> String {
        let (over, verdict) = over(case);
        let Verdict::Lost { why } = verdict else { panic!("{verdict:?}") };
        assert_eq!((over.news, over.record.worker.state, over.record.worker.pid), (News::Lost, WorkerState::Failed, None));
        assert_eq!(over.record.worker.ended_at, None, "nobody knows when");
        why
    }

    #[test]
    fn an_end_is_told_as_its_init_wrote_it_once_and_with_its_time() {
        let exited = Verdict::Exited { code: 0 };
        let (first, verdict) = over(joined(Some(ended(Some(exited.clone()))), Some(record("w")), &[]));
        let view = &first.record.worker;
        assert_eq!(
            (first.news, &verdict, view.state, view.ended_at.as_deref()),
            (News::Ended, &exited, WorkerState::Stopped, Some("then"))
        );
        assert_eq!((view.generation, view.restarts, view.labels.len()), (4, 2, 1));
        let (again, verdict) = over(joined(Some(ended(Some(Verdict::Exited { code: 9 }))), Some(first.record.clone()), &[]));
        assert_eq!((again.news, verdict, &again.record), (News::Old, exited, &first.record), "what was told stays told");
        let unready = Verdict::Stopped { by: StoppedBy::Readiness, forced: true, code: None, signal: Some(9) };
        let (_, verdict) = over(joined(Some(ended(Some(unready))), Some(record("w")), &[]));
        assert_eq!(verdict, Verdict::StartTimeout { last_probe: None });
    }

    #[test]
    fn what_nobody_can_say_is_lost_with_why() {
        assert!(why(joined(Some(ended(None)), Some(record("w")), &[])).contains("has not written how"));
        let lost = FoundHow::Lost { why: "its cgroup holds strangers".into(), left: vec!["/x: 7".into()] };
        let (over_, _) = over(joined(Some(lost.clone()), Some(record("w")), &[]));
        assert_eq!(over_.record.worker.drift, ["/x: 7"]);
        assert_eq!(why(joined(Some(lost), None, &[])), "its cgroup holds strangers");
        assert!(why(joined(None, Some(record("w")), &[])).contains("nothing of it was found"));
        let other_boot = WorkerRecord { boot_id: "another run".into(), ..record("w") };
        assert!(why(joined(None, Some(other_boot), &[])).contains("started anew"));
        let mut unborn = record("w");
        unborn.worker.init_pid = None;
        assert!(why(joined(None, Some(unborn), &[])).contains("while it was being started"));
    }

    #[test]
    fn a_record_is_of_the_worker_with_its_init_and_of_this_run_alone() {
        let living = |listed| match joined(Some(FoundHow::Living), listed, &[]) {
            Case::Living(living) => living.record,
            other => panic!("{other:?}"),
        };
        assert_eq!(living(Some(record("w"))), Some(record("w")));
        let mut first = record("w");
        first.worker.init_pid = None;
        assert!(living(Some(first)).is_some(), "it was written before there was one");
        let mut namesake = record("w");
        namesake.worker.init_pid = Some(99);
        assert!(living(Some(namesake)).is_none() && living(Some(WorkerRecord { boot_id: "another run".into(), ..record("w") })).is_none());
    }

    #[test]
    fn what_was_deleted_is_forgotten_and_a_daemon_is_nobodys_worker() {
        let deleted = WorkerRecord { deleted_at: Some("then".into()), ..record("w") };
        let how = || Some(ended(Some(Verdict::Exited { code: 0 })));
        assert!(matches!(joined(how(), None, std::slice::from_ref(&deleted)), Case::Deleted(_)));
        let mut namesake = deleted;
        namesake.worker.init_pid = Some(99);
        assert!(matches!(joined(how(), None, &[namesake]), Case::Over(_)), "another one of its name was");
    }
}
