//! How a worker's end is told, and what is taken back after it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::cgroup::unmeasured;
use rbee_hive_sandbox::protocol::Resources;
use tokio::io::Interest;
use tokio::sync::oneshot;

use super::Worker;
use crate::channel::async_fd;
use crate::launcher::Released;
use crate::state::Event;

/// How long an init may take to exit when there is no launcher that would tell.
const INIT_EXIT: Duration = Duration::from_secs(5);

/// What the init has said of the end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Its verdict; `None` where it went without a word.
    pub(super) verdict: Option<Verdict>,
    /// The last figures.
    pub(super) resources: Resources,
}

impl From<Verdict> for Ending {
    fn from(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), resources: Resources::default() }
    }
}

impl Worker {
    /// The launcher's last word: the init reaped, its cgroups removed. `None` where there is no launcher to say it; the init has exited then,
    /// as far as can be seen.
    pub(super) async fn wait_for_release(&self, released: oneshot::Receiver<Released>, init: OwnedFd) -> Option<Released> {
        if let Ok(released) = released.await {
            return Some(released);
        }
        if let Ok(init) = async_fd(init) {
            // A pidfd is readable once its process has ended.
            let _ = tokio::time::timeout(INIT_EXIT, init.ready(Interest::READABLE)).await;
        }
        None
    }

    /// Gives everything back, then shows the end.
    pub(super) async fn take_back(mut self, ending: Ending, released: Option<Released>) {
        if let Some(forwarder) = self.forwarder.take() {
            forwarder.stop().await;
        }
        drop(self.port.take());
        (self.tools.release)(self.id.clone()).await;
        // Processes that did not die have died since, or their verdict would not be the last word.
        let told = self.view.borrow().verdict.clone().map(|v| v.verdict);
        let verdict = ending.verdict.or(told).unwrap_or_else(|| lost(self.state.process().is_some(), released.as_ref()));
        let left = released
            .map_or_else(|| vec!["the launcher is gone: the worker's cgroup stays until the hive is started again".into()], |r| r.left);
        if !left.is_empty() {
            tracing::warn!(worker = %self.id, ?left, "something of the worker is left behind");
        }
        let unmeasured = unmeasured(&ending.resources, &self.tools.launcher.cgroup);
        self.step(Event::Ended { verdict }, |view| {
            view.resources = ending.resources;
            view.unmeasured = unmeasured;
            view.drift.extend(left);
        });
        // After the end is shown: two dozen descriptors of groups that are gone are closed, which takes the kernel a while.
        self.known.sampled.end(&self.tools.sampler);
        let view = self.view.borrow().clone();
        let sentence = view.verdict.map_or_else(String::new, |v| v.message);
        tracing::info!(worker = %self.id, state = ?view.state, verdict = sentence, "a worker has ended");
    }
}

/// The init's channel ended without a verdict: what is known of the init itself.
fn lost(executed: bool, init: Option<&Released>) -> Verdict {
    let how = match init {
        Some(Released { signal: Some(signal), .. }) => format!("was killed by signal {signal}"),
        Some(Released { code: Some(code), .. }) => format!("exited with status {code}"),
        _ => "ended".to_owned(),
    };
    let why = if executed {
        format!("the sandbox's init {how} without a word; the kernel has ended everything in the sandbox with it")
    } else {
        format!("the sandbox's init {how} without a word before the program was executed")
    };
    Verdict::Lost { why }
}
