//! `/proc` and cgroup files: whatever stands in them, a path never leaves its mount.

use std::path::Component;

use rbee_hive_sandbox::cgroup::text::{counters, hierarchies, same_bytes, same_list};

/// A mountinfo and a `/proc/self/cgroup`; each is the content of every counter's file as well.
pub(crate) fn kernel_text(data: &[u8]) {
    let Some((first, second)) = crate::two_texts(data) else { return };
    for (mount, own) in hierarchies(first, second).mounts {
        if let Some(own) = own {
            let below = own.strip_prefix(&mount).expect("the own group lies below the mount");
            assert!(!below.components().any(|part| part == Component::ParentDir), "{own:?}");
        }
    }
    for (v1, v2) in [(Some(first), Some(second)), (None, Some(first)), (Some(second), None)] {
        let _ = counters(&|_| v1.map(str::to_owned), &|_| v2.map(str::to_owned));
    }
    assert!(!same_list(first, second) || same_list(second, first), "the same in one order only");
    let _ = same_bytes(first.trim().parse().ok(), second);
}
