//! The ring of events and its readers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use rbee_hive_policy::WorkerId;
use serde_json::Value;
use tokio::sync::watch;

use super::cut::{Why, cut};
use super::numbers::Numbering;
use super::{About, EventKind, HiveEvent, Timeline};
use crate::channel::lock;
use crate::view::now;

/// Events that can be read again.
const KEPT: usize = 8192;
/// Most events in one answer.
const BATCH: usize = 256;

/// All events of a hive. A clone of the `Arc` that it lives in is another handle on it.
#[derive(Debug)]
pub struct EventHub {
    ring: Mutex<Ring>,
    last: watch::Sender<u64>,
    kept: usize,
    numbering: Numbering,
    /// Of workers, by name; who is gone holds none any more.
    timelines: Mutex<HashMap<String, Weak<Mutex<Timeline>>>>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<HiveEvent>>,
    last: u64,
    /// Nothing is told any more.
    closed: bool,
}

impl Default for EventHub {
    fn default() -> Self {
        Self::keeping(KEPT, Numbering::default())
    }
}

impl EventHub {
    /// Goes on with the numbers of an earlier hive.
    pub(crate) fn numbered(numbering: Numbering) -> Self {
        Self::keeping(KEPT, numbering)
    }

    fn keeping(kept: usize, numbering: Numbering) -> Self {
        let ring = Mutex::new(Ring { last: numbering.given, ..Ring::default() });
        Self { ring, last: watch::Sender::new(numbering.given), kept, numbering, timelines: Mutex::default() }
    }

    /// Tells an event; its number. Never waits.
    pub fn tell(&self, kind: EventKind, about: About, data: Value) -> u64 {
        let mut ring = lock(&self.ring);
        if ring.closed {
            return ring.last;
        }
        ring.last += 1;
        let seq = ring.last;
        let About { worker_id, generation, job_id } = about;
        let worker_id = worker_id.map(|id| id.to_string());
        let event = Arc::new(HiveEvent { seq, time: now(), worker_id, generation, kind, job_id, data });
        if let Some(id) = &event.worker_id
            && let Some(timeline) = lock(&self.timelines).get(id).and_then(Weak::upgrade)
        {
            lock(&timeline).add(&event);
        }
        ring.events.push_back(event);
        while ring.events.len() > self.kept {
            ring.events.pop_front();
        }
        // Under the lock, so that the numbers come in order.
        self.last.send_replace(seq);
        seq
    }

    /// Tells nothing any more; the number of the last event, which is the last that this hive has given.
    pub(crate) fn close(&self) -> u64 {
        let mut ring = lock(&self.ring);
        ring.closed = true;
        ring.last
    }

    /// Keeps what is told of this worker from now on in `timeline`, until that is dropped or another worker has the name.
    pub(crate) fn follow(&self, id: &WorkerId, timeline: &Arc<Mutex<Timeline>>) {
        let mut timelines = lock(&self.timelines);
        if timelines.len() == timelines.capacity() {
            // Before it grows: many starts are refused, and many workers deleted.
            timelines.retain(|_, timeline| timeline.strong_count() > 0);
        }
        timelines.insert(id.to_string(), Arc::downgrade(timeline));
    }

    /// The number of the newest event; 0 before the first.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// The numbers as they grow.
    pub(crate) fn numbers(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// What came after number `after`, at most a bounded number of events; waits until there is something. Where some of it is lost, a
    /// [`EventKind::Cut`] comes first. A number that is still to come is taken for the newest.
    pub async fn after(&self, after: u64) -> Vec<Arc<HiveEvent>> {
        let after = after.min(self.last());
        // Whoever waits holds the hub, and with it the sender.
        let _ = self.last.subscribe().wait_for(|last| *last > after).await;
        let ring = lock(&self.ring);
        let first = ring.first();
        let missed = first.saturating_sub(after + 1);
        let why = if after < self.numbering.given { Why::Restart } else { Why::Overrun };
        let cut = (missed > 0).then(|| Arc::new(cut(first - 1, Some(missed).filter(|_| after >= self.numbering.gapless_from), why)));
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        cut.into_iter().chain(ring.events.iter().skip(skip).take(BATCH).cloned()).collect()
    }

    /// For a reader whose number no hive of this state directory has given: a [`EventKind::Cut`], and what is kept from its beginning.
    pub(super) fn all_that_is_kept(&self) -> Vec<Arc<HiveEvent>> {
        let ring = lock(&self.ring);
        let cut = Arc::new(cut(ring.first() - 1, None, Why::UnknownPlace));
        std::iter::once(cut).chain(ring.events.iter().take(BATCH).cloned()).collect()
    }
}

impl Ring {
    /// The number of the oldest event that can be read, or of the next one.
    fn first(&self) -> u64 {
        self.events.front().map_or(self.last + 1, |e| e.seq)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tell(hub: &EventHub, count: u64) {
        for n in 0..count {
            hub.tell(EventKind::State, About::default(), json!(n));
        }
    }

    #[tokio::test]
    async fn events_come_in_order_and_are_read_again_from_any_kept_number() {
        let hub = EventHub::default();
        tell(&hub, 5);
        let seqs = |events: Vec<Arc<HiveEvent>>| events.iter().map(|e| e.seq).collect::<Vec<_>>();
        assert_eq!(seqs(hub.after(0).await), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(hub.after(3).await), [4, 5]);
        assert_eq!(hub.last(), 5);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_missed_and_goes_on_behind_it() {
        let hub = EventHub::keeping(3, Numbering::default());
        tell(&hub, 10);
        let events = hub.after(2).await;
        assert_eq!((events[0].kind, events[0].seq, &events[0].data), (EventKind::Cut, 7, &json!({"missed": 5, "why": "overrun"})));
        assert_eq!(events[1..].iter().map(|e| e.seq).collect::<Vec<_>>(), [8, 9, 10]);
        assert_eq!(hub.after(7).await.len(), 3, "behind the marker nothing is missing");
    }

    #[tokio::test]
    async fn one_answer_is_bounded_and_a_number_of_the_future_waits_for_the_next() {
        let hub = Arc::new(EventHub::default());
        tell(&hub, BATCH as u64 + 5);
        assert_eq!(hub.after(0).await.len(), BATCH);
        let waiting = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.after(u64::MAX).await }
        });
        tokio::task::yield_now().await;
        tell(&hub, 1);
        assert_eq!(waiting.await.unwrap()[0].seq, BATCH as u64 + 6);
    }

    #[tokio::test]
    async fn a_reader_of_an_earlier_hive_is_cut_and_told_how_much_it_missed_where_that_is_known() {
        for (gapless_from, missed) in [(0, json!(41)), (100, json!(null))] {
            let hub = EventHub::numbered(Numbering { given: 100, gapless_from });
            assert_eq!(hub.last(), 100);
            let read = hub.after(59).await;
            assert_eq!((read.len(), read[0].seq, &read[0].data), (1, 100, &json!({"missed": missed, "why": "restart"})));
            tell(&hub, 1);
            assert_eq!(hub.after(100).await[0].seq, 101, "who has read all of the earlier hive's has missed nothing");
            let read = hub.after(59).await;
            assert_eq!((read.len(), read[0].seq, read[1].seq), (2, 100, 101));
        }
    }

    #[test]
    fn who_is_gone_is_followed_no_more() {
        let hub = EventHub::default();
        let kept: Vec<Arc<Mutex<Timeline>>> = (0..100).map(|_| Arc::default()).collect();
        for n in 0..5000 {
            let timeline = kept.get(n).cloned().unwrap_or_default();
            hub.follow(&WorkerId::parse(&format!("w{n}")).unwrap(), &timeline);
        }
        assert!((100..1000).contains(&lock(&hub.timelines).len()), "{}", lock(&hub.timelines).len());
    }

    #[test]
    fn nothing_is_told_after_the_last_number() {
        let hub = EventHub::default();
        tell(&hub, 3);
        assert_eq!(hub.close(), 3);
        tell(&hub, 3);
        assert_eq!((hub.last(), hub.close()), (3, 3));
    }
}
