//! What an undone change leaves, in a directory that looks like a v2 tree with one worker.

use std::fs;
use std::path::{Path, PathBuf};

use rbee_hive_policy::{Enforce, LimitKey, LimitValue, Limits, PlannedLimit, WorkerId};

use super::super::detect::{Hierarchy, Layout};
use super::*;

/// Whole pages everywhere. Files of a directory are overwritten in place: all numbers have as many digits as this one.
const UNIT: u64 = 1 << 17;

struct Looks {
    dir: tempfile::TempDir,
    tree: Tree,
}

fn looks(root: &str) -> Looks {
    let dir = tempfile::tempdir().unwrap();
    let v2 = Hierarchy { version: Version::V2, controllers: vec![], mount: dir.path().to_owned(), mount_root: "/".into() };
    let tree = Tree::open_in(Layout { hierarchies: vec![v2], notes: vec![] }, "0::/\n", root).unwrap();
    let looks = Looks { dir, tree };
    fs::create_dir_all(looks.at(&format!("{root}/workers/w-w/worker"))).unwrap();
    fs::write(looks.at(&format!("{root}/workers/cgroup.subtree_control")), "memory hugetlb\n").unwrap();
    looks
}

impl Looks {
    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn change(&self, key: LimitKey, [old, new]: [LimitValue; 2]) -> Result<Changed, ChangeError> {
        let of = |value| Limits::from([(key, PlannedLimit { value, enforce: Enforce::Required })]);
        let (old, new) = (of(old), of(new));
        self.tree.change_limits(&WorkerId::parse("w").unwrap(), Change { old: &old, new: &new, below_use: BelowUse::Refuse })
    }
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

#[test]
fn the_sum_of_a_parent_keeps_what_another_hive_has_added_meanwhile() {
    let looks = looks("/shared/mine");
    let groups = ["/shared/mine/workers/w-w/worker", "/shared/mine/workers/w-w", "/shared/mine/workers", "/shared/mine", "/shared"];
    let file = |group: &str| looks.at(group).join(protection::LOW);
    let units = || groups.map(|group| text(&file(group)).parse::<u64>().unwrap() / UNIT);
    let put = |group: &str, units: u64| fs::write(file(group), (units * UNIT).to_string()).unwrap();
    fs::create_dir(looks.at("/shared/other")).unwrap();
    put("/shared/other", 1);
    groups.iter().for_each(|group| put(group, 2));
    put("/shared", 3);
    let changed = looks.change(LimitKey::MemoryLow, [2, 4].map(|units| LimitValue::Count(units * UNIT))).unwrap();
    assert_eq!(units(), [4, 4, 4, 4, 5]);
    put("/shared/other", 2);
    put("/shared", 6);
    assert_eq!(changed.put_back(), Vec::<String>::new());
    assert_eq!(units(), [2, 2, 2, 2, 4]);
}

#[test]
fn a_bound_of_huge_pages_that_half_went_down_comes_back() {
    let looks = looks("/r");
    let leaf = looks.at("/r/workers/w-w/worker");
    let used = leaf.join("hugetlb.64KB.max");
    fs::write(&used, "65536").unwrap();
    // Refuses every write, as the kernel does where more is reserved.
    std::os::unix::fs::symlink("/proc/sys/kernel/ngroups_max", leaf.join("hugetlb.64KB.rsvd.max")).unwrap();
    let bounds = ["64KiB=64KiB", "64KiB=0"].map(|text| LimitValue::Text(text.into()));
    let refused = looks.change(LimitKey::Hugetlb, bounds).unwrap_err();
    assert!(
        matches!(&refused.cause, Cause::Write(CgroupError::Write { path, .. }) if path.ends_with("hugetlb.64KB.rsvd.max")),
        "{refused:?}"
    );
    assert_eq!((refused.left, text(&used)), (vec![], "65536".to_owned()));
}
