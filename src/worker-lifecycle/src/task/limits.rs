//! Other limits of a running worker, shown.

use rbee_hive_policy::{LimitKey, NotInForce};
use rbee_hive_sandbox::protocol::ToInit;
use serde_json::json;
use tokio::sync::oneshot;

use super::{InForce, Worker};
use crate::{About, EventKind};

impl Worker {
    /// Its init watches how near it comes to them.
    pub(super) async fn tell_init_of_limits(&self) {
        if let Err(error) = self.link.send(&ToInit::Limits).await {
            tracing::warn!(worker = %self.id, %error, "its init can't be told of its new limits: what is told of pressure is of the old ones");
        }
    }

    /// Shows that a setting is in force no more.
    pub(super) fn show_not_in_force(&mut self, note: NotInForce) {
        self.view.send_modify(|view| {
            view.generation += 1;
            view.not_in_force.retain(|known| known.setting != note.setting);
            view.not_in_force.push(note);
        });
    }

    /// Shows limits that are in force already, and tells of them.
    pub(super) fn show_limits(&mut self, now: InForce, changed: &[LimitKey], shown: oneshot::Sender<()>) {
        self.view.send_modify(|view| {
            view.generation += 1;
            view.limits = now.limits.iter().map(|(key, limit)| (*key, limit.value.clone())).collect();
            view.not_in_force = now.among(&view.not_in_force);
        });
        let (generation, limits) = {
            let view = self.view.borrow();
            (view.generation, view.limits.clone())
        };
        let names: Vec<&str> = changed.iter().map(|key| key.name()).collect();
        self.story.tell("limits", "{} has other limits: {}", &[&self.id, &names.join(", ")]);
        let data = json!({"limits": limits, "changed": names});
        self.tools.events.tell(EventKind::Limits, About::worker(&self.id, generation), data);
        (self.plan.limits, self.plan.not_in_force) = (now.limits, now.not_in_force);
        // Whoever asked may have gone.
        let _ = shown.send(());
    }
}
