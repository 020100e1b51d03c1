//! Random sequences against a model that is too simple to be wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const GPUS: u32 = 4;
const TOTAL: u64 = 8 << 30;

#[derive(Clone, Debug)]
enum Act {
    /// Who, which GPUs (none: any), how many, share, whether it waits.
    Ask(u8, Vec<u32>, u32, Share, bool),
    Begin(u8),
    Finish(u8),
    Leak(u8),
    Quarantine(u32),
    Heal(u32),
    Leave(u8),
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![Just(Share::Exclusive), (2u32..4).prop_map(Share::Ways), (1u64..9).prop_map(|g| Share::Memory(g << 30))]
}

fn act() -> impl Strategy<Value = Act> {
    let named = proptest::collection::btree_set(0..GPUS, 0..3).prop_map(|s| s.into_iter().collect());
    prop_oneof![
        4 => (0u8..9, named, 1u32..4, share(), any::<bool>()).prop_map(|(who, named, n, share, waits)| Act::Ask(who, named, n, share, waits)),
        2 => (0u8..9).prop_map(Act::Begin),
        2 => (0u8..9).prop_map(Act::Finish),
        1 => (0u8..9).prop_map(Act::Leak),
        1 => (0..GPUS).prop_map(Act::Quarantine),
        1 => (0..GPUS).prop_map(Act::Heal),
        1 => (0u8..9).prop_map(Act::Leave),
    ]
}

/// Who has what, as a list; and who waits, in order.
#[derive(Default)]
struct Model {
    held: Vec<(String, u32, Share)>,
    out: BTreeMap<u32, ()>,
    /// With what could serve it, and how many of that it wants.
    waiting: Vec<(Ticket, String, Vec<u32>, usize)>,
    releasing: BTreeMap<u8, Releasing>,
}

impl Model {
    fn took(&mut self, lease: &Lease) {
        for n in lease.gpus() {
            assert!(!self.out.contains_key(&n), "GPU-{n} was not to be given out");
            self.held.push((lease.id.clone(), n, lease.share));
        }
    }

    /// What a waiting request keeps from others: nothing while too little of it can come free.
    fn keeps(&self, (_, _, candidates, count): &(Ticket, String, Vec<u32>, usize)) -> Vec<u32> {
        let sound: Vec<u32> = candidates.iter().filter(|n| !self.out.contains_key(n)).copied().collect();
        if sound.len() >= *count { sound } else { vec![] }
    }

    fn sound(&self) {
        for n in 0..GPUS {
            let on: Vec<Share> = self.held.iter().filter(|h| h.1 == n).map(|h| h.2).collect();
            let memory: u64 = on.iter().map(|s| if let Share::Memory(b) = s { *b } else { 0 }).sum();
            let ways = on.iter().filter_map(|s| if let Share::Ways(w) = s { Some(*w) } else { None }).collect::<Vec<_>>();
            assert!(memory <= TOTAL, "GPU-{n}: {on:?}");
            assert!(on.len() <= 1 || !on.contains(&Share::Exclusive), "GPU-{n}: {on:?}");
            assert!(
                ways.is_empty() || (ways.len() == on.len() && ways.iter().all(|w| *w == ways[0] && ways.len() <= *w as usize)),
                "{on:?}"
            );
        }
    }

    fn same(&self, table: &LeaseTable) {
        for n in 0..GPUS {
            let mut ours: Vec<&String> = self.held.iter().filter(|h| h.1 == n).map(|h| &h.0).collect();
            let mut theirs: Vec<&String> = table.on(n).map(|l| &l.id).collect();
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "GPU-{n}");
        }
    }
}

struct Run {
    table: LeaseTable,
    host: Inventory,
    model: Model,
    busy: BTreeMap<u8, ()>,
}

impl Run {
    fn ask(&mut self, who: u8, (named, count, share, waits): (Vec<u32>, u32, Share, bool)) {
        if self.busy.contains_key(&who) {
            return;
        }
        let share = serde_json::to_value(share).unwrap();
        let mut wish = if named.is_empty() { json!({"count": count, "share": share}) } else { json!({"gpus": named, "share": share}) };
        if waits {
            wish["when_busy"] = json!("queue");
        }
        let before = self.table.leases().len();
        match self.table.ask(&self.host, free(&format!("w{who}"), wish)) {
            Ok(Asked::Granted(lease)) => {
                self.busy.insert(who, ());
                // Nobody who waits could have used what a newcomer got.
                for waiting in &self.model.waiting {
                    assert!(lease.gpus().all(|n| !self.model.keeps(waiting).contains(&n)), "{lease:?} was kept for {}", waiting.1);
                }
                self.model.took(&lease);
            }
            Ok(Asked::Queued { ticket, .. }) => {
                self.busy.insert(who, ());
                let (candidates, count) = match named.len() {
                    0 => ((0..GPUS).collect(), count as usize),
                    count => (named, count),
                };
                self.model.waiting.push((ticket, format!("w{who}"), candidates, count));
                assert_eq!(self.table.leases().len(), before);
            }
            Err(_) => assert_eq!(self.table.leases().len(), before, "what is refused takes nothing"),
        }
    }

    fn end(&mut self, who: u8, leak: bool) {
        let Some(Releasing { lease_id, gpus }) = self.model.releasing.remove(&who) else { return };
        for n in gpus {
            if leak {
                self.table.leaked(&lease_id, n, "leaked");
                self.model.out.insert(n, ());
            } else {
                self.table.finish_release(&lease_id, n, Proof::Measured);
            }
        }
        self.model.held.retain(|h| h.0 != lease_id);
        self.busy.remove(&who);
    }

    fn pump(&mut self) {
        for Served { ticket, outcome } in self.table.pump(&self.host) {
            let at = self.model.waiting.iter().position(|w| w.0 == ticket).unwrap();
            let lease = outcome.unwrap();
            for waiting in &self.model.waiting[..at] {
                assert!(lease.gpus().all(|n| !self.model.keeps(waiting).contains(&n)), "{lease:?} overtook {}", waiting.1);
            }
            self.model.waiting.remove(at);
            self.model.took(&lease);
        }
    }

    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Ask(who, named, count, share, waits) => self.ask(who, (named, count, share, waits)),
            Act::Begin(who) => {
                if let Some(releasing) = self.table.begin_release(&format!("w{who}")) {
                    self.model.releasing.insert(who, releasing);
                }
            }
            Act::Finish(who) => self.end(who, false),
            Act::Leak(who) => self.end(who, true),
            Act::Quarantine(n) => {
                self.table.quarantine(n, "told so");
                self.model.out.insert(n, ());
            }
            Act::Heal(n) => assert_eq!(self.table.heal(n), self.model.out.remove(&n).is_some()),
            Act::Leave(who) => {
                let name = format!("w{who}");
                if let Some(at) = self.model.waiting.iter().position(|w| w.1 == name) {
                    assert!(self.table.cancel(self.model.waiting.remove(at).0));
                    self.busy.remove(&who);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_double_booked_nothing_is_lost_and_nobody_is_overtaken(acts in proptest::collection::vec(act(), 1..80)) {
        let mut run = Run { table: LeaseTable::default(), host: host(&[8; GPUS as usize]), model: Model::default(), busy: BTreeMap::new() };
        for act in acts {
            run.carry_out(act);
            run.pump();
            run.model.sound();
            run.model.same(&run.table);
        }
        // Everybody goes: all of it can be had again.
        for who in 0..9 {
            run.carry_out(Act::Leave(who));
        }
        for who in 0..9 {
            run.carry_out(Act::Begin(who));
            run.carry_out(Act::Finish(who));
        }
        (0..GPUS).for_each(|n| assert!(run.table.heal(n) || !run.model.out.contains_key(&n)));
        prop_assert!(run.table.leases().is_empty() && run.table.awaited().is_empty() && run.table.waiting() == 0);
        prop_assert!(run.table.acquire(&run.host, &free("last", json!([0, 1, 2, 3]))).is_ok());
    }

    #[test]
    fn of_two_requests_for_the_last_gpu_one_gets_it(order in any::<bool>(), taken in 0u32..3) {
        let (host, mut table) = (host(&[8; 3]), LeaseTable::default());
        for n in 0..3 {
            if n != taken {
                table.acquire(&host, &free(&format!("h{n}"), json!(n))).unwrap();
            }
        }
        let (first, second) = if order { ("a", "b") } else { ("b", "a") };
        prop_assert!(table.acquire(&host, &free(first, json!("auto"))).is_ok());
        prop_assert!(table.acquire(&host, &free(second, json!(taken))).is_err());
    }
}
