//! What the hive sees of a worker's use: its connections, and when there was something on them last.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Counts the use of one worker. All times are since it was made.
#[derive(Debug)]
pub(crate) struct Usage {
    began: Instant,
    open: AtomicUsize,
    /// Last time that something came or went on a connection, milliseconds.
    used: AtomicU64,
    /// Last time that it was seen to be at work, milliseconds.
    worked: AtomicU64,
    /// Whether its work can be seen.
    seen_at_work: AtomicBool,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            open: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            worked: AtomicU64::new(0),
            seen_at_work: AtomicBool::new(false),
        }
    }
}

impl Usage {
    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        // In one order with the forwarder's gate: who closes the gate after this sees the connection, or the connection sees the gate.
        self.open.load(Ordering::SeqCst)
    }

    /// Now.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When it was used last.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// It is in use now.
    pub(crate) fn touch(&self) {
        self.used.fetch_max(self.now_ms(), Ordering::Relaxed);
    }

    /// What a look at its CPU time has come to; `worked` is the last time that it was at work, `None` where that cannot be seen.
    pub(crate) fn note_work(&self, worked: Option<Duration>) {
        self.seen_at_work.store(worked.is_some(), Ordering::Relaxed);
        let ms = worked.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        self.worked.fetch_max(ms, Ordering::Relaxed);
    }

    /// For how long it has done nothing; `None` while it has a connection, and where its work cannot be seen.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let known = self.seen_at_work.load(Ordering::Relaxed) && self.open() == 0;
        let last = self.used().max(Duration::from_millis(self.worked.load(Ordering::Relaxed)));
        known.then(|| self.now().saturating_sub(last))
    }

    /// A connection that is counted as long as what is returned lives.
    pub(super) fn connection(self: std::sync::Arc<Self>) -> Connection {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.touch();
        Connection { usage: self }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    usage: std::sync::Arc<Usage>,
}

impl Connection {
    /// Something went over it.
    pub(super) fn moved(&self) {
        self.usage.touch();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The time first: who sees no connection sees when the last one ended.
        self.usage.touch();
        self.usage.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_since_its_last_connection_or_its_last_work_and_never_while_either_is_unknown() {
        let usage = Arc::new(Usage::default());
        let second = Duration::from_secs(1);
        assert_eq!(usage.idle_for(), None, "nobody has looked at its work");
        usage.note_work(Some(Duration::ZERO));
        let connection = Arc::clone(&usage).connection();
        tokio::time::advance(second).await;
        connection.moved();
        assert_eq!((usage.open(), usage.idle_for()), (1, None));
        tokio::time::advance(second).await;
        drop(connection);
        tokio::time::advance(5 * second).await;
        assert_eq!((usage.used(), usage.idle_for()), (2 * second, Some(5 * second)));
        usage.note_work(Some(6 * second));
        assert_eq!(usage.idle_for(), Some(second));
        usage.note_work(None);
        assert_eq!(usage.idle_for(), None);
    }
}
