//! What the hive alone knows of each worker, on disk: `hive/workers/<id>.json`, written whole, read again by the next hive.
//!
//! ```text
//!  worker's view changes ──► its keeper (a task) ──► one writer at a time, off the runtime's threads ──► <id>.json
//!  deleted ──► <id>.deleted.json, the last ones          what can't be trusted ──► <name>.bad-<n>, and the hive starts
//! ```
//! A disk that takes nothing is told (log, `hive_info`) and tried again; no worker waits for it. Must never know: what is done with a record.

mod disk;
mod keeper;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

pub(crate) use record::{Asked, WorkerRecord};

use crate::channel::lock;
use crate::task::WorkerHandle;
use disk::{Directory, Name};

/// Deleted workers that can still be explained.
pub(crate) const DELETED_KEPT: usize = 256;
/// How long a start waits for its first record: it goes on without one.
const FIRST: Duration = Duration::from_secs(1);

/// The records of a hive.
#[derive(Debug)]
pub(crate) struct Records {
    directory: Option<Arc<Directory>>,
    boot_id: String,
    /// One writer at a time, in the order in which they came.
    writer: Arc<Semaphore>,
    /// What could not be written, by name.
    failing: Mutex<BTreeMap<String, String>>,
    notes: Vec<String>,
}

/// What was there at the start.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Of workers that were listed.
    pub(crate) listed: Vec<WorkerRecord>,
    /// Of deleted ones, the last ones first.
    pub(crate) deleted: Vec<WorkerRecord>,
}

impl Records {
    /// Reads what is there. `hive` is the hive's own directory; without one nothing is kept. Blocks.
    pub(crate) fn open(hive: Option<&OwnedFd>) -> (Arc<Self>, Before) {
        let mut records = Self {
            directory: None,
            boot_id: disk::boot_id().unwrap_or_default(),
            writer: Arc::new(Semaphore::new(1)),
            failing: Mutex::default(),
            notes: vec![],
        };
        let Some(hive) = hive else { return (Arc::new(records), Before::default()) };
        let before = match Directory::open(hive) {
            Ok(directory) => {
                let read = directory.read_all();
                records.notes.extend(read.bad);
                records.directory = Some(Arc::new(directory));
                Before { listed: read.listed, deleted: read.deleted }
            }
            Err(error) => {
                tracing::error!(%error, "records of workers can't be kept");
                records.notes.push(format!("what is known of workers does not outlive this hive: open hive/workers: {error}"));
                Before::default()
            }
        };
        (Arc::new(records), before)
    }

    /// What identifies this run of the machine.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What is wrong, for `hive_info`.
    pub(crate) fn notes(&self) -> Vec<String> {
        let failing = lock(&self.failing);
        let failed = failing.iter().next().map(|(name, error)| {
            format!(
                "{} records of workers can't be written, the first is {name}: {error}; workers go on, a restart would not know of it",
                failing.len()
            )
        });
        self.notes.iter().cloned().chain(failed).collect()
    }

    /// Keeps a worker's record from now on. Returns when the first one is written, or can't be, or not soon. Called again it does nothing.
    pub(crate) async fn begin(self: &Arc<Self>, worker: &WorkerHandle) {
        if self.directory.is_none() {
            return;
        }
        let first = {
            let mut kept = lock(&worker.known.kept);
            if !matches!(*kept, Kept::NotYet) {
                return;
            }
            let (keeper, first) = keeper::start(Arc::clone(self), worker.clone());
            *kept = Kept::By(keeper);
            first
        };
        // Who is not told of the end of the first try is not kept waiting for it.
        let _ = tokio::time::timeout(FIRST, first).await;
    }

    /// Writes a worker's record as it is now; of one that is about to be left alone.
    pub(crate) async fn flush(self: &Arc<Self>, worker: &WorkerHandle) {
        let kept = matches!(*lock(&worker.known.kept), Kept::By(_));
        if kept {
            self.write(WorkerRecord::of(worker, &self.boot_id)).await;
        }
    }

    /// A start that came to nothing, or a worker that is off the list: its record goes. A deleted one's is kept apart.
    pub(crate) async fn end(self: &Arc<Self>, worker: &WorkerHandle, fate: Fate) {
        let Kept::By(keeper) = std::mem::replace(&mut *lock(&worker.known.kept), Kept::NoMore) else { return };
        keeper.abort();
        // What it has handed to the writer already comes before what follows.
        let _ = keeper.await;
        if let Fate::Deleted { at } = fate {
            let record = WorkerRecord { deleted_at: Some(at), ..WorkerRecord::of(worker, &self.boot_id) };
            self.write(record).await;
        }
        self.remove(Name::listed(worker.id.as_str())).await;
    }

    /// Forgets a deleted worker for good.
    pub(crate) async fn forget_deleted(self: &Arc<Self>, id: &str) {
        self.remove(Name::deleted(id)).await;
    }

    /// Whether it is on disk now.
    async fn write(self: &Arc<Self>, record: WorkerRecord) -> Written {
        let name =
            if record.deleted_at.is_some() { Name::deleted(&record.worker.worker_id) } else { Name::listed(&record.worker.worker_id) };
        let written = name.clone();
        let outcome = self.on_disk(move |directory| directory.write(&written, &record)).await;
        self.note(&name, outcome)
    }

    async fn remove(self: &Arc<Self>, name: Name) {
        let removed = name.clone();
        let outcome = self.on_disk(move |directory| directory.remove(&removed)).await;
        self.note(&name, outcome);
    }

    /// Off the runtime's threads, one after the other: the permit goes with the work, which goes on where nobody waits for it any more.
    async fn on_disk(&self, act: impl FnOnce(&Directory) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let Some(directory) = self.directory.clone() else { return Ok(()) };
        let permit = Arc::clone(&self.writer).acquire_owned().await.map_err(io::Error::other)?;
        let work = spawn_blocking(move || {
            let _turn = permit;
            act(&directory)
        });
        work.await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    /// Tells the first failure and the last, not each.
    fn note(&self, name: &Name, outcome: io::Result<()>) -> Written {
        let mut failing = lock(&self.failing);
        let failed_before = !failing.is_empty();
        match outcome {
            Ok(()) => {
                if failing.remove(name.as_str()).is_some() && failing.is_empty() {
                    tracing::info!("records of workers can be written again");
                }
                Written::Yes
            }
            Err(error) => {
                if !failed_before {
                    tracing::error!(record = name.as_str(), %error, "a worker's record can't be written: workers go on, a restart would not know of it");
                }
                failing.insert(name.as_str().to_owned(), error.to_string());
                Written::No
            }
        }
    }
}

/// Whether a worker's record is kept.
#[derive(Debug, Default)]
pub(crate) enum Kept {
    /// It has not begun.
    #[default]
    NotYet,
    /// By this task.
    By(JoinHandle<()>),
    /// Its record is gone, and does not come back.
    NoMore,
}

/// Whether a record is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Yes,
    No,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There was never a worker.
    Refused,
    /// It was deleted, and can be explained for some time.
    Deleted {
        /// RFC 3339.
        at: String,
    },
}
