//! Keeps one worker's record as the worker is: a task beside the worker's own, which never waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Records, WorkerRecord, Written};
use crate::task::WorkerHandle;

/// Shortest time between two records of one worker; changes that come faster are written together.
const PAUSE: Duration = Duration::from_millis(100);
/// How soon a record is tried again that could not be written.
const AGAIN: Duration = Duration::from_secs(5);

/// Starts to keep the record; what is returned beside the task comes with the end of the first try.
pub(super) fn start(records: Arc<Records>, worker: WorkerHandle) -> (JoinHandle<()>, oneshot::Receiver<()>) {
    let (tell, first) = oneshot::channel();
    (tokio::spawn(keep(records, worker, tell)), first)
}

async fn keep(records: Arc<Records>, worker: WorkerHandle, first: oneshot::Sender<()>) {
    let mut view = worker.view.clone();
    view.borrow_and_update();
    let mut on_disk = write(&records, &worker, None).await;
    let _ = first.send(());
    loop {
        let changed = match on_disk {
            Some(_) => view.changed().await,
            // A change before then is a reason to try at once, but not more often than others are.
            None => timeout(AGAIN, view.changed()).await.unwrap_or(Ok(())),
        };
        on_disk = write(&records, &worker, on_disk).await;
        if changed.is_err() {
            // Its task has ended: nothing changes any more.
            if on_disk.is_some() {
                return;
            }
            sleep(AGAIN).await;
        }
        sleep(PAUSE).await;
    }
}

/// What is on disk now.
async fn write(records: &Arc<Records>, worker: &WorkerHandle, on_disk: Option<WorkerRecord>) -> Option<WorkerRecord> {
    let now = WorkerRecord::of(worker, records.boot_id());
    if on_disk.as_ref() == Some(&now) {
        return on_disk;
    }
    (records.write(now.clone()).await == Written::Yes).then_some(now)
}
