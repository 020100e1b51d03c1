//! From root to nobody in particular, for good.

use anyhow::{Context as _, bail};
use caps::CapSet;
use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};

use crate::args::ServeArgs;
use crate::http::group_id;

/// The user of a hive that root starts without `--user`.
const DEFAULT_USER: &str = "rbee-hive";
/// Its uid and gid where there is no such user: the one just below the workers' own (see `worker_uids`).
const DEFAULT_UID: u32 = 1_879_048_191;

/// Who the hive becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// By `--user` and `--group`, by name or number.
    pub(super) fn resolve(options: &ServeArgs) -> anyhow::Result<Self> {
        let found = |text: &str| match text.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(text),
        };
        let name = options.user.as_deref().unwrap_or(DEFAULT_USER);
        let (uid, own_gid) = match (found(name).with_context(|| format!("look up the user {name:?}"))?, name.parse()) {
            (Some(user), _) => (user.uid.as_raw(), user.gid.as_raw()),
            (None, Ok(uid)) => (uid, uid),
            (None, Err(_)) if options.user.is_none() => (DEFAULT_UID, DEFAULT_UID),
            (None, Err(_)) => bail!("there is no user {name:?}"),
        };
        let gid = match options.group.as_deref() {
            Some(group) => group_id(group).with_context(|| format!("there is no group {group:?}"))?,
            None => own_gid,
        };
        if uid == 0 {
            bail!("--user {name} is root: the hive must not keep its privileges");
        }
        Ok(Self { uid, gid })
    }
}

/// Gives up every privilege of this process, which must have no threads yet: credentials belong to threads.
pub(super) fn drop_to(account: Account) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    // The bounding set needs CAP_SETPCAP, so it goes first; with it, nothing that is ever executed can gain a capability.
    caps::clear(None, CapSet::Ambient).context("clear the ambient capabilities")?;
    caps::clear(None, CapSet::Inheritable).context("clear the inheritable capabilities")?;
    for capability in caps::runtime::procfs_all_supported(None).unwrap_or_else(|_| caps::runtime::thread_all_supported()) {
        caps::drop(None, CapSet::Bounding, capability).with_context(|| format!("drop {capability} from the bounding set"))?;
    }
    setgroups(&[]).context("drop the supplementary groups: setgroups([])")?;
    setgid(gid).with_context(|| format!("setgid({gid})"))?;
    setuid(uid).with_context(|| format!("setuid({uid})"))?;
    caps::clear(None, CapSet::Effective).context("clear the effective capabilities")?;
    caps::clear(None, CapSet::Permitted).context("clear the permitted capabilities")?;
    nix::sys::prctl::set_no_new_privs().context("prctl(PR_SET_NO_NEW_PRIVS)")?;
    verify(account)
}

/// Trust, then verify: a hive that is still root by some oversight must not listen.
fn verify(account: Account) -> anyhow::Result<()> {
    let status = procfs::process::Process::myself().and_then(|p| p.status()).context("read /proc/self/status")?;
    let ids = [status.ruid, status.euid, status.suid, status.fuid].iter().all(|uid| *uid == account.uid);
    let sets = [status.capinh, status.capprm, status.capeff, status.capbnd.unwrap_or(0), status.capamb.unwrap_or(0)];
    if !ids || sets.iter().any(|set| *set != 0) {
        bail!(
            "privileges are still there after dropping them: uids {} {} {} {}, capabilities {sets:x?}",
            status.ruid,
            status.euid,
            status.suid,
            status.fuid
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_number_and_root_is_refused() {
        let by = |user: &str| Account::resolve(&ServeArgs { user: Some(user.into()), ..ServeArgs::default() });
        assert_eq!(by("1879048000").unwrap(), Account { uid: 1_879_048_000, gid: 1_879_048_000 });
        assert!(by("root").is_err() && by("0").is_err() && by("no-such-user-here").is_err());
    }
}
