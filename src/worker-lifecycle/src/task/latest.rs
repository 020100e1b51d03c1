//! A fact of a worker that is another one in each of its lives.

use std::sync::Mutex;

use crate::channel::lock;

/// The last value that was set; `None` before the first.
#[derive(Debug)]
pub(crate) struct Latest<T>(Mutex<Option<T>>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Latest<T> {
    /// Sets it.
    pub(crate) fn set(&self, value: T) {
        *lock(&self.0) = Some(value);
    }

    /// It is not known any more.
    pub(crate) fn clear(&self) {
        *lock(&self.0) = None;
    }

    pub(crate) fn get(&self) -> Option<T> {
        lock(&self.0).clone()
    }
}
