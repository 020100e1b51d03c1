//! What the init keeps once the worker runs: enough to end it, to speak with its uid, and nothing else.

use caps::{CapSet, Capability, CapsHashSet};
use rbee_hive_policy::SandboxPlan;

use crate::step::{CallError, failed};

/// Signals to another uid; `seteuid` for connections in the worker's name.
const KEPT: [Capability; 3] = [Capability::CAP_KILL, Capability::CAP_SETUID, Capability::CAP_SETGID];

/// To read the words of a call from the memory of a process that may have made itself unreadable. It reaches no further than the sandbox's
/// own pid namespace.
const TO_WATCH: [Capability; 1] = [Capability::CAP_SYS_PTRACE];

/// Drops all capabilities but three, for a watched worker but four, from the bounding set as well. The init never executes anything.
pub(super) fn keep_what_an_init_needs(plan: &SandboxPlan) -> Result<(), CallError> {
    let fail = |what: &'static str| move |e: caps::errors::CapsError| CallError::new(what, std::io::Error::other(e.to_string()));
    let have = caps::read(None, CapSet::Permitted).map_err(fail("capget"))?;
    let more = TO_WATCH.into_iter().filter(|_| plan.watch.is_some());
    let kept: CapsHashSet = KEPT.into_iter().chain(more).filter(|c| have.contains(c)).collect();
    if have.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::runtime::procfs_all_supported(None).map_err(fail("read(cap_last_cap)"))? {
            if !kept.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(fail("prctl(PR_CAPBSET_DROP)"))?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(fail("prctl(PR_CAP_AMBIENT_CLEAR_ALL)"))?;
    caps::clear(None, CapSet::Inheritable).map_err(fail("capset(inheritable)"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(fail("capset(effective)"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(fail("capset(permitted)"))?;
    nix::sys::prctl::set_no_new_privs().map_err(failed(|| "prctl(PR_SET_NO_NEW_PRIVS)".into()))
}
