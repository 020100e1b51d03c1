//! Acts with the worker's uid: what the worker may not do, or not see, the init does not do for it.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid, setfsgid, setfsuid};
use rbee_hive_policy::Credentials;

/// Carries `act` out with the worker's effective uid and gid.
///
/// Errors: seteuid(2) or setegid(2) refused, and nothing was done. An init that could not come back to its own uid ends: it must not go on.
pub(super) fn as_worker<T>(who: &Credentials, act: impl FnOnce() -> T) -> Result<T, Errno> {
    let (uid, gid) = (geteuid(), getegid());
    setegid(Gid::from_raw(who.gid))?;
    let done = seteuid(Uid::from_raw(who.uid)).map(|()| act());
    if seteuid(uid).is_err() || setegid(gid).is_err() {
        rbee_hive_sys::clone::exit_now(1);
    }
    done
}

/// Carries `act` out with the worker's uid and gid for files alone, which is what `/proc` asks for (ptrace(2), PTRACE_MODE_FSCREDS). The
/// effective ones stay: they own the worker's user namespace, where it has one.
///
/// Errors: `EPERM` where they could not be taken. An init that could not come back to its own ends, as above.
pub(super) fn with_its_eyes<T>(who: &Credentials, act: impl FnOnce() -> T) -> Result<T, Errno> {
    let (uid, gid) = (geteuid(), getegid());
    let (its_uid, its_gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
    let taken = take(its_uid, its_gid);
    let done = taken.then(act);
    if !take(uid, gid) {
        rbee_hive_sys::clone::exit_now(1);
    }
    done.ok_or(Errno::EPERM)
}

/// Whether they are in force afterwards: the calls report no error, but those with a number that nobody has tell what is (setfsuid(2)).
fn take(uid: Uid, gid: Gid) -> bool {
    setfsgid(gid);
    setfsuid(uid);
    (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX))) == (uid, gid)
}
