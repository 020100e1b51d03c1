//! What inits count by process, for workers whose cgroups do not count what is read and written.
//!
//! An answer costs an init some hundred microseconds and grows with its processes, a cgroup's figures are a few. So a pass asks [`A_PASS`] of
//! them at most, each once a second, none for more than a twentieth of its time, and none whose worker has not run since; the pass does not wait for them: the next one takes what
//! they have answered. Must never know: what becomes of a count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rbee_hive_sandbox::protocol::IoBytes;
use tokio::time::timeout;

use super::{REST, Sampler};
use crate::task::WorkerHandle;

/// How long an init may take to count what its processes have read and written; after that it is not known.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// Most inits that are asked in one pass.
pub(super) const A_PASS: usize = 32;
/// How far apart two questions to one init are at least: less than the second that passes are apart, which none of them keeps to the
/// millisecond.
const APART: Duration = Duration::from_millis(900);

/// Asks one init, and keeps its answer; `None` where it has none.
pub(crate) async fn count(sampler: &Sampler, handle: &WorkerHandle) -> Option<IoBytes> {
    let link = handle.link()?;
    let began = Instant::now();
    let bytes = timeout(PATIENCE, link.io()).await.ok().and_then(Result::ok).flatten();
    handle.known.sampled.keep_io(sampler, (bytes, pause_after(began.elapsed())));
    bytes
}

/// How long an init is left alone after an answer that took it so long. From one question to the next, or else whoever takes his time is
/// asked in every other pass only.
pub(super) fn pause_after(took: Duration) -> Duration {
    took.saturating_mul(REST).max(APART).saturating_sub(took)
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    next: usize,
}

impl Turns {
    /// Those to be asked now, at most [`A_PASS`] of those whose count is due: where there are more, the others come first the next time.
    pub(super) fn take(&mut self, sampler: &Sampler, workers: &[WorkerHandle]) -> Vec<WorkerHandle> {
        let begin = self.next % workers.len().max(1);
        let mut taken = Vec::new();
        for (after, worker) in workers[begin..].iter().chain(&workers[..begin]).enumerate() {
            if taken.len() == A_PASS {
                self.next = begin + after;
                break;
            }
            if worker.known.sampled.lacks_a_count(sampler) {
                taken.push(worker.clone());
            }
        }
        taken
    }

    /// Asks them, each in a task of its own that ends within [`PATIENCE`].
    pub(super) fn ask(&mut self, sampler: &Arc<Sampler>, workers: &[WorkerHandle]) {
        for worker in self.take(sampler, workers) {
            let sampler = Arc::clone(sampler);
            tokio::spawn(async move { count(&sampler, &worker).await });
        }
    }
}
