//! One job's lines, end and listeners.
//!
//! Owns what may follow what: lines, at most one marker, one end, nothing after it. Must never know of other jobs or of locks.

use super::bounds::{Bounds, CUT_MARKER};
use super::subscription::{Listener, ListenerId};
use super::{JobEnd, Next};

/// A job's stream. `Open` until the bound, then `cut`; both end by `end`.
pub(super) struct Job {
    /// When it was created or, once ended, when it ended, on the streams' own count.
    pub(super) turn: u64,
    lines: Vec<String>,
    bytes: usize,
    is_cut: bool,
    end: Option<JobEnd>,
    listeners: Vec<(ListenerId, Listener)>,
}

impl Job {
    pub(super) fn new(turn: u64) -> Self {
        Self { turn, lines: Vec::new(), bytes: 0, is_cut: false, end: None, listeners: Vec::new() }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Adds a line, or the marker where the bound is reached. False where nothing changed.
    pub(super) fn push(&mut self, line: String, bounds: &Bounds) -> bool {
        if self.is_cut || self.has_ended() {
            return false;
        }
        let bytes = self.bytes.saturating_add(line.len());
        if self.lines.len() >= bounds.lines || bytes > bounds.bytes {
            self.is_cut = true;
            self.lines.push(CUT_MARKER.to_owned());
            return true;
        }
        self.bytes = bytes;
        self.lines.push(line);
        true
    }

    /// Ends the job. False where it has ended before: the first end stands.
    pub(super) fn finish(&mut self, end: JobEnd, turn: u64) -> bool {
        if self.has_ended() {
            return false;
        }
        self.end = Some(end);
        self.turn = turn;
        true
    }

    /// What stands at `position`.
    pub(super) fn next(&self, position: usize) -> Next {
        match (self.lines.get(position), &self.end) {
            (Some(line), _) => Next::Line(line.clone()),
            (None, Some(end)) => Next::End(end.clone()),
            (None, None) => Next::Pending,
        }
    }

    /// Adds a listener. False where there are too many.
    pub(super) fn listen(&mut self, id: ListenerId, listener: Listener, bounds: &Bounds) -> bool {
        if self.listeners.len() >= bounds.listeners {
            return false;
        }
        self.listeners.push((id, listener));
        true
    }

    /// Takes a listener out, for the caller to drop outside the lock.
    pub(super) fn forget(&mut self, id: ListenerId) -> Option<Listener> {
        let place = self.listeners.iter().position(|(known, _)| *known == id)?;
        Some(self.listeners.remove(place).1)
    }

    /// Those to call after a change.
    pub(super) fn listeners(&self) -> Vec<Listener> {
        self.listeners.iter().map(|(_, listener)| Listener::clone(listener)).collect()
    }
}
