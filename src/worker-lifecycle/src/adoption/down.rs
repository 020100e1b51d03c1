//! Workers whose last life is over and whose policy wants another one: this hive goes on where the one before has ended. Pure.
//!
//! ```text
//!  fell while a hive was there ──► the rest of its pause ──┐
//!  ended while none was there ──► counted as any end is ───┴──► down, with the next start due ──or──► over, with why
//! ```

use std::time::Duration;

use jiff::Timestamp;
use rbee_hive_policy::{OnHiveExit, SandboxPlan};
use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::protocol::FoundHow;

use super::FoundWorker;
use super::join::{Case, Facts, News, Over};
use crate::records::WorkerRecord;
use crate::state::State;
use crate::supervision::{Backoff, Ended, Next, Restarts};
use crate::view::rfc3339;
use crate::{WorkerState, WorkerView};

/// A worker between two lives, as it is to be listed.
#[derive(Debug)]
pub(crate) struct Down {
    pub(crate) record: WorkerRecord,
    /// What its last life was made from.
    pub(crate) plan: Box<SandboxPlan>,
    /// Which new start in a row is due, and in how long.
    pub(crate) next: (u32, Duration),
    /// Whether the end of that life has been told before.
    pub(crate) news: News,
}

impl Facts<'_> {
    /// Its last life had ended before its hive did.
    pub(super) fn goes_on_waiting(&self, record: WorkerRecord, found: FoundWorker) -> Case {
        let FoundWorker { plan, how, .. } = found;
        match obstacle((&record, plan.as_deref()), left_of(&how)).map_or_else(|| plan.ok_or(NOBODY_KNOWS), Err) {
            Ok(plan) => {
                let number = record.backoff.in_a_row;
                let pause = Duration::from_millis(plan.restart.pause_ms(number));
                let next = (number, self.rest_of(pause, record.backoff.due_at.as_deref()));
                Case::Down(Box::new(Down { record, plan, next, news: News::Old }))
            }
            Err(why) => Case::Over(Box::new(self.not_again(record, why))),
        }
    }

    /// A start was due, and there is none: the worker is over with its last verdict.
    pub(super) fn not_again(&self, mut record: WorkerRecord, why: &str) -> Over {
        record.give_up(why);
        Over { record, news: News::Ended }
    }

    /// One that has ended while no hive was there: what its policy says of that.
    pub(super) fn or_again(&self, over: Over, (plan, how): (Option<Box<SandboxPlan>>, &FoundHow)) -> Case {
        let (Some(verdict), Some(plan)) = (over.record.worker.verdict.clone().map(|v| v.verdict), plan) else {
            return Case::Over(Box::new(over));
        };
        if over.news == News::Old {
            return Case::Over(Box::new(over));
        }
        let Over { mut record, news } = over;
        let mut restarts = Restarts::counted(record.backoff.in_a_row);
        let next = match restarts.after(ended(&record, &verdict), plan.restart, plan.liveness.as_ref()) {
            Next::Over => return Case::Over(Box::new(Over { record, news })),
            Next::GivenUp { restarts } => {
                record.worker.state = WorkerState::Failed;
                remark(&mut record.worker, &format!("it was given up after {restarts} restarts in a row"));
                return Case::Over(Box::new(Over { record, news }));
            }
            Next::Again { number, pause } => (number, pause),
        };
        if let Some(why) = obstacle((&record, Some(&plan)), left_of(how)) {
            remark(&mut record.worker, &format!("it is not started again: {why}"));
            return Case::Over(Box::new(Over { record, news }));
        }
        Case::Down(Box::new(self.falls(record, plan, (next, news))))
    }

    /// As it would have been shown when it fell.
    fn falls(&self, mut record: WorkerRecord, plan: Box<SandboxPlan>, (next, news): ((u32, Duration), News)) -> Down {
        let view = &mut record.worker;
        let ended_at = view.ended_at.take();
        view.state = WorkerState::Restarting;
        (view.init_pid, view.cgroup.path, view.verified) = (None, None, None);
        view.drift.clear();
        // The pause began when it ended, where somebody has written that down.
        let (number, pause) = next;
        let began = ended_at.and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or(self.now);
        let due_at = began.checked_add(pause).ok().map(rfc3339);
        let rest = self.rest_of(pause, due_at.as_deref());
        (record.backoff, record.stopping) = (Backoff { in_a_row: number, due_at }, None);
        Down { record, plan, next: (number, rest), news }
    }

    /// What is left of a pause that ends then; never more than all of it, whatever has become of the clock.
    fn rest_of(&self, pause: Duration, ends_at: Option<&str>) -> Duration {
        let at = ends_at.and_then(|at| at.parse::<Timestamp>().ok());
        at.and_then(|at| Duration::try_from(self.now.duration_until(at)).ok()).unwrap_or_default().min(pause)
    }
}

impl WorkerRecord {
    /// Of one that is down: it stays so.
    pub(crate) fn give_up(&mut self, why: &str) {
        let view = &mut self.worker;
        view.state = view.verdict.as_ref().map_or(WorkerState::Failed, |v| State::Ended { verdict: v.verdict.clone() }.shown());
        view.generation += 1;
        view.ended_at = self.lives.last().map(|life| life.ended_at.clone());
        remark(view, &format!("it is not started again: {why}"));
        self.backoff.due_at = None;
    }
}

const NOBODY_KNOWS: &str = "nobody knows any more how";

/// What stands in the way of another life.
fn obstacle((record, plan): (&WorkerRecord, Option<&SandboxPlan>), left: &[String]) -> Option<&'static str> {
    match plan {
        Some(plan) if record.asked.is_some() => match (plan.on_hive_exit, left.is_empty()) {
            (OnHiveExit::Kill, _) => Some("its policy has it end with its hive"),
            (OnHiveExit::Keep, false) => Some("something of it is still there"),
            (OnHiveExit::Keep, true) => None,
        },
        _ => Some(NOBODY_KNOWS),
    }
}

fn left_of(how: &FoundHow) -> &[String] {
    match how {
        FoundHow::Lost { left, .. } => left,
        _ => &[],
    }
}

fn ended<'a>(record: &WorkerRecord, verdict: &'a Verdict) -> Ended<'a> {
    let view = &record.worker;
    let at = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let was_ready = at(&view.ready_at).zip(at(&view.ended_at)).and_then(|(from, to)| Duration::try_from(from.duration_until(to)).ok());
    Ended { verdict, asked: record.stopping, has_run: view.started_at.is_some() || view.restarts > 0, was_ready }
}

fn remark(view: &mut WorkerView, text: &str) {
    if let Some(verdict) = &mut view.verdict {
        verdict.message = format!("{}; {text}", verdict.message);
    }
}
