//! Building an event.
//!
//! Owns the order of the steps: fill, redact, escape, cut. Must never know who reads the event.

use std::fmt::Display;

use crate::event::Event;
use crate::{one_line, redaction, template};

/// An event in the making.
///
/// ```
/// use rbee_hive_narration::Narration;
/// let event = Narration::new("worker-lc", "spawn_start").job(Some("job-1")).context("w-1").context("GPU-0").human("Starting {} on {}");
/// assert_eq!(event.line(), "[worker-lc ] spawn_start    : Starting w-1 on GPU-0");
/// ```
#[derive(Clone, Debug)]
#[must_use = "narration says nothing before `human`"]
pub struct Narration {
    actor: &'static str,
    action: &'static str,
    job: Option<String>,
    contexts: Vec<String>,
}

impl Narration {
    /// Begins an event: who acts, and what is done. Both are names in the code, never text from outside.
    pub fn new(actor: &'static str, action: &'static str) -> Self {
        Self { actor, action, job: None, contexts: Vec::new() }
    }

    /// The job this belongs to. `None` leaves the event to the log alone.
    pub fn job(mut self, job_id: Option<&str>) -> Self {
        self.job = job_id.map(str::to_owned);
        self
    }

    /// Adds the text for the next `{}`.
    pub fn context(mut self, text: impl Display) -> Self {
        self.contexts.push(text.to_string());
        self
    }

    /// Ends the event with its text. Each `{}` stands for the next context; one without a context stays, and inserted text is
    /// never expanded again. Secrets become [`REDACTED`](crate::REDACTED), control characters are escaped.
    #[must_use = "an event is told with `Narrator::tell`"]
    pub fn human(self, template: &str) -> Event {
        let filled = template::fill(template, &self.contexts);
        // The filled text, not each context: `api_key={}` is only seen as a key when whole. Before escaping, since a private
        // key spans lines; before cutting, since half a secret matches no rule.
        let human = one_line::cut(one_line::escaped(&redaction::redact(&filled)).into_owned(), one_line::MAX_TEXT_BYTES);
        Event { actor: self.actor, action: self.action, job: self.job, human }
    }
}

#[cfg(test)]
mod tests {
    use super::Narration;
    use crate::one_line::MAX_TEXT_BYTES;
    use proptest::prelude::*;

    #[test]
    fn the_line_pads_actor_to_ten_and_action_to_fifteen() {
        let event = Narration::new("hive", "init").human("ready");
        assert_eq!(event.line(), "[hive      ] init           : ready");
    }

    #[test]
    fn long_names_are_not_cut() {
        let event = Narration::new("worker-lifecycle", "worker_registry_init").human("0 workers");
        assert_eq!(event.line(), "[worker-lifecycle] worker_registry_init: 0 workers");
    }

    #[test]
    fn the_job_id_is_kept_apart_from_the_line() {
        let event = Narration::new("a", "b").job(Some("job-7")).human("c");
        assert_eq!(event.job_id(), Some("job-7"));
        assert!(!event.line().contains("job-7"));
        assert_eq!(Narration::new("a", "b").job(None).human("c").job_id(), None);
    }

    #[test]
    fn a_secret_is_seen_across_template_and_context() {
        let event = Narration::new("a", "b").context("hunter2").human("api_key={}");
        assert_eq!(event.human(), "api_key=[REDACTED]");
    }

    #[test]
    fn a_private_key_over_many_lines_leaves_nothing_behind() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\nIBADAN\n-----END PRIVATE KEY-----";
        assert_eq!(Narration::new("a", "b").context(key).human("key {} read").human(), "key [REDACTED] read");
    }

    #[test]
    fn a_secret_at_the_cut_is_redacted_before_the_cut() {
        let token = "s3cr3t".repeat(40);
        let event = Narration::new("a", "b").context("x".repeat(MAX_TEXT_BYTES - 30)).context(token).human("{} Bearer {}");
        assert!(!event.human().contains("s3cr3t"));
    }

    proptest! {
        #[test]
        fn one_event_is_one_bounded_line(template in any::<String>(), context in any::<String>()) {
            let event = Narration::new("a", "b").context(context).human(&template);
            let line = event.line();
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert!(event.human().len() <= MAX_TEXT_BYTES);
        }
    }
}
