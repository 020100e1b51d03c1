//! The locks of what several tasks share: std's, or loom's in a build (feature `loom`) that tries every order in which threads can come to them.
//!
//! Only the list of workers, ports, leases and the answers that are waited for use these: what is modelled is what races. Must never know what is
//! locked.

use std::sync::{Arc, PoisonError};

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Something that one has at a time.
pub(crate) trait Lock {
    type Guard<'a>
    where
        Self: 'a;

    fn take(&self) -> Self::Guard<'_>;
}

impl<T> Lock for Mutex<T> {
    type Guard<'a>
        = MutexGuard<'a, T>
    where
        Self: 'a;

    fn take(&self) -> MutexGuard<'_, T> {
        // A panic while it was held leaves a map whole: every change is one insert or remove.
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "loom")]
impl<T> Lock for std::sync::Mutex<T> {
    type Guard<'a>
        = std::sync::MutexGuard<'a, T>
    where
        Self: 'a;

    fn take(&self) -> std::sync::MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Lock> Lock for Arc<M> {
    type Guard<'a>
        = M::Guard<'a>
    where
        Self: 'a;

    fn take(&self) -> M::Guard<'_> {
        M::take(self)
    }
}

/// Waits for its turn.
pub(crate) fn lock<M: Lock>(mutex: &M) -> M::Guard<'_> {
    mutex.take()
}
