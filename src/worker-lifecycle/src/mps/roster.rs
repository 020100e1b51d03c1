//! Who is in which group, and which daemon is whose. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rbee_hive_policy::WorkerId;
use tokio::sync::Mutex;

/// What makes workers a group: an MPS server has its GPUs and its user, and so have its clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Names of the GPUs, all of them.
    pub(crate) gpus: BTreeSet<String>,
    /// The policy's `credentials.user`.
    pub(crate) user: String,
}

/// Held while a group's daemon is started or ended.
pub(super) type Turn = Arc<Mutex<()>>;

#[derive(Debug)]
struct Group<D> {
    members: BTreeSet<WorkerId>,
    daemon: Option<D>,
    turn: Turn,
}

/// All groups; one without members and daemon is none.
#[derive(Debug)]
pub(super) struct Roster<D>(BTreeMap<Key, Group<D>>);

impl<D> Default for Roster<D> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<D> Roster<D> {
    /// Adds a member. As long as it is one, the group and its turn stay.
    pub(super) fn enter(&mut self, key: &Key, worker: &WorkerId) -> Turn {
        let group = self.0.entry(key.clone()).or_insert_with(|| Group { members: BTreeSet::new(), daemon: None, turn: Turn::default() });
        group.members.insert(worker.clone());
        Arc::clone(&group.turn)
    }

    /// Takes a member out; its group, which stays until [`Roster::end_if_over`]. `None` where it is a member of none.
    pub(super) fn leave(&mut self, worker: &WorkerId) -> Option<(Key, Turn)> {
        let (key, group) = self.0.iter_mut().find(|(_, group)| group.members.contains(worker))?;
        group.members.remove(worker);
        Some((key.clone(), Arc::clone(&group.turn)))
    }

    /// Ends a group that has neither members nor a daemon.
    pub(super) fn end_if_over(&mut self, key: &Key) {
        if self.0.get(key).is_some_and(|group| group.members.is_empty() && group.daemon.is_none()) {
            self.0.remove(key);
        }
    }

    /// What is held while the group's daemon is started or ended.
    pub(super) fn turn(&self, key: &Key) -> Option<Turn> {
        Some(Arc::clone(&self.0.get(key)?.turn))
    }

    /// The daemon of a group that nobody is in. It stays the group's until it is lost.
    pub(super) fn unneeded(&self, key: &Key) -> Option<&D> {
        self.0.get(key).filter(|group| group.members.is_empty())?.daemon.as_ref()
    }

    /// Whether a member's group has this daemon.
    pub(super) fn has(&self, member: &WorkerId, is_it: impl Fn(&D) -> bool) -> bool {
        self.0.values().any(|group| group.members.contains(member) && group.daemon.as_ref().is_some_and(&is_it))
    }

    /// The group's daemon.
    pub(super) fn daemon(&self, key: &Key) -> Option<&D> {
        self.0.get(key)?.daemon.as_ref()
    }

    /// The group has this daemon from now on.
    pub(super) fn set_daemon(&mut self, key: &Key, daemon: D) {
        if let Some(group) = self.0.get_mut(key) {
            group.daemon = Some(daemon);
        }
    }

    /// Its daemon has ended, if it still has that one: the members that are without it now. Without any, the group ends.
    pub(super) fn lose(&mut self, key: &Key, is_it: impl Fn(&D) -> bool) -> Option<BTreeSet<WorkerId>> {
        let group = self.0.get_mut(key)?;
        group.daemon.take_if(|daemon| is_it(daemon))?;
        let members = group.members.clone();
        self.end_if_over(key);
        Some(members)
    }

    /// Every daemon with its group.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &D, &BTreeSet<WorkerId>)> {
        self.0.iter().filter_map(|(key, group)| Some((key, group.daemon.as_ref()?, &group.members)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(gpus: &[&str]) -> Key {
        Key { gpus: gpus.iter().map(ToString::to_string).collect(), user: "per-worker".into() }
    }

    fn id(name: &str) -> WorkerId {
        WorkerId::parse(name).unwrap()
    }

    #[test]
    fn a_group_has_one_daemon_until_its_last_member_has_left() {
        let mut roster = Roster::default();
        let (one, turn) = (key(&["GPU-0", "GPU-1"]), roster.enter(&key(&["GPU-1", "GPU-0"]), &id("a")));
        assert!(Arc::ptr_eq(&turn, &roster.enter(&one, &id("b"))), "the order of the GPUs makes no other group");
        roster.set_daemon(&one, 7);
        roster.enter(&key(&["GPU-0"]), &id("c"));
        assert_eq!((roster.daemon(&one), roster.daemon(&key(&["GPU-0"]))), (Some(&7), None), "a part of the set is another group");
        assert_eq!(roster.leave(&id("a")).map(|(key, _)| key), Some(one.clone()));
        assert_eq!(roster.unneeded(&one), None, "somebody is left");
        assert!(roster.leave(&id("a")).is_none() && roster.leave(&id("nobody")).is_none());
        roster.leave(&id("b"));
        roster.end_if_over(&one);
        assert_eq!((roster.unneeded(&one), roster.all().count()), (Some(&7), 1), "it is the group's until it has ended");
        assert_eq!(roster.lose(&one, |daemon| *daemon == 7), Some(BTreeSet::new()));
        assert!(roster.turn(&one).is_none(), "the group has ended with it");
    }

    #[test]
    fn who_comes_while_the_last_one_goes_finds_the_same_turn_and_the_daemon() {
        let mut roster = Roster::default();
        let one = key(&["GPU-0"]);
        roster.enter(&one, &id("a"));
        roster.set_daemon(&one, 7);
        let (_, turn) = roster.leave(&id("a")).unwrap();
        assert!(Arc::ptr_eq(&turn, &roster.enter(&one, &id("b"))), "it waits for the same turn");
        assert_eq!((roster.unneeded(&one), roster.daemon(&one)), (None, Some(&7)));
        assert_eq!(roster.lose(&one, |_| true), Some([id("b")].into()));
        assert!(roster.turn(&one).is_some_and(|still| Arc::ptr_eq(&still, &turn)), "nor does a daemon's end end a group with members");
    }

    #[test]
    fn a_daemon_that_ends_by_itself_is_lost_once_and_only_to_its_own_group() {
        let mut roster = Roster::default();
        let one = key(&["GPU-0"]);
        roster.enter(&one, &id("a"));
        roster.set_daemon(&one, 8);
        assert!(roster.has(&id("a"), |daemon| *daemon == 8) && !roster.has(&id("b"), |_| true));
        assert_eq!(roster.lose(&one, |daemon| *daemon == 7), None, "one of before");
        assert_eq!(roster.lose(&one, |daemon| *daemon == 8), Some([id("a")].into()));
        assert!(!roster.has(&id("a"), |_| true));
        assert_eq!((roster.lose(&one, |_| true), roster.daemon(&one)), (None, None));
        let other = Key { user: "somebody".into(), ..one.clone() };
        assert!(roster.daemon(&other).is_none() && roster.unneeded(&other).is_none());
    }
}
