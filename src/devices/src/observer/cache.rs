//! An observation that is young enough, however many ask for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Observer;
use crate::Observation;

/// An [`Observer`] that is asked no more often than its answers are allowed to be old.
pub struct ObserverCache {
    observer: Mutex<Observer>,
    last: Mutex<Option<Last>>,
    age: Duration,
}

/// What was seen, when, and why it was nothing.
#[derive(Clone)]
struct Last {
    at: Instant,
    seen: Arc<Observation>,
    blind: Option<String>,
}

impl ObserverCache {
    /// Nothing is asked yet. An answer is good for `age`.
    pub fn new(observer: Observer, age: Duration) -> Self {
        Self { observer: Mutex::new(observer), last: Mutex::new(None), age }
    }

    /// One no older than the age; looks where there is none. Blocks for one look at most: who comes while another looks gets what was
    /// seen before, and waits only where nothing was.
    pub fn recent(&self) -> Arc<Observation> {
        if let Some(last) = self.young() {
            return last;
        }
        let mut observer = match (self.observer.try_lock(), self.any()) {
            (Ok(observer), _) => observer,
            (Err(_), Some(old)) => return old,
            (Err(_), None) => self.observer.lock().unwrap_or_else(PoisonError::into_inner),
        };
        // Somebody may have looked while this one waited.
        if let Some(last) = self.young() {
            return last;
        }
        self.see(&mut observer)
    }

    /// A new look, whatever was seen before; others that ask get it as well. Blocks while another looks, and for its own.
    pub fn look(&self) -> Arc<Observation> {
        self.see(&mut self.observer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn see(&self, observer: &mut Observer) -> Arc<Observation> {
        let seen = Arc::new(observer.observe());
        let last = Last { at: Instant::now(), seen: Arc::clone(&seen), blind: observer.blind().map(str::to_owned) };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        seen
    }

    /// Why the last look saw nothing at all. Does not look.
    pub fn blind(&self) -> Option<String> {
        self.last()?.blind
    }

    fn young(&self) -> Option<Arc<Observation>> {
        self.last().filter(|last| last.at.elapsed() < self.age).map(|last| last.seen)
    }

    fn any(&self) -> Option<Arc<Observation>> {
        self.last().map(|last| last.seen)
    }

    fn last(&self) -> Option<Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
