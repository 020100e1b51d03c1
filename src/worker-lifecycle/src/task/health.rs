//! Whether a worker that is ready goes on answering, and what follows where it does not.

use std::sync::Arc;

use rbee_hive_sandbox::StoppedBy;

use super::Worker;
use crate::state::{Event, State};
use crate::supervision::{Asking, Finding, Liveness};

impl Worker {
    /// It is asked as long as it is to answer: what is starting, stands still, wakes up or ends is not.
    pub(super) fn keep_asking(&self, liveness: &mut Option<Liveness>) {
        let answers = matches!(self.state, State::Ready { .. } | State::Unhealthy { .. });
        match (answers, &self.plan.liveness) {
            (true, Some(plan)) if liveness.is_none() => {
                let (plan, dialer, pings) = (plan.clone(), Arc::clone(&self.dialer), self.pings.subscribe());
                *liveness = Some(Liveness::start(Asking { plan, dialer, pings }));
            }
            (true, _) => {}
            (false, _) => *liveness = None,
        }
    }

    pub(super) async fn found(&mut self, finding: Finding) {
        match finding {
            Finding::Unhealthy { last_probe } => {
                tracing::warn!(worker = %self.id, last_probe, "a worker is unhealthy");
                self.story.tell("unhealthy", "{} is unhealthy: {}", &[&self.id, &last_probe]);
                self.last_probe = Some(last_probe);
                self.step(Event::Failing, |_| {});
            }
            Finding::Recovered => {
                self.story.tell("recovered", "{} answers again", &[&self.id]);
                self.last_probe = None;
                self.step(Event::Answered, |_| {});
            }
            Finding::TooLong { last_probe } => {
                self.last_probe = Some(last_probe);
                self.ask_to_stop(StoppedBy::Readiness, None).await;
            }
        }
    }
}
