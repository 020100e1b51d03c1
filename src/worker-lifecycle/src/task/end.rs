//! How a worker's end is told, and what is taken back after it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::cgroup::{Unmeasured, unmeasured};
use rbee_hive_sandbox::protocol::Resources;
use rustix::process::{WaitId, WaitIdOptions, waitid};
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
    /// Where it goes on.
    pub(super) where_it_is: Whereabouts,
}

/// Whether a worker is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// It is.
    #[default]
    Over,
    /// It goes on with another hive.
    Elsewhere,
}

impl Ending {
    /// Another hive has come to its init: for this one it is over.
    pub(super) fn elsewhere() -> Self {
        let why = "another hive has taken it over, and it goes on there".to_owned();
        Self { verdict: Some(Verdict::Lost { why }), where_it_is: Whereabouts::Elsewhere, ..Self::default() }
    }
}

impl From<Verdict> for Ending {
    fn from(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), ..Self::default() }
    }
}

impl Worker {
    /// The launcher's last word: the init reaped, its cgroups removed. `None` where there is no launcher to say it; the init has exited then,
    /// as far as can be seen.
    pub(super) async fn wait_for_release(&self, ending: &Ending, released: oneshot::Receiver<Released>, init: OwnedFd) -> Option<Released> {
        if ending.where_it_is == Whereabouts::Elsewhere {
            return Some(Released { code: None, signal: None, left: vec![] });
        }
        if let Ok(released) = released.await {
            return Some(released);
        }
        let init = async_fd(init).ok()?;
        // A pidfd is readable once its process has ended.
        let ended = tokio::time::timeout(INIT_EXIT, init.ready(Interest::READABLE)).await.is_ok_and(|ready| ready.is_ok());
        ended.then(|| reap(init.get_ref().as_fd()))
    }

    /// With what the init has written down, where it could say nothing more.
    async fn as_written(&self, ending: Ending) -> Ending {
        let Some(verdicts) = self.tools.verdicts.clone().filter(|_| ending.verdict.is_none()) else { return ending };
        let id = self.id.clone();
        let written = tokio::task::spawn_blocking(move || verdicts.read(&id)).await.ok().flatten();
        match written {
            Some(written) => Ending { verdict: Some(self.explain(written.verdict)), resources: written.resources, ..ending },
            None => ending,
        }
    }

    /// What an end is, with all that is known of it.
    pub(super) async fn end_of(&self, ending: Ending, released: Option<Released>) -> End {
        // Processes that did not die have died since, or their verdict would not be the last word.
        let told = self.view.borrow().verdict.clone().map(|v| v.verdict);
        let ending = self.as_written(ending).await;
        let verdict = ending.verdict.or(told).unwrap_or_else(|| lost(self.state.process().is_some(), released.as_ref()));
        let left = released.map_or_else(|| vec![LAUNCHER_GONE.into()], |r| r.left);
        if !left.is_empty() {
            tracing::warn!(worker = %self.id, ?left, "something of the worker is left behind");
        }
        End { resources: ending.resources, left, ..End::of(verdict) }
    }

    pub(super) fn unmeasured(&self, end: &End) -> Vec<Unmeasured> {
        unmeasured(&end.resources, &self.tools.launcher.cgroup)
    }

    /// Gives everything back, then shows the end.
    pub(super) async fn take_back(mut self, end: End) {
        if let Some(forwarder) = self.forwarder.take() {
            forwarder.stop().await;
        }
        drop(self.port.take());
        (self.tools.release)(self.id.clone()).await;
        let unmeasured = self.unmeasured(&end);
        let End { verdict, resources, left, remark, fate } = end;
        let event = match fate {
            Fate::AsItIs => Event::Ended { verdict },
            Fate::GivenUp => Event::GaveUp { verdict },
        };
        self.step(event, |view| {
            view.resources = resources;
            view.unmeasured = unmeasured;
            view.drift.extend(left);
            if let (Some(verdict), Some(remark)) = (&mut view.verdict, remark) {
                verdict.message = format!("{}; {remark}", verdict.message);
            }
        });
        // After the end is shown: two dozen descriptors of groups that are gone are closed, which takes the kernel a while.
        self.known.sampled.end(&self.tools.sampler);
        let view = self.view.borrow().clone();
        let sentence = view.verdict.map_or_else(String::new, |v| v.message);
        tracing::info!(worker = %self.id, state = ?view.state, verdict = sentence, "a worker has ended");
    }
}

/// How a life has ended, or the worker.
#[derive(Debug)]
pub(super) struct End {
    pub(super) verdict: Verdict,
    pub(super) resources: Resources,
    /// What could not be removed.
    pub(super) left: Vec<String>,
    /// What is to be said beside the verdict.
    pub(super) remark: Option<String>,
    pub(super) fate: Fate,
}

/// What the end is told as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// What its verdict says.
    AsItIs,
    /// A failure: it should have been started again.
    GivenUp,
}

impl End {
    pub(super) fn of(verdict: Verdict) -> Self {
        Self { verdict, resources: Resources::default(), left: vec![], remark: None, fate: Fate::AsItIs }
    }

    pub(super) fn remark(self, text: &str) -> Self {
        Self { remark: Some(text.to_owned()), ..self }
    }

    pub(super) fn given_up(self, why: &str) -> Self {
        Self { fate: Fate::GivenUp, ..self.remark(why) }
    }
}

/// What stays where nobody is there to take it back.
const LAUNCHER_GONE: &str = "the launcher is gone: the worker's cgroup stays until the hive is started again";

/// The status of an init that has ended without its launcher. It is this process's child by then; that of a hive before is somebody else's, who
/// has its status.
fn reap(init: BorrowedFd<'_>) -> Released {
    let status = waitid(WaitId::PidFd(init), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok().flatten();
    let (code, signal) = status.map_or((None, None), |status| (status.exit_status(), status.terminating_signal()));
    Released { code, signal, left: vec![LAUNCHER_GONE.into()] }
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
