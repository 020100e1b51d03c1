//! The one list of workers, and the ports that they hold.

mod entry;
mod ports;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

pub use entry::{WorkerEntry, WorkerStatus};
use ports::PortPool;
pub use ports::{NoFreePort, PortLease};

use crate::channel::lock;
use crate::task::WorkerHandle;

/// The ports that the seed gives to workers.
const PORTS: RangeInclusive<u16> = 9100..=9199;

/// Why the registry refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// That name is taken.
    #[error("Worker '{id}' already exists")]
    AlreadyExists {
        /// The name.
        id: String,
    },
}

#[derive(Clone, Debug)]
struct Slot {
    entry: WorkerEntry,
    handle: Option<WorkerHandle>,
}

/// All workers by name. Every method is one atomic step.
#[derive(Debug)]
pub struct WorkerRegistry {
    slots: Mutex<BTreeMap<String, Slot>>,
    ports: Arc<PortPool>,
}

impl WorkerRegistry {
    /// An empty registry with the ports 9100–9199.
    pub fn new() -> Self {
        Self::with_ports(PORTS)
    }

    /// An empty registry with these ports.
    pub fn with_ports(ports: RangeInclusive<u16>) -> Self {
        Self { slots: Mutex::default(), ports: Arc::new(PortPool::new(ports)) }
    }

    /// Adds a worker. Of two with one name, one is refused, however close they come.
    pub fn register(&self, entry: WorkerEntry) -> Result<(), RegistryError> {
        let mut slots = lock(&self.slots);
        if slots.contains_key(&entry.id) {
            return Err(RegistryError::AlreadyExists { id: entry.id });
        }
        slots.insert(entry.id.clone(), Slot { entry, handle: None });
        Ok(())
    }

    /// The worker of this name, as it is now.
    pub fn get(&self, id: &str) -> Option<WorkerEntry> {
        lock(&self.slots).get(id).map(Slot::current)
    }

    /// Takes a worker off the list.
    pub fn remove(&self, id: &str) -> Option<WorkerEntry> {
        lock(&self.slots).remove(id).map(|s| s.current())
    }

    /// All workers by name.
    pub fn list(&self) -> Vec<WorkerEntry> {
        lock(&self.slots).values().map(Slot::current).collect()
    }

    /// Workers with this status; the text of a failure does not count.
    pub fn list_by_status(&self, status: &WorkerStatus) -> Vec<WorkerEntry> {
        let same = |e: &WorkerEntry| std::mem::discriminant(&e.status) == std::mem::discriminant(status);
        self.list().into_iter().filter(same).collect()
    }

    /// Sets the status of a worker that has no task of its own; `false` where there is none.
    pub fn update_status(&self, id: &str, status: WorkerStatus) -> bool {
        lock(&self.slots).get_mut(id).map(|slot| slot.entry.status = status).is_some()
    }

    /// Whether there is a worker of this name.
    pub fn contains(&self, id: &str) -> bool {
        lock(&self.slots).contains_key(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        lock(&self.slots).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all off the list.
    pub fn clear(&self) {
        lock(&self.slots).clear();
    }

    /// Takes a worker off the list, unless another one has its name by now.
    pub(crate) fn remove_this(&self, worker: &WorkerHandle) {
        let mut slots = lock(&self.slots);
        if slots.get(worker.id.as_str()).and_then(|s| s.handle.as_ref()).is_some_and(|h| h.is(worker)) {
            slots.remove(worker.id.as_str());
        }
    }

    pub(crate) fn attach(&self, id: &str, handle: WorkerHandle) {
        if let Some(slot) = lock(&self.slots).get_mut(id) {
            slot.handle = Some(handle);
        }
    }

    pub(crate) fn handle(&self, id: &str) -> Option<WorkerHandle> {
        lock(&self.slots).get(id).and_then(|s| s.handle.clone())
    }

    pub(crate) fn handles(&self) -> Vec<WorkerHandle> {
        lock(&self.slots).values().filter_map(|s| s.handle.clone()).collect()
    }

    pub(crate) fn ports(&self) -> &Arc<PortPool> {
        &self.ports
    }
}

impl Default for WorkerRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl Slot {
    /// A worker with a task says itself how it is.
    fn current(&self) -> WorkerEntry {
        match &self.handle {
            None => self.entry.clone(),
            Some(handle) => WorkerEntry::of(&handle.view(), handle.connections(), self.entry.started_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> WorkerEntry {
        WorkerEntry {
            id: id.into(),
            model_id: "m".into(),
            device: "CPU-0".into(),
            pid: None,
            port: None,
            status: WorkerStatus::Starting,
            started_at: std::time::SystemTime::now(),
        }
    }

    #[test]
    fn a_name_is_taken_once() {
        let registry = WorkerRegistry::new();
        assert!(registry.is_empty());
        registry.register(entry("a")).unwrap();
        assert_eq!(registry.register(entry("a")).unwrap_err().to_string(), "Worker 'a' already exists");
        assert!(registry.contains("a") && registry.len() == 1 && registry.get("b").is_none());
        assert!(registry.update_status("a", WorkerStatus::Failed { error: "x".into() }));
        assert_eq!(registry.list_by_status(&WorkerStatus::Failed { error: String::new() }).len(), 1);
        assert!(registry.remove("a").is_some() && registry.remove("a").is_none());
        registry.register(entry("b")).unwrap();
        registry.clear();
        assert!(registry.list().is_empty());
    }
}
