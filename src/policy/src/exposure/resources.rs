//! What of the machine a worker can use up.

use super::Measured;
use crate::explain::show;
use crate::file::Policy;
use crate::{Enforce, LimitKey};

pub(super) fn memory_max(policy: &Policy) -> Measured {
    limited(policy, &[LimitKey::MemoryMax], "set limits.memory_max: without it one worker can take all memory")
}

pub(super) fn pids_max(policy: &Policy) -> Measured {
    limited(policy, &[LimitKey::PidsMax], "set limits.pids_max, which makes it required")
}

pub(super) fn swap_max(policy: &Policy) -> Measured {
    limited(policy, &[LimitKey::SwapMax], "set limits.swap_max = \"0\"")
}

pub(super) fn cpus(policy: &Policy) -> Measured {
    limited(policy, &[LimitKey::Cpus, LimitKey::Cpuset], "set limits.cpus or limits.cpuset")
}

pub(super) fn open_files(policy: &Policy) -> Measured {
    limited(policy, &[LimitKey::OpenFiles], "set limits.open_files")
}

/// The tightest of `keys`: closed where it is required, almost where it holds if available.
fn limited(policy: &Policy, keys: &[LimitKey], remedy: &'static str) -> Measured {
    let set = keys.iter().filter_map(|key| policy.limits.get(key).filter(|limit| !limit.value.is_max()).map(|limit| (key, limit)));
    let best = set.min_by_key(|(_, limit)| limit.enforce != Enforce::Required);
    match best {
        Some((key, limit)) => {
            let openness = if limit.enforce == Enforce::Required { 0.0 } else { 0.2 };
            let value = format!("{} ({})", show::limit(*key, &limit.value), show::enforce(limit.enforce));
            Measured {
                value,
                openness,
                remedy: if openness > 0.0 { "let it be required: the start is refused where the host can't enforce it" } else { remedy },
            }
        }
        None => Measured { value: "no limit".into(), openness: 1.0, remedy },
    }
}
