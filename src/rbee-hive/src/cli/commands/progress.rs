//! The line that moves while a worker starts.
//!
//! The spawn is split in two for it: `worker_spawn` until started, which tells the worker's id, then `worker_wait`. What ends
//! the wait is that answer alone; the line beside it only looks.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbee_hive_api::{Client, SpawnParams, SpawnWait};
use serde_json::{Value, json};

use super::read;
use super::spawn::to_value;
use crate::cli::error::CliError;
use crate::cli::output::{shorten, span};

/// How often the line looks: fast enough to seem alive, slow enough to cost the hive nothing.
const LOOK: Duration = Duration::from_millis(250);
/// Widest log line shown.
const LOG_WIDTH: usize = 60;

/// A line at the bottom of the terminal; gone when dropped.
pub(super) struct Line {
    bar: ProgressBar,
    start: Instant,
}

impl Line {
    /// On standard error, where that is a terminal.
    pub(super) fn on_terminal() -> Option<Self> {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The template is fixed; should it be wrong, the default one shows the same message.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        (!bar.is_hidden()).then(|| Self { bar, start: Instant::now() })
    }

    fn show(&self, state: &str, log: Option<&str>) {
        self.bar.set_message(message(state, self.start.elapsed(), log));
        self.bar.tick();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `w1 starting, 12 s  loading model …`
fn message(state: &str, elapsed: Duration, log: Option<&str>) -> String {
    let log = log.map(|text| format!("  {}", shorten(text.trim(), LOG_WIDTH))).unwrap_or_default();
    format!("{}, {}{log}", shorten(state, 80), span(elapsed.as_secs()))
}

/// Starts a worker and shows how far it is; the answer is that of a spawn that waits until ready.
pub(super) async fn spawn_and_watch(client: &Client, params: SpawnParams, line: &Line) -> Result<Value, CliError> {
    let params = to_value(&SpawnParams { wait: Some(SpawnWait::Started), ..params })?;
    let started = tokio::select! {
        started = client.call("worker_spawn", params) => started?,
        never = count(line) => match never {},
    };
    let id: String = read("worker_spawn", started.get("worker_id").cloned().unwrap_or_default())?;
    tokio::select! {
        ready = client.call("worker_wait", json!({"worker_id": id, "for": "ready"})) => Ok(ready?),
        never = watch(client, &id, line) => match never {},
    }
}

/// Nothing to look at yet: only the time.
async fn count(line: &Line) -> std::convert::Infallible {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        line.show("asking the hive", None);
    }
}

/// Shows state and last log line until it is dropped. What can't be had is not shown: the wait tells what went wrong.
async fn watch(client: &Client, id: &str, line: &Line) -> std::convert::Infallible {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let state = client.worker_status(id).await.map_or_else(|_| "starting".to_owned(), |worker| worker.state);
        let log = client.worker_logs(id, Some(1), None).await.ok().and_then(|page| page.lines.into_iter().next_back());
        line.show(&format!("{id} {state}"), log.as_ref().map(|l| l.text.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::fake_hive::hive;

    fn hidden() -> Line {
        Line { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), start: Instant::now() }
    }

    #[tokio::test]
    async fn a_watched_spawn_gives_the_answer_of_the_wait() {
        let hive = hive();
        let params = SpawnParams { model: "m".into(), wait: Some(SpawnWait::Ready), ..SpawnParams::default() };
        let answer = spawn_and_watch(&hive.client(), params, &hidden()).await.unwrap();
        assert_eq!(answer["state"], "ready");
        let asked = hive.asked.lock().unwrap();
        assert_eq!(asked[0], ("worker_spawn".to_owned(), json!({"model": "m", "wait": "started"})));
        assert!(asked.contains(&("worker_wait".to_owned(), json!({"worker_id": "w1", "for": "ready"}))));
    }

    #[tokio::test]
    async fn a_refused_spawn_is_not_waited_for() {
        let hive = hive();
        let params = SpawnParams { model: "m".into(), worker_id: Some("absent".into()), ..SpawnParams::default() };
        let error = spawn_and_watch(&hive.client(), params, &hidden()).await.unwrap_err();
        assert_eq!(error.status(), 1);
        assert_eq!(hive.asked.lock().unwrap().iter().filter(|(method, _)| method == "worker_wait").count(), 0);
    }

    #[test]
    fn the_line_tells_state_time_and_last_words() {
        assert_eq!(
            message("w1 starting", Duration::from_secs(75), Some(" loading \u{1b}[2J")),
            "w1 starting, 1 min 15 s  loading \u{fffd}[2J"
        );
        assert_eq!(message("w1 starting", Duration::from_secs(2), None), "w1 starting, 2 s");
    }
}
