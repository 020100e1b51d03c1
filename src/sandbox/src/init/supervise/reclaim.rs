//! Memory that an idle worker's cgroup can do without, taken back in small pieces, so that commands are heard in between.
//!
//! By v2's `memory.reclaim` alone. v1 has `memory.force_empty`, which goes on until nothing more is to be had and cannot be bounded, and a
//! limit below use, under which a worker that wakes meanwhile would be killed.

use std::time::{Duration, Instant};

use super::Supervisor;
use super::freeze::errno_of;
use crate::protocol::FromInit;

/// One piece: what a slow swap device takes in about a tenth of a second.
const PIECE: u64 = 16 << 20;
/// After this the rest is left.
const WITHIN: Duration = Duration::from_secs(3);

/// A reclaim under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reclaiming {
    seq: u64,
    /// What was in use when it began.
    before: Option<u64>,
    until: Instant,
}

impl Supervisor {
    pub(super) fn begin_reclaim(&mut self, seq: u64) {
        if self.reclaiming.is_some() {
            return self.say(FromInit::NotDone { seq, errno: libc::EALREADY }, vec![]);
        }
        let before = self.leaf().resources().memory_current;
        self.reclaiming = Some(Reclaiming { seq, before, until: Instant::now() + WITHIN });
    }

    /// Takes one piece back.
    pub(super) fn reclaim_a_piece(&mut self) {
        let Some(Reclaiming { seq, before, until }) = self.reclaiming else { return };
        let used = self.leaf().resources().memory_current;
        let piece = PIECE.min(used.unwrap_or(PIECE));
        let wanted = piece > 0 && self.stopping.is_none() && self.main_exit.is_none() && Instant::now() < until;
        let errno = match wanted.then(|| self.leaf().reclaim(piece)) {
            Some(Ok(())) => return,
            // What there was to be had is taken.
            None => None,
            Some(Err(e)) if e.raw_os_error() == Some(libc::EAGAIN) => None,
            Some(Err(e)) => Some(errno_of(&e)),
        };
        self.reclaiming = None;
        let after = self.leaf().resources().memory_current;
        let bytes = before.zip(after).map(|(before, after)| before.saturating_sub(after));
        let answer = errno.map_or(FromInit::Reclaimed { seq, bytes }, |errno| FromInit::NotDone { seq, errno });
        self.say(answer, vec![]);
    }
}
