//! The marker for events that are missing.

use serde_json::json;

use super::{EventKind, HiveEvent};
use crate::view::now;

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// They came faster than they were read.
    Overrun,
    /// They were an earlier hive's.
    Restart,
    /// The place of the reader is none of this state directory's.
    UnknownPlace,
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Restart => "restart",
            Self::UnknownPlace => "unknown_place",
        }
    }
}

/// The marker for `missed` events, the last of which had number `seq`.
pub(super) fn cut(seq: u64, missed: Option<u64>, why: Why) -> HiveEvent {
    let data = json!({"missed": missed, "why": why.name()});
    HiveEvent { seq, time: now(), worker_id: None, generation: None, kind: EventKind::Cut, job_id: None, data }
}
