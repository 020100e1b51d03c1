//! Leases without a worker: taken and given back by somebody outside, for a time, for a connection, or until they are given back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use rbee_hive_devices::{DeviceSpec, Holder, Lease, LeaseError, LeaseRequest, LeaseView, Terms as Bounds};
use serde::Serialize;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::{Leases, Outcome, refused};
use crate::channel::lock;
use crate::{ErrorKind, LifecycleError};

/// Longest name of a holder.
const MAX_NAME: usize = 128;
/// Longest time that a lease is given for: a year, which a calendar can still hold.
const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How long an external lease lives.
#[derive(Default)]
pub struct LeaseLife {
    /// So long at most.
    pub ttl: Option<Duration>,
    /// Until this comes, at most: the end of the connection that it was taken over. Such a lease ends with the hive, too.
    pub connection: Option<BoxFuture<'static, ()>>,
}

/// A lease and how long it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalLease {
    /// The lease.
    #[serde(flatten)]
    pub lease: LeaseView,
    /// RFC 3339; `None` where nothing but its holder ends it.
    pub expires_at: Option<String>,
    /// Whether it ends with the connection that it was taken over.
    pub bound_to_connection: bool,
}

/// A lease that goes back unless it is kept.
struct Granted {
    leases: Arc<Leases>,
    lease: Option<Lease>,
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let _ = self.leases.take_back(&lease.id);
        }
    }
}

/// What ends a lease; nothing waits for that any more once it is gone.
#[derive(Debug, Default)]
pub(super) struct Enders(Vec<AbortHandle>);

impl Drop for Enders {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// What the table does not know of an external lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) expires: Option<SystemTime>,
    pub(super) bound: bool,
}

impl Leases {
    /// Takes a lease for somebody outside. Dropped while it waits, it leaves the line.
    ///
    /// Errors: `invalid_params`, `no_such_device`, `device_busy`, `at_capacity`, `timeout` for one that waited for too long.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        (name, spec): (&str, DeviceSpec),
        life: LeaseLife,
    ) -> Result<ExternalLease, LifecycleError> {
        check(name, &life)?;
        let timeout = spec.queue_timeout();
        let request = LeaseRequest { holder: Holder::External(name.to_owned()), spec, terms: Bounds::unbounded() };
        let lease = match self.ask(request).map_err(|e| refused(&e))? {
            Outcome::Granted(lease) => lease,
            Outcome::Queued(waiting, busy) => match waiting.served(timeout).await {
                Some(served) => served.map_err(|e| refused(&e))?,
                None => return Err(waited_in_vain(&busy, timeout)),
            },
        };
        self.keep(Granted { leases: Arc::clone(self), lease: Some(lease) }, life).await
    }

    /// Writes it down; a lease that can't be written down is given back: after a restart it would be somebody else's.
    async fn keep(self: &Arc<Self>, mut granted: Granted, life: LeaseLife) -> Result<ExternalLease, LifecycleError> {
        let gone = || LifecycleError::new(ErrorKind::NotFound, "the lease is gone already");
        let lease = granted.lease.clone().ok_or_else(gone)?;
        let terms = Terms { expires: life.ttl.map(|ttl| SystemTime::now() + ttl), bound: life.connection.is_some() };
        lock(&self.inside).external.insert(lease.id.clone(), (terms, Enders::default()));
        if let Err(source) = self.write_off_thread().await {
            let mut error = LifecycleError::new(ErrorKind::SetupFailed, format!("write hive/leases.json: {source}"));
            error.hint = Some("is the state directory full, or read-only?".into());
            return Err(error);
        }
        // Nothing is waited for from here on: who asked may be gone at any pause, and would leave a lease that nothing ends.
        granted.lease = None;
        self.expire(&lease.id, terms);
        if let Some(connection) = life.connection {
            self.end_after(&lease.id, connection);
        }
        Ok(told(lease.view(), Some(&terms)))
    }

    /// All leases, with how long external ones live.
    pub(crate) fn list_all(&self) -> Vec<ExternalLease> {
        let inside = lock(&self.inside);
        inside
            .table
            .leases()
            .into_iter()
            .map(|view| (inside.external.get(&view.lease_id), view))
            .map(|(known, view)| told(view, known.map(|(terms, _)| terms)))
            .collect()
    }

    /// Gives an external lease back. A worker that runs on it keeps it until it has ended.
    ///
    /// Errors: `not_found`; `not_allowed_now` for a worker's own.
    pub(crate) async fn give_back(self: &Arc<Self>, id: &str) -> Result<(), LifecycleError> {
        self.take_back(id)?;
        if let Err(error) = self.write_off_thread().await {
            tracing::warn!(%error, lease = id, "the list of leases on disk still has one that was given back");
        }
        Ok(())
    }

    fn take_back(&self, id: &str) -> Result<(), LifecycleError> {
        let mut inside = lock(&self.inside);
        let releasing = inside.table.give_back(id).map_err(|e| refused(&e))?;
        inside.external.remove(id);
        if let Some(releasing) = releasing {
            self.wait_for_memory(&mut inside, &releasing);
        }
        Ok(())
    }

    /// Ends a lease when its time is over.
    pub(super) fn expire(self: &Arc<Self>, id: &str, terms: Terms) {
        if let Some(expires) = terms.expires {
            let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
            self.end_after(id, Box::pin(sleep(left)));
        }
    }

    fn end_after(self: &Arc<Self>, id: &str, end: BoxFuture<'static, ()>) {
        let (leases, id) = (Arc::downgrade(self), id.to_owned());
        let ended = id.clone();
        let ender = tokio::spawn(async move {
            end.await;
            if let Some(leases) = leases.upgrade() {
                // In a task of its own: giving it back ends this one. Given back before: nothing is left to end.
                tokio::spawn(async move { leases.give_back(&id).await });
            }
        });
        match lock(&self.inside).external.get_mut(&ended) {
            Some((_, enders)) => enders.0.push(ender.abort_handle()),
            None => ender.abort(),
        }
    }
}

fn told(lease: LeaseView, terms: Option<&Terms>) -> ExternalLease {
    let expires = terms.and_then(|t| t.expires).and_then(|at| jiff::Timestamp::try_from(at).ok());
    ExternalLease { lease, expires_at: expires.map(|at| format!("{at:.3}")), bound_to_connection: terms.is_some_and(|t| t.bound) }
}

fn check(name: &str, life: &LeaseLife) -> Result<(), LifecycleError> {
    let wrong = |text: String| Err(LifecycleError::new(ErrorKind::InvalidParams, text));
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return wrong(format!("holder is a name of 1 to {MAX_NAME} bytes without control characters"));
    }
    match life.ttl {
        Some(ttl) if ttl.is_zero() || ttl > MAX_TTL => wrong(format!("ttl_ms is 1 to {}", MAX_TTL.as_millis())),
        _ => Ok(()),
    }
}

/// Nobody made room in time.
pub(crate) fn waited_in_vain(busy: &LeaseError, timeout: Option<Duration>) -> LifecycleError {
    let waited = timeout.map_or(0, |t| t.as_millis());
    let mut error = LifecycleError::new(ErrorKind::DeviceBusy, format!("waited {waited} ms in line: {busy}"));
    error.hint = Some("stop a holder, or wait longer with queue_timeout_ms".into());
    error
}
