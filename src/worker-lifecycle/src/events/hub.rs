//! The ring of events and its readers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{About, EventKind, HiveEvent};
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
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<HiveEvent>>,
    last: u64,
}

impl Default for EventHub {
    fn default() -> Self {
        Self::keeping(KEPT)
    }
}

impl EventHub {
    fn keeping(kept: usize) -> Self {
        Self { ring: Mutex::default(), last: watch::Sender::new(0), kept }
    }

    /// Tells an event; its number. Never waits.
    pub fn tell(&self, kind: EventKind, about: About, data: Value) -> u64 {
        let mut ring = lock(&self.ring);
        ring.last += 1;
        let seq = ring.last;
        let About { worker_id, generation, job_id } = about;
        let worker_id = worker_id.map(|id| id.to_string());
        ring.events.push_back(Arc::new(HiveEvent { seq, time: now(), worker_id, generation, kind, job_id, data }));
        while ring.events.len() > self.kept {
            ring.events.pop_front();
        }
        // Under the lock, so that the numbers come in order.
        self.last.send_replace(seq);
        seq
    }

    /// The number of the newest event; 0 before the first.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// What came after number `after`, at most a bounded number of events; waits until there is something. Where some of it is lost, a
    /// [`EventKind::Cut`] comes first. A number that is still to come is taken for the newest: it is another hive's.
    pub async fn after(&self, after: u64) -> Vec<Arc<HiveEvent>> {
        let after = after.min(self.last());
        // Whoever waits holds the hub, and with it the sender.
        let _ = self.last.subscribe().wait_for(|last| *last > after).await;
        let ring = lock(&self.ring);
        let first = ring.events.front().map_or(ring.last + 1, |e| e.seq);
        let missed = first.saturating_sub(after + 1);
        let cut = (missed > 0).then(|| Arc::new(cut(first - 1, missed)));
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        cut.into_iter().chain(ring.events.iter().skip(skip).take(BATCH).cloned()).collect()
    }
}

/// The marker for `missed` events, the last of which had number `seq`.
fn cut(seq: u64, missed: u64) -> HiveEvent {
    let data = json!({"missed": missed});
    HiveEvent { seq, time: now(), worker_id: None, generation: None, kind: EventKind::Cut, job_id: None, data }
}

#[cfg(test)]
mod tests {
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
        let hub = EventHub::keeping(3);
        tell(&hub, 10);
        let events = hub.after(2).await;
        assert_eq!((events[0].kind, events[0].seq, &events[0].data), (EventKind::Cut, 7, &json!({"missed": 5})));
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
}
