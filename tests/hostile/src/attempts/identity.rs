//! Becoming somebody else.

use std::process::Command;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgid, setgroups, setresgid, setresuid, setuid};

use crate::attempt::{Outcome, attempts};
use crate::raw::{self, n, t};

attempts! {
    Harmless "setuid 0" => setuid(Uid::from_raw(0)),
    Harmless "setresuid a neighbour's" => setresuid(neighbour(), neighbour(), neighbour()),
    Harmless "setgid 0" => setgid(Gid::from_raw(0)),
    Harmless "setresgid a neighbour's" => setresgid(Gid::from_raw(4), Gid::from_raw(4), Gid::from_raw(4)),
    Harmless "setgroups 0" => setgroups(&[Gid::from_raw(0)]),
    Harmless "capability CAP_SYS_ADMIN effective" => raise(CapSet::Effective, Capability::CAP_SYS_ADMIN),
    Harmless "capability CAP_SETUID inheritable" => raise(CapSet::Inheritable, Capability::CAP_SETUID),
    Harmless "capability CAP_SYS_PTRACE permitted" => raise(CapSet::Permitted, Capability::CAP_SYS_PTRACE),
    Harmless "capability CAP_CHOWN ambient" => ambient(),
    Harmless "capability out of the bounding set" => raw::call(libc::SYS_prctl, &[n(24), n(0), n(0), n(0), n(0)]),
    Harmless "securebits" => raw::call(libc::SYS_prctl, &[n(28), n(0), n(0), n(0), n(0)]),
    Harmless "take no_new_privs back" => take_back(),
    Harmful "set-user-ID program" => by_set_user_id(),
    Harmless "join a session keyring" => rbee_hive_sys::keyring::join_new_session(),
    Harmless "add a key" => raw::call(libc::SYS_add_key, &[t("user"), t("hostile"), t("x"), n(1), n(-1)]),
    Harmless "ask for a key" => raw::call(libc::SYS_keyctl, &[n(0), n(-3), n(0), n(0), n(0)]),
}

fn neighbour() -> Uid {
    Uid::from_raw(Uid::current().as_raw().wrapping_add(1))
}

/// That it is in the set afterwards is what counts: an error of the crate has no errno, and raising what one has is no gain.
fn raise(set: CapSet, capability: Capability) -> Outcome {
    let _ = caps::raise(None, set, capability);
    match caps::has_cap(None, set, capability) {
        Ok(true) => Outcome::Done("it is in the set".into()),
        _ => Outcome::Refused(Errno::EPERM),
    }
}

fn ambient() -> Outcome {
    let _ = caps::raise(None, CapSet::Inheritable, Capability::CAP_CHOWN);
    raise(CapSet::Ambient, Capability::CAP_CHOWN)
}

/// There is no call for it: setting it to 0 is EINVAL, and it stays.
fn take_back() -> Outcome {
    let _ = raw::call(libc::SYS_prctl, &[n(38), n(0), n(0), n(0), n(0)]);
    match nix::sys::prctl::get_no_new_privs() {
        Ok(true) => Outcome::Refused(Errno::EINVAL),
        Ok(false) => Outcome::Done("it is off".into()),
        Err(e) => Outcome::Refused(e),
    }
}

/// A copy of `id` that belongs to root and has the bit, made beside the shared programs by the test.
fn by_set_user_id() -> Outcome {
    let Some(program) = crate::bait::get("set-user-id") else { return Outcome::Untried("no bait") };
    match Command::new(program).arg("-u").output() {
        Ok(output) if output.stdout == b"0\n" => Outcome::Done("it ran as root".into()),
        Ok(output) if output.status.success() => Outcome::Refused(Errno::EPERM),
        Ok(_) => Outcome::Untried("it did not run"),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}
