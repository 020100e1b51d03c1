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
    place: Place,
    filter: Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind this number.
    After(u64),
    /// Where nobody knows: this is told first.
    Unknown,
}

impl Feed {
    /// Reads on behind number `after`; from now on where it is `None`. Behind a number that is still to come, as another hive may have given
    /// it, everything that is kept is read, after a `cut`.
    pub fn new(hub: Arc<EventHub>, after: Option<u64>, filter: Filter) -> Self {
        let last = hub.last();
        let place = match after {
            Some(after) if after > last => Place::Unknown,
            after => Place::After(after.unwrap_or(last)),
        };
        Self { place, hub, filter }
    }

    /// Reads everything that is kept, after a `cut`: for a reader that says where it was, and nobody understands it.
    pub fn of_unknown_place(hub: Arc<EventHub>, filter: Filter) -> Self {
        Self { place: Place::Unknown, hub, filter }
    }

    /// The number of the last event that was read, wanted or not.
    pub fn place(&self) -> u64 {
        match self.place {
            Place::After(seq) => seq,
            Place::Unknown => 0,
        }
    }

    /// Whether there is something that was not read yet.
    pub fn is_behind(&self) -> bool {
        match self.place {
            Place::After(seq) => seq < self.hub.last(),
            Place::Unknown => true,
        }
    }

    /// Waits for events and reads a bounded number of them; empty where none of them is wanted. Nothing is lost when this is not awaited to
    /// its end.
    pub async fn next(&mut self) -> Vec<Arc<HiveEvent>> {
        let mut events = match self.place {
            Place::After(seq) => self.hub.after(seq).await,
            Place::Unknown => self.hub.all_that_is_kept(),
        };
        if let Some(last) = events.last() {
            self.place = Place::After(last.seq);
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
        assert!(!Feed::new(Arc::clone(&hub), None, Filter::default()).is_behind());
    }

    #[tokio::test]
    async fn a_place_that_no_hive_has_given_is_cut_and_everything_that_is_kept_follows() {
        let hub = Arc::new(EventHub::default());
        let told = async |mut feed: Feed| {
            assert!(feed.is_behind());
            let told: Vec<_> = feed.next().await.iter().map(|e| (e.seq, e.kind)).collect();
            assert!(!feed.is_behind());
            told
        };
        for tells in 0..2 {
            let unknown =
                [Feed::new(Arc::clone(&hub), Some(9), Filter::default()), Feed::of_unknown_place(Arc::clone(&hub), Filter::default())];
            for feed in unknown {
                assert_eq!(told(feed).await, [(0, EventKind::Cut), (1, EventKind::State)][..=tells]);
            }
            tell(&hub, "a", EventKind::State);
        }
        let cut = Feed::new(hub, Some(9), Filter::default()).next().await[0].data.clone();
        assert_eq!(cut, json!({"missed": null, "why": "unknown_place"}));
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
