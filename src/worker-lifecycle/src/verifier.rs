//! One worker's sandbox, read back by three witnesses and compared with its plan.
//!
//! ```text
//!  hive: /proc, cgroup files ──►┐
//!  init: namespaces, descriptors►│ compare (pure) ──► what differs in two looks in a row
//!  launcher: device program ────►┘
//! ```
//! Must never know: what follows from a drift.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::protocol::{FromLauncher, ProgramSeen, ToLauncher};
use rbee_hive_sandbox::verify::{Expected, Findings, Seen, compare, look, settle};
use tokio::sync::RwLock;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::init_link::InitLink;
use crate::launcher::LauncherClient;
use crate::task::InForce;

/// How long the launcher may take to answer; it may be busy with a slow start.
const LAUNCHER: Duration = Duration::from_secs(5);

/// What a look came to.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) findings: Findings,
    pub(crate) took: Duration,
}

/// Looks at one worker.
pub(crate) struct Verifier {
    pub(crate) id: WorkerId,
    pub(crate) expected: Arc<Expected>,
    /// The worker's own process.
    pub(crate) pid: i32,
    pub(crate) start_ticks: Option<u64>,
    pub(crate) link: Arc<InitLink>,
    pub(crate) launcher: LauncherClient,
    /// Limits as the last update has left them.
    pub(crate) in_force: Arc<RwLock<Option<InForce>>>,
}

impl Verifier {
    /// Looks, and where something differs looks again: what is told was so twice. A process may end, or be born, between two witnesses.
    pub(crate) async fn check(&mut self) -> Checked {
        let in_force = Arc::clone(&self.in_force);
        // Until the look is over, no update begins.
        let now = in_force.read().await;
        if let Some(now) = &*now {
            self.expect(now);
        }
        let began = Instant::now();
        let mut findings = self.look().await;
        if !findings.drift.is_empty() {
            let again = self.look().await;
            findings.drift.retain(|d| again.drift.contains(d));
            findings.unseen = again.unseen;
        }
        Checked { findings, took: began.elapsed() }
    }

    fn expect(&mut self, now: &InForce) {
        if self.expected.plan.limits != now.limits || self.expected.plan.not_in_force != now.among(&self.expected.plan.not_in_force) {
            let plan = &mut Arc::make_mut(&mut self.expected).plan;
            plan.limits.clone_from(&now.limits);
            plan.not_in_force = now.among(&plan.not_in_force);
        }
    }

    async fn look(&mut self) -> Findings {
        self.learn_how_it_was_made().await;
        let (expected, pid, ticks) = (Arc::clone(&self.expected), self.pid, self.start_ticks);
        // In this order: whoever the hive has seen and the init has not must have ended, or is a stranger.
        let Ok(mut outside) = spawn_blocking(move || look(&expected, pid, ticks)).await else { return not_looked() };
        if outside.main.is_none() {
            return Findings { drift: vec![], unseen: outside.unseen };
        }
        let inside = self.link.inspect().await.ok();
        let program = self.program().await;
        let expected = Arc::clone(&self.expected);
        let judged = spawn_blocking(move || {
            if let Some(inside) = &inside {
                settle(&mut outside, inside);
            }
            compare(&expected, Seen { outside: &outside, inside: inside.as_ref(), program: program.as_ref() })
        });
        judged.await.unwrap_or_else(|_| not_looked())
    }

    async fn learn_how_it_was_made(&mut self) {
        if self.expected.made.is_none()
            && let Ok(made) = self.link.made().await
        {
            Arc::make_mut(&mut self.expected).made = Some(made);
        }
    }

    async fn program(&self) -> Option<ProgramSeen> {
        if self.expected.leaf.is_none() || !self.expected.cgroup.mounts.contains_key("unified") {
            return Some(ProgramSeen::default());
        }
        let worker_id = self.id.clone();
        match timeout(LAUNCHER, self.launcher.ask(|seq| ToLauncher::Inspect { seq, worker_id }, &[])).await {
            Ok(Ok((FromLauncher::Inspected { program, .. }, _))) => Some(program),
            _ => None,
        }
    }
}

fn not_looked() -> Findings {
    Findings { drift: vec![], unseen: vec!["everything: the look was cut off".into()] }
}
