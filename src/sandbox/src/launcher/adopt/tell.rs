//! What the hive is told of the workers that were found: in order, as fast as it reads, and then that this was all.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use crate::launcher::LauncherChannel;
use crate::protocol::{ChannelError, FromLauncher};

/// Messages that wait for the hive to read them.
#[derive(Default)]
pub(in super::super) struct Tidings {
    waiting: VecDeque<(FromLauncher, Vec<OwnedFd>)>,
    count: usize,
}

impl Tidings {
    /// One more, with its descriptors.
    pub(super) fn push(&mut self, message: FromLauncher, fds: Vec<OwnedFd>) {
        self.count += 1;
        self.waiting.push_back((message, fds));
    }

    /// That this is all.
    pub(super) fn seal(&mut self) {
        self.waiting.push_back((FromLauncher::FoundAll { count: self.count }, vec![]));
    }

    /// Whether the hive has been told everything: what comes after it, such as the end of one of these workers, may be told.
    pub(in super::super) fn all_told(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what the channel takes.
    pub(in super::super) fn tell(&mut self, channel: &LauncherChannel) {
        while let Some((message, fds)) = self.waiting.front_mut() {
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match channel.send(message, &borrowed) {
                Err(e) if e.would_block() => return,
                // Without the plan it is short enough; the hive has a record of its own.
                Err(ChannelError::TooLong { .. }) if shorten(message) => {}
                // Nobody is left to tell: the loop hears of it next.
                Err(ChannelError::Closed) => return self.waiting.clear(),
                sent => {
                    if let Err(error) = sent {
                        tracing::error!(%error, "can't tell the hive of a worker that was found");
                    }
                    self.waiting.pop_front();
                }
            }
        }
    }
}

/// Leaves the plan out; whether there was one.
fn shorten(message: &mut FromLauncher) -> bool {
    match message {
        FromLauncher::Found { plan, not_in_force, .. } => {
            not_in_force.clear();
            plan.take().is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::WorkerId;

    use super::*;
    use crate::launcher::HiveChannel;
    use crate::launcher::record::tests::record;
    use crate::protocol::FoundHow;

    fn lost(name: &str, why: &str) -> FromLauncher {
        let how = FoundHow::Lost { why: why.into(), left: vec![] };
        super::super::found(&WorkerId::parse(name).unwrap(), Some(&record()), how)
    }

    fn channel() -> (LauncherChannel, HiveChannel) {
        let (ours, theirs) = LauncherChannel::pair().unwrap();
        ours.set_nonblocking().unwrap();
        (ours, HiveChannel::new(theirs))
    }

    #[test]
    fn a_hive_that_reads_slowly_is_told_everything_in_order_and_then_that_it_was_all() {
        let (launcher, hive) = channel();
        let mut tidings = Tidings::default();
        const MANY: usize = 500;
        (0..MANY).for_each(|n| tidings.push(lost(&format!("w{n}"), "x"), vec![]));
        tidings.seal();
        tidings.tell(&launcher);
        assert!(!tidings.all_told(), "more than a channel takes at once");
        for n in 0..MANY {
            let (FromLauncher::Found { worker_id, .. }, _) = hive.recv().unwrap() else { panic!("another message") };
            assert_eq!(worker_id.as_str(), format!("w{n}"));
            tidings.tell(&launcher);
        }
        assert!(tidings.all_told() && matches!(hive.recv().unwrap().0, FromLauncher::FoundAll { count: MANY }));
    }

    #[test]
    fn what_is_too_long_goes_without_its_plan_and_a_hive_that_is_gone_is_told_nothing() {
        let (launcher, hive) = channel();
        let mut tidings = Tidings::default();
        tidings.push(lost("w1", &"x".repeat(crate::protocol::MAX_MESSAGE - 2000)), vec![]);
        tidings.tell(&launcher);
        assert!(matches!(hive.recv().unwrap().0, FromLauncher::Found { plan: None, .. }));
        drop(hive);
        tidings.seal();
        tidings.tell(&launcher);
        assert!(tidings.all_told());
    }
}
