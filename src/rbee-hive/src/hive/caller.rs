//! Who waits for a call: the connection that it came over, and whether anybody is still there.
//!
//! Set around a call by whoever runs it, read by the few methods that care. Must never know the protocol.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rbee_hive_worker_lifecycle::ClientGone;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

tokio::task_local! {
    static CALLER: Caller;
}

/// Who waits for a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The connection, where it is one that lasts beyond a request.
    pub(crate) connection: Option<Connection>,
    /// Comes when nobody waits for the answer any more.
    pub(crate) gone: Option<ClientGone>,
}

impl Caller {
    /// The caller of the call that is running.
    pub(crate) fn current() -> Self {
        CALLER.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs a call for this caller.
    pub(crate) async fn runs<T>(self, call: impl Future<Output = T>) -> T {
        CALLER.scope(self, call).await
    }
}

/// A connection that can be something else's life. Whoever serves it keeps the guard and drops it at its end; requests get clones.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    ended: CancellationToken,
    uses: Arc<watch::Sender<usize>>,
}

/// One use of a connection: a request that is being answered, or a lease. While there is one, an idle connection is not closed.
#[derive(Debug)]
pub(crate) struct Use(Arc<watch::Sender<usize>>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Connection {
    /// A connection that lasts until the guard is dropped.
    pub(crate) fn open() -> (DropGuard, Self) {
        let ended = CancellationToken::new();
        (ended.clone().drop_guard(), Self { ended, uses: Arc::new(watch::Sender::new(0)) })
    }

    /// Uses it, until what this gives is dropped.
    pub(crate) fn uses(&self) -> Use {
        self.uses.send_modify(|n| *n += 1);
        Use(Arc::clone(&self.uses))
    }

    /// Comes at its end. Uses it until then, or until it is dropped.
    pub(crate) fn end(&self) -> BoxFuture<'static, ()> {
        let (using, ended) = (self.uses(), self.ended.clone());
        Box::pin(async move {
            ended.cancelled().await;
            drop(using);
        })
    }

    /// Comes once nothing has used it for so long.
    pub(crate) async fn idle(&self, limit: std::time::Duration) {
        let mut uses = self.uses.subscribe();
        loop {
            // The sender is here: neither wait can fail.
            let _ = uses.wait_for(|n| *n == 0).await;
            if tokio::time::timeout(limit, uses.wait_for(|n| *n > 0)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_connection_is_idle_once_nothing_uses_it_for_the_whole_time() {
        let (_guard, connection) = Connection::open();
        let lease = connection.end();
        assert!(tokio::time::timeout(LIMIT * 10, connection.idle(LIMIT)).await.is_err(), "a lease keeps it");
        drop(lease);
        let begun = tokio::time::Instant::now();
        connection.idle(LIMIT).await;
        assert!(begun.elapsed() >= LIMIT);
    }

    #[tokio::test]
    async fn its_end_comes_with_the_guards() {
        let (guard, connection) = Connection::open();
        let end = connection.end();
        drop(guard);
        end.await;
        connection.end().await;
    }

    #[tokio::test]
    async fn a_call_knows_its_caller_and_nobody_elses() {
        assert!(Caller::current().connection.is_none());
        let (_guard, connection) = Connection::open();
        let caller = Caller { connection: Some(connection), gone: None };
        assert!(caller.runs(async { Caller::current().connection.is_some() }).await);
    }
}
