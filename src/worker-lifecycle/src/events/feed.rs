//! One reader's place in the stream, and what of it the reader wants to see.

use std::sync::Arc;

use super::{EventHub, EventKind, HiveEvent};

/// What a reader wants to see; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Events of this worker only.
    pub worker_id: Option<String>,
    /// Events of this kind only.
    pub kind: Option<EventKind>,
}

impl Filter {
    /// Whether an event is wanted. A `cut` always is: any event may be among those that are missing.
    pub fn wants(&self, event: &HiveEvent) -> bool {
        event.kind == EventKind::Cut
            || (self.kind.is_none_or(|kind| kind == event.kind)
                && self.worker_id.as_ref().is_none_or(|id| event.worker_id.as_ref() == Some(id)))
    }
}

/// A reader's place. It holds nothing back: what the ring has lost by the time of a read is told by a `cut`.
#[derive(Clone, Debug)]
pub struct Feed {
    hub: Arc<EventHub>,
    after: u64,
    filter: Filter,
}

impl Feed {
    /// Reads on behind number `after`; from now on where it is `None`, or a number that is still to come.
    pub fn new(hub: Arc<EventHub>, after: Option<u64>, filter: Filter) -> Self {
        let last = hub.last();
        Self { after: after.map_or(last, |after| after.min(last)), hub, filter }
    }

    /// The number of the last event that was read, wanted or not.
    pub fn place(&self) -> u64 {
        self.after
    }

    /// Whether there is something that was not read yet.
    pub fn is_behind(&self) -> bool {
        self.after < self.hub.last()
    }

    /// Waits for events and reads a bounded number of them; empty where none of them is wanted. Nothing is lost when this is not awaited to
    /// its end.
    pub async fn next(&mut self) -> Vec<Arc<HiveEvent>> {
        let mut events = self.hub.after(self.after).await;
        if let Some(last) = events.last() {
            self.after = last.seq;
        }
        events.retain(|event| self.filter.wants(event));
        events
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::WorkerId;
    use serde_json::json;

    use super::*;
    use crate::About;

    fn tell(hub: &EventHub, id: &str, kind: EventKind) {
        hub.tell(kind, About::worker(&WorkerId::parse(id).unwrap(), 1), json!({}));
    }

    #[tokio::test]
    async fn a_reader_sees_what_it_wants_and_goes_on_behind_all_of_it() {
        let hub = Arc::new(EventHub::default());
        let all = [("a", EventKind::State), ("b", EventKind::State), ("a", EventKind::Drift), ("b", EventKind::Drift)];
        all.iter().for_each(|(id, kind)| tell(&hub, id, *kind));
        let seen = async |filter| {
            let mut feed = Feed::new(Arc::clone(&hub), Some(0), filter);
            let seqs: Vec<u64> = feed.next().await.iter().map(|e| e.seq).collect();
            assert!(feed.place() == 4 && !feed.is_behind());
            seqs
        };
        let of = |id: &str| Some(id.to_owned());
        assert_eq!(seen(Filter::default()).await, [1, 2, 3, 4]);
        assert_eq!(seen(Filter { worker_id: of("a"), kind: None }).await, [1, 3]);
        assert_eq!(seen(Filter { worker_id: None, kind: Some(EventKind::Drift) }).await, [3, 4]);
        assert_eq!(seen(Filter { worker_id: of("b"), kind: Some(EventKind::Drift) }).await, [4]);
        assert_eq!(seen(Filter { worker_id: of("c"), kind: None }).await, [0; 0]);
    }

    #[tokio::test]
    async fn a_reader_without_a_place_begins_now() {
        let hub = Arc::new(EventHub::default());
        tell(&hub, "a", EventKind::State);
        for after in [None, Some(u64::MAX)] {
            assert!(!Feed::new(Arc::clone(&hub), after, Filter::default()).is_behind(), "{after:?}");
        }
    }

    #[test]
    fn kinds_are_read_by_the_names_that_they_are_written_with() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(EventKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(EventKind::parse("State"), None);
    }
}
