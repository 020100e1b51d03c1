//! What this launcher may do for a process beyond what everybody may: raise limits, put it first, place its memory.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use caps::{CapSet, Capability};
use nix::sys::resource::getrlimit;
use rbee_hive_policy::{Ability, HostFacts, LimitKey};

use crate::init::resource;
use crate::mount_tree::MountApi;
use crate::protocol::HostFeature;

/// Number of the first user namespace's file (PROC_USER_INIT_INO in the kernel's proc_ns.h).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// The part of the facts that is about this process.
pub(crate) fn look_at() -> HostFacts {
    HostFacts {
        hard_limits: LimitKey::OF_A_PROCESS.into_iter().filter_map(hard_limit).collect::<BTreeMap<_, _>>(),
        raise_limits: ability(Capability::CAP_SYS_RESOURCE),
        raise_priority: ability(Capability::CAP_SYS_NICE),
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        memory_policy: match rbee_hive_sys::memory_policy::look() {
            Ok(()) => Ability::There,
            Err(e) => Ability::Missing { why: format!("memory policies can't be set here (get_mempolicy: {e})") },
        },
        ..HostFacts::default()
    }
}

/// The same for `doctor` and `hive_info`.
pub(crate) fn features() -> Vec<(&'static str, HostFeature)> {
    let facts = look_at();
    let of = |ability: Ability, there: &str| match ability {
        Ability::There => HostFeature { supported: true, why: there.to_owned() },
        Ability::Missing { why } => HostFeature { supported: false, why },
    };
    let mut features = vec![
        ("raised_limits", of(facts.raise_limits, "a policy can give a process more than who started the hive has")),
        ("raised_priority", of(facts.raise_priority, "a policy can put a worker before others (process.nice)")),
        ("memory_policy", of(facts.memory_policy, "process.numa says which nodes memory comes from")),
    ];
    // An ordinary user's launcher mounts nothing; its inits ask for themselves.
    if nix::unistd::geteuid().is_root() {
        features.push(("mount_api", HostFeature { supported: true, why: MountApi::probe().describe().to_owned() }));
    }
    features
}

fn hard_limit(key: LimitKey) -> Option<(LimitKey, u64)> {
    let (_, hard) = getrlimit(resource(key)?).ok()?;
    (hard != libc::RLIM_INFINITY).then_some((key, hard))
}

/// These capabilities count in the first user namespace alone, whatever root is told in another.
fn ability(capability: Capability) -> Ability {
    let first = std::fs::metadata("/proc/self/ns/user").is_ok_and(|ns| ns.ino() == FIRST_USER_NAMESPACE);
    match caps::has_cap(None, CapSet::Effective, capability) {
        Ok(true) if first => Ability::There,
        Ok(true) => Ability::Missing { why: format!("{capability} of a user namespace does not count for it") },
        _ => Ability::Missing { why: format!("{capability} is missing") },
    }
}
