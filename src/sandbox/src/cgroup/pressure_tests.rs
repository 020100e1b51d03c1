//! What the kernel tells of a leaf that is short of memory, as root.

use rbee_hive_policy::{Enforce, LimitKey, LimitValue, StallTrigger};

use super::pressure::Told;
use super::test_tree::{fixture, id, limits, node, status, until};

/// statfs(2) of a directory whose files are memory themselves.
const TMPFS: i64 = 0x0102_1994;

#[test]
fn a_leaf_whose_tasks_wait_for_memory_says_so_with_or_without_the_controller_on_v2() {
    let Some(f) = fixture("stall", |_| ()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let on_disk = rustix::fs::statfs(directory.path()).is_ok_and(|fs| fs.f_type != TMPFS);
    if f.tree.tells_stalls().is_err() || f.tree.unenforceable().contains_key(&LimitKey::MemoryMax) || !on_disk {
        eprintln!("SKIPPED: needs pressure stall information, the memory controller and a temporary directory on a disk");
        return f.end();
    }
    let of = limits(&[(LimitKey::MemoryMax, LimitValue::Count(24 << 20))], Enforce::Required);
    let leaves = f.tree.make_leaves(&id("s"), &of, &[node("/dev/null", 3), node("/dev/zero", 5)]).unwrap();
    let leaf = leaves.path.clone().unwrap();
    let source = f.tree.stall(&leaf, StallTrigger { stall_ms: 1, window_ms: 2_000 }).unwrap();
    assert_eq!(source.look(), Told::Nothing, "nobody has waited yet");
    let file = directory.path().join("file");
    let write = format!("dd if=/dev/zero of={} bs=1M count=200", file.display());
    until("the leaf to tell", || {
        assert!(status(f.shell(&leaves, &write)).success());
        source.look() == Told::News
    });
    assert!(leaves.worker_leaf().memory_stall_usec() > Some(0));
    f.end();
}
