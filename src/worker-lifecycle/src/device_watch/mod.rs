//! Looks at the GPUs every few seconds, one look at a time, and carries out what follows.
//!
//! ```text
//!  observe (blocking) ──► whose processes (procfs) ──► rbee_hive_devices::Watch (pure) ──► leases, events, a worker's end
//! ```
//! Must never know how a driver is asked.

mod act;
mod scene;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use rbee_hive_devices::Patience;
use rbee_hive_devices::{Awaited, Observation, Usage, Watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::WorkerRegistry;
use crate::leases::Leases;
use crate::mps::MpsGroups;
use crate::task::{Tools, WorkerHandle};

/// How soon is looked again while somebody's memory is awaited: who waits for the GPU waits for that.
const SOON: Duration = Duration::from_millis(500);

/// Takes one observation. Blocks for a bounded time, also where a driver hangs.
pub type Observe = Arc<dyn Fn() -> Observation + Send + Sync>;

/// How GPUs are watched.
#[derive(Clone)]
pub struct DeviceWatch {
    /// The look.
    pub observe: Observe,
    /// The time between two looks.
    pub interval: Duration,
    /// How long is waited before the worst is concluded.
    pub patience: Patience,
}

impl fmt::Debug for DeviceWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceWatch").field("interval", &self.interval).field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// The watching task's own.
pub(crate) struct Watcher {
    pub(crate) registry: Arc<WorkerRegistry>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) mps: Arc<MpsGroups>,
    pub(crate) tools: Arc<Tools>,
}

/// Leases whose memory is awaited, by GPU and lease, with the time since when that is known.
type AwaitedSince = BTreeMap<u32, BTreeMap<String, Awaited>>;

impl Watcher {
    /// Runs as long as the hive does.
    pub(crate) async fn run(self, options: DeviceWatch) {
        let (began, mut watch, mut awaited) = (Instant::now(), Watch::new(options.patience), AwaitedSince::new());
        loop {
            // Before the look: what ends while it goes on is not yet seen by it.
            awaited = self.leases.awaited(&awaited, began.elapsed());
            if let Some(known) = self.leases.known_before() {
                watch.restore(known);
            }
            self.leases.were_reset().into_iter().for_each(|gpu| watch.was_reset(gpu));
            let observe = Arc::clone(&options.observe);
            match spawn_blocking(move || observe()).await {
                Ok(observation) => self.conclude(&mut watch, &observation, (&awaited, began.elapsed())).await,
                Err(error) => tracing::error!(%error, "the look at the GPUs was cut off"),
            }
            let pause = if awaited.is_empty() { options.interval } else { options.interval.min(SOON) };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.leases.until_something_is_awaited() => {}
            }
        }
    }

    async fn conclude(&self, watch: &mut Watch, observation: &Observation, (awaited, now): (&AwaitedSince, Duration)) {
        let handles: Vec<WorkerHandle> = self.registry.handles().into_iter().filter(|h| !h.view.borrow().has_ended()).collect();
        let scene = self.scene(&handles, observation, (awaited, now)).await;
        let usage = Usage::of(observation, &scene.owners);
        for handle in &handles {
            let gpus = scene::gpus(handle);
            handle.known.gpus.set_used(usage.total(handle.id.as_str(), &gpus));
        }
        self.leases.observed(observation);
        for finding in watch.step(observation, &scene) {
            self.carry_out(finding, &handles);
        }
        self.leases.keep_known(watch.known());
    }

    /// Workers that hold a GPU, of those that live.
    fn on<'h>(&self, handles: &'h [WorkerHandle], gpu: u32) -> impl Iterator<Item = &'h WorkerHandle> {
        handles.iter().filter(move |handle| scene::gpus(handle).contains(&gpu))
    }
}
