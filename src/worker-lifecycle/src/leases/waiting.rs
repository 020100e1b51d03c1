//! A place in line, which is given up when it is dropped.

use std::sync::Arc;
use std::time::Duration;

use rbee_hive_devices::{Lease, LeaseError, Ticket};
use tokio::sync::oneshot;

use super::Leases;

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    leases: Arc<Leases>,
    ticket: Ticket,
    answer: Option<oneshot::Receiver<Result<Lease, LeaseError>>>,
}

impl Waiting {
    pub(super) fn new(leases: Arc<Leases>, ticket: Ticket, answer: oneshot::Receiver<Result<Lease, LeaseError>>) -> Self {
        Self { leases, ticket, answer: Some(answer) }
    }

    /// Its lease, or why it gets none; `None` after `timeout`. Dropped meanwhile it leaves the line, and what it got in that moment goes back.
    pub(crate) async fn served(mut self, timeout: Option<Duration>) -> Option<Result<Lease, LeaseError>> {
        let answer = self.answer.as_mut()?;
        let served = match timeout {
            None => answer.await,
            Some(limit) => tokio::time::timeout(limit, answer).await.ok()?,
        };
        self.answer = None;
        // The sender lives as long as the place in line.
        served.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut answer) = self.answer.take() else { return };
        self.leases.cancel(self.ticket);
        // Served between the last look and the cancel: nobody else knows of it.
        if let Ok(Ok(lease)) = answer.try_recv() {
            self.leases.undo(&lease);
        }
    }
}
