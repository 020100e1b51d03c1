//! Whether connections go through to a worker, seen from both sides: its task turns the gate, its forwarder stands at it.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It goes through.
    Open,
    /// It is taken, wakes the worker, and goes through when that answers.
    Asleep,
    /// It is not taken: it waits in the kernel's backlog.
    Shut,
}

/// The task's side.
#[derive(Debug)]
pub(crate) struct Gatekeeper {
    gate: watch::Sender<Gate>,
    knocks: Arc<Notify>,
}

/// The forwarder's side.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    gate: watch::Receiver<Gate>,
    knocks: Arc<Notify>,
}

impl Gatekeeper {
    /// An open gate.
    pub(crate) fn new() -> Self {
        Self { gate: watch::Sender::new(Gate::Open), knocks: Arc::default() }
    }

    /// Turns it.
    pub(crate) fn turn(&self, to: Gate) {
        self.gate.send_if_modified(|gate| std::mem::replace(gate, to) != to);
    }

    /// Waits until somebody stands before a worker that sleeps.
    pub(crate) async fn knocked(&self) {
        self.knocks.notified().await;
    }

    /// The way through it.
    pub(crate) fn passage(&self) -> Passage {
        Passage { gate: self.gate.subscribe(), knocks: Arc::clone(&self.knocks) }
    }
}

impl Passage {
    /// Waits until connections are taken, or no longer; `false`: there is no gate any more.
    pub(super) async fn until_shut_is(&mut self, shut: Shut) -> bool {
        self.gate.wait_for(|gate| (*gate == Gate::Shut) == (shut == Shut::Yes)).await.is_ok()
    }

    /// Wakes the worker where it sleeps, and waits until the way is open; `false` where it never will be.
    pub(super) async fn through(mut self) -> bool {
        loop {
            match *self.gate.borrow_and_update() {
                Gate::Open => return true,
                Gate::Asleep => self.knocks.notify_one(),
                Gate::Shut => {}
            }
            if self.gate.changed().await.is_err() {
                return false;
            }
        }
    }
}

/// Whether connections wait in the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_connection_wakes_who_sleeps_and_waits_for_the_way_to_open() {
        let keeper = Gatekeeper::new();
        assert!(keeper.passage().through().await, "an open gate");
        keeper.turn(Gate::Asleep);
        let mut through = Box::pin(keeper.passage().through());
        assert!((&mut through).now_or_never().is_none());
        keeper.knocked().await;
        keeper.turn(Gate::Open);
        assert!(through.await);
    }

    #[tokio::test]
    async fn before_a_shut_gate_nobody_knocks_and_its_end_is_told() {
        let keeper = Gatekeeper::new();
        keeper.turn(Gate::Shut);
        let mut passage = keeper.passage();
        assert!(passage.until_shut_is(Shut::Yes).await);
        let mut through = Box::pin(passage.clone().through());
        assert!((&mut through).now_or_never().is_none() && keeper.knocked().now_or_never().is_none());
        drop(keeper);
        assert!(!through.await && !passage.until_shut_is(Shut::No).await);
    }
}
