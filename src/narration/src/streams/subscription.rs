//! Being told of changes.
//!
//! Owns the life of a listener: from `subscribe` until the subscription is dropped. Must never know what changed.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use super::table::{Table, locked};

/// Called after each change of a job, on the thread that changed it and outside the streams' lock. It must return soon: wake a
/// reader, which then calls [`next`](super::JobStreams::next).
pub type Listener = Arc<dyn Fn() + Send + Sync>;

/// Tells listeners apart, over all jobs: a subscription of an evicted job must not end one of a later job of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerId(pub(super) u64);

/// A listener that is called as long as this lives. A call that has begun on another thread may still be under way when the drop
/// returns.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    pub(super) table: Weak<Mutex<Table>>,
    pub(super) job_id: String,
    pub(super) listener: ListenerId,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(table) = self.table.upgrade() else { return };
        let forgotten = locked(&table).forget(&self.job_id, self.listener);
        // Outside the lock: what the listener owns may call the streams when it is dropped.
        drop(forgotten);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("job_id", &self.job_id).field("listener", &self.listener).finish_non_exhaustive()
    }
}
