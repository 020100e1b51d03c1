//! What a weight does: measured between two workers that both want one CPU.

use std::process::{Child, Stdio};

use rbee_hive_policy::{Enforce, LimitKey, LimitValue, Limits};

use super::test_tree::{Fixture, fixture, id, legacy, limits, node, until};
use super::update::{BelowUse, Change};
use super::{Leaves, Tree, limit_holds, read_limit};

/// What both together use while they are looked at, microseconds.
const WINDOW: u64 = 2_000_000;

fn weighed(tree: &Tree, name: &str, weight: u64) -> Leaves {
    let of = [(LimitKey::CpuWeight, LimitValue::Count(weight)), (LimitKey::Cpuset, LimitValue::Text("0".into()))];
    tree.make_leaves(&id(name), &limits(&of, Enforce::Required), &[node("/dev/null", 3)]).unwrap()
}

fn used(leaves: &Leaves) -> u64 {
    leaves.worker_leaf().resources().cpu_usage_usec.unwrap()
}

/// What each of the two had of one window, microseconds.
fn shares(heavy: &Leaves, light: &Leaves) -> (u64, u64) {
    let before = (used(heavy), used(light));
    let mut gained = (0, 0);
    until("as much CPU time", || {
        gained = (used(heavy) - before.0, used(light) - before.1);
        gained.0 + gained.1 >= WINDOW
    });
    gained
}

fn spinning(f: &Fixture, leaves: &Leaves) -> Child {
    f.shell(leaves, "while kill -0 $PPID; do :; done").stdout(Stdio::null()).spawn().unwrap()
}

/// Whether what is read back of a worker is this weight.
fn verified(f: &Fixture, leaves: &Leaves, weight: u64) -> bool {
    let (file, text) = read_limit(&f.tree.facts(), leaves.path.as_deref().unwrap(), LimitKey::CpuWeight).unwrap().unwrap();
    limit_holds((LimitKey::CpuWeight, &LimitValue::Count(weight)), &Limits::new(), (&file, &text))
}

fn weights_share_one_cpu_out(f: Fixture) {
    let missing = f.tree.unenforceable();
    if missing.contains_key(&LimitKey::CpuWeight) || missing.contains_key(&LimitKey::Cpuset) {
        eprintln!("SKIPPED: needs the cpu and cpuset controllers");
        return f.end();
    }
    let (heavy, light) = (weighed(&f.tree, "heavy", 10_000), weighed(&f.tree, "light", 1));
    let mut children = [spinning(&f, &heavy), spinning(&f, &light)];
    until("both to run", || used(&heavy) > 0 && used(&light) > 0);
    let (much, little) = shares(&heavy, &light);
    eprintln!("weights 10000 and 1: {much} and {little} us");
    assert!(verified(&f, &heavy, 10_000) && !verified(&f, &heavy, 100));
    // The other way round while they run, and as it was where it is put back.
    let both = |weight| limits(&[(LimitKey::CpuWeight, LimitValue::Count(weight))], Enforce::Required);
    let change = |name: &str, old, new| {
        let (old, new) = (both(old), both(new));
        f.tree.change_limits(&id(name), Change { old: &old, new: &new, below_use: BelowUse::Refuse }).unwrap()
    };
    let changed = (change("heavy", 10_000, 1), change("light", 1, 10_000));
    let (now_little, now_much) = shares(&heavy, &light);
    eprintln!("turned round: {now_little} and {now_much} us");
    assert_eq!((changed.0.put_back(), changed.1.put_back()), (vec![], vec![]));
    let (again_much, again_little) = shares(&heavy, &light);
    eprintln!("put back: {again_much} and {again_little} us");
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for (more, less) in [(much, little), (now_much, now_little), (again_much, again_little)] {
        assert!(more > 5 * less, "{more} and {less} us");
    }
    f.end();
}

#[test]
fn two_workers_share_one_cpu_by_their_weights() {
    let Some(f) = fixture("weights", |_| ()) else { return };
    weights_share_one_cpu_out(f);
}

#[test]
fn two_workers_share_one_cpu_by_their_weights_on_v1_alone() {
    let Some(f) = fixture("weights1", legacy) else { return };
    weights_share_one_cpu_out(f);
}
