//! From the init's root to the worker's uid, with the capabilities that the policy names and no way to gain another.

use std::io;
use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let who = &context.plan.credentials;
    let kept = parse(&who.capabilities)?;
    // In a user namespace of one user setgroups(2) was given up for its maps, and groups that are not mapped stay (told as credentials.groups).
    if !context.plan.user_namespace {
        setgroups(&[]).map_err(failed(|| "setgroups([])".into()))?;
    }
    if let Some(mapping) = &context.mapping {
        mapping.enter()?;
    }
    // After that: a new user namespace begins with all capabilities and no securebits.
    drop_bounding(&kept)?;
    lock_securebits(&kept)?;
    let (uid, gid) = who.inside.map_or((who.uid, who.gid), |inside| (inside.uid, inside.gid));
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid).map_err(failed(|| format!("setresgid({gid})")))?;
    setresuid(uid, uid, uid).map_err(failed(|| format!("setresuid({uid})")))?;
    set_capabilities(&kept)?;
    prctl::set_no_new_privs().map_err(failed(|| "prctl(PR_SET_NO_NEW_PRIVS)".into()))
}

fn parse(names: &[String]) -> Result<CapsHashSet, CallError> {
    let invalid = |name: &String| CallError::new(format!("parse capability {name:?}"), io::Error::from_raw_os_error(libc::EINVAL));
    names.iter().map(|name| Capability::from_str(name).map_err(|_| invalid(name))).collect()
}

fn caps_failed(call: &'static str) -> impl FnOnce(caps::errors::CapsError) -> CallError {
    move |e| CallError::new(call, io::Error::other(e.to_string()))
}

/// The kernel's list, not the crate's: a newer kernel has capabilities that the crate does not know, and those must go as well.
fn drop_bounding(kept: &CapsHashSet) -> Result<(), CallError> {
    for capability in caps::runtime::procfs_all_supported(None).map_err(caps_failed("read(/proc/sys/kernel/cap_last_cap)"))? {
        if !kept.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(caps_failed("prctl(PR_CAPBSET_DROP)"))?;
        }
    }
    Ok(())
}

/// uid 0 and set-user-ID programs mean nothing for capabilities any more, here and in all that this process starts (capabilities(7)).
/// Needs CAP_SETPCAP, so it comes before the uid.
fn lock_securebits(kept: &CapsHashSet) -> Result<(), CallError> {
    use rustix::thread::CapabilitiesSecureBits as Bits;
    let mut bits = Bits::NO_ROOT | Bits::NO_ROOT_LOCKED | Bits::NO_SETUID_FIXUP | Bits::NO_SETUID_FIXUP_LOCKED | Bits::KEEP_CAPS_LOCKED;
    if kept.is_empty() {
        bits |= Bits::NO_CAP_AMBIENT_RAISE | Bits::NO_CAP_AMBIENT_RAISE_LOCKED;
    }
    rustix::thread::set_capabilities_secure_bits(bits).map_err(failed(|| format!("prctl(PR_SET_SECUREBITS, {bits:?})")))
}

/// Ambient and inheritable first; effective must shrink before permitted, and ambient can only be raised from both (capabilities(7)).
fn set_capabilities(kept: &CapsHashSet) -> Result<(), CallError> {
    caps::clear(None, CapSet::Ambient).map_err(caps_failed("prctl(PR_CAP_AMBIENT_CLEAR_ALL)"))?;
    caps::set(None, CapSet::Inheritable, kept).map_err(caps_failed("capset(inheritable)"))?;
    caps::set(None, CapSet::Effective, kept).map_err(caps_failed("capset(effective)"))?;
    caps::set(None, CapSet::Permitted, kept).map_err(caps_failed("capset(permitted)"))?;
    for capability in kept {
        caps::raise(None, CapSet::Ambient, *capability).map_err(caps_failed("prctl(PR_CAP_AMBIENT_RAISE)"))?;
    }
    Ok(())
}
