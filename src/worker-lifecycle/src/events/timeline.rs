//! What has happened to one worker: the beginning and the latest of it, within a bound.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{HiveEvent, Moment};

/// The first moments that are kept, and the last ones.
const FIRST: usize = 12;
const LAST: usize = 36;

/// A worker's moments, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Timeline {
    first: Vec<Moment>,
    last: VecDeque<Moment>,
    left_out: u64,
}

impl Timeline {
    pub(super) fn add(&mut self, event: &HiveEvent) {
        if self.first.len() < FIRST {
            return self.first.push(Moment::of(event));
        }
        if self.last.len() >= LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(Moment::of(event));
    }

    /// Whether nothing has happened yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// All that is kept, and how many are missing between the first and the last of them.
    pub(crate) fn into_moments(self) -> (Vec<Moment>, u64) {
        (self.first.into_iter().chain(self.last).collect(), self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rbee_hive_policy::WorkerId;
    use serde_json::json;

    use crate::channel::lock;
    use crate::{About, EventHub, EventKind};

    #[test]
    fn beginning_and_end_of_a_life_are_kept_and_what_is_left_out_is_counted() {
        let (hub, id) = (EventHub::default(), WorkerId::parse("w").unwrap());
        let tell = |id: &WorkerId| hub.tell(EventKind::Signal, About::worker(id, 1), json!({"signal": 1}));
        let timeline = Arc::default();
        tell(&id);
        hub.follow(&id, &timeline);
        for _ in 0..100 {
            tell(&id);
            tell(&WorkerId::parse("other").unwrap());
        }
        let kept = || lock(&timeline).clone().into_moments();
        let (moments, left_out) = kept();
        assert_eq!((moments.len(), left_out), (super::FIRST + super::LAST, 100 - 48));
        assert_eq!((moments[0].seq, moments.last().unwrap().seq), (2, 200));
        assert!(moments.windows(2).all(|two| two[0].seq < two[1].seq));
        hub.follow(&id, &Arc::default());
        tell(&id);
        assert_eq!(kept().0.last().unwrap().seq, 200, "the name is another worker's by now");
    }
}
