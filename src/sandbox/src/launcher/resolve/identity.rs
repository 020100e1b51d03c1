//! Who a worker is: a uid of its own, the same seen as another from a user namespace, or a user of the host.

use nix::unistd::{Uid, User, getegid, geteuid, getppid};
use rbee_hive_policy::Ids;

use crate::launcher::LauncherOptions;
use crate::launcher::uids::{UidLease, Uids};
use crate::protocol::{LaunchError, LaunchErrorKind};
use crate::step::CallError;

/// What a worker in a user namespace of its own believes to be.
const INSIDE: Ids = Ids { uid: 1000, gid: 1000 };

/// The ids of one worker.
pub(crate) struct Identity {
    /// On the host.
    pub(crate) ids: Ids,
    /// In a user namespace of the worker's own.
    pub(crate) inside: Option<Ids>,
    /// Held for as long as the worker lives.
    pub(crate) lease: Option<UidLease>,
}

/// Who a worker under `user` is.
pub(crate) fn identify(user: &str, uids: &mut Uids, options: &LauncherOptions) -> Result<Identity, LaunchError> {
    let own = Ids { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    match user {
        "per-worker" | "user-namespace" if own.uid == 0 => {
            let lease = lease(uids)?;
            check_mapped(lease.uid, options)?;
            let ids = Ids { uid: lease.uid, gid: lease.uid };
            Ok(Identity { ids, inside: (user == "user-namespace").then_some(INSIDE), lease: Some(lease) })
        }
        // One uid is all that there is, and it is in a user namespace anyway.
        "per-worker" | "user-namespace" => Ok(Identity { ids: own, inside: None, lease: None }),
        name => {
            let ids = look_up(name)?;
            if own.uid != 0 && ids.uid != own.uid {
                let text = format!(
                    "credentials.user {name:?} can't be enforced here: a hive that is not root's runs workers as nobody but its own user"
                );
                return Err(LaunchError::new(LaunchErrorKind::NotEnforceable, text));
            }
            if own.uid == 0 {
                check(name, ids, options)?;
            }
            Ok(Identity { ids, inside: None, lease: None })
        }
    }
}

fn lease(uids: &mut Uids) -> Result<UidLease, LaunchError> {
    let lease = uids.lease().map_err(|e| LaunchError::setup("lease a uid", CallError::new("fcntl(F_OFD_SETLK)", e)))?;
    lease.ok_or_else(|| {
        LaunchError::new(LaunchErrorKind::AtCapacity, "every uid for workers is in use").with_hint("widen worker_uids in the configuration")
    })
}

/// In a container's user namespace most numbers are nobody's.
fn check_mapped(uid: u32, options: &LauncherOptions) -> Result<(), LaunchError> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if covers(&map, uid) {
        return Ok(());
    }
    let (first, last) = (options.worker_uids.start(), options.worker_uids.end());
    let text =
        format!("credentials.user can't be enforced here: the uids for workers, {first}-{last}, are not mapped in this user namespace");
    Err(LaunchError::new(LaunchErrorKind::NotEnforceable, text).with_hint(format!(
        "set worker_uids in the configuration to a range that is (/proc/self/uid_map has {}), or map more to the container",
        map.split_whitespace().collect::<Vec<_>>().join(" ")
    )))
}

/// Whether a uid_map has `uid` inside; lines are "inside outside count" (user_namespaces(7)).
fn covers(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (inside, count) = (words.next().unwrap_or(0), words.nth(1).unwrap_or(0));
        (inside..inside.saturating_add(count)).contains(&u64::from(uid))
    })
}

/// A name, or a number that need not have one; the group is the user's own, or of the same number.
pub(crate) fn look_up(name: &str) -> Result<Ids, LaunchError> {
    let number = name.parse::<u32>().ok();
    let found = match number {
        Some(number) => User::from_uid(Uid::from_raw(number)),
        None => User::from_name(name),
    };
    let found = found.map_err(|e| LaunchError::setup("look up the user", CallError::new(format!("getpwnam({name:?})"), e)))?;
    match (found, number) {
        (Some(user), _) => Ok(Ids { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        (None, Some(number)) => Ok(Ids { uid: number, gid: number }),
        (None, None) => {
            let text = format!("credentials.user {name:?} can't be enforced here: this host has no such user");
            Err(LaunchError::new(LaunchErrorKind::NotEnforceable, text).with_hint("make it (useradd --system), or use \"per-worker\""))
        }
    }
}

/// No worker is root, the hive, or somebody whom the launcher may give another worker at the same time.
fn check(name: &str, ids: Ids, options: &LauncherOptions) -> Result<(), LaunchError> {
    let hive = procfs::process::Process::new(getppid().as_raw()).and_then(|p| p.status()).map(|s| s.euid).ok();
    let why = match ids {
        Ids { uid: 0, .. } | Ids { gid: 0, .. } => "is root, or of root's group",
        Ids { uid: u32::MAX, .. } | Ids { gid: u32::MAX, .. } => "is no uid",
        Ids { uid, .. } if options.worker_uids.contains(&uid) => "is one of the uids that workers get for themselves",
        Ids { uid, .. } if hive == Some(uid) => "is who the hive runs as",
        _ => return Ok(()),
    };
    Err(LaunchError::new(LaunchErrorKind::InvalidPolicy, format!("credentials.user {name:?} {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_maps_some_uids_and_the_host_all() {
        let container = "         0       1000          1\n         1     100000      65536\n";
        assert!(covers(container, 0) && covers(container, 65_536) && !covers(container, 65_537) && !covers(container, 1_879_048_192));
        assert!(covers("0 0 4294967295\n", 1_879_048_192) && !covers("", 0));
    }

    #[test]
    fn a_user_is_looked_up_by_name_and_by_number() {
        assert_eq!(look_up("root").unwrap(), Ids { uid: 0, gid: 0 });
        assert_eq!(look_up("4000000").unwrap(), Ids { uid: 4_000_000, gid: 4_000_000 });
        assert_eq!(look_up("no-such-user-here").unwrap_err().kind, LaunchErrorKind::NotEnforceable);
    }
}
