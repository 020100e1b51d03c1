//! Directories of a hive: their defaults, and their making.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::privileges::Account;
use crate::args::PlaceArgs;

/// Where a hive keeps its things; all paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Socket, lock, records.
    pub(super) state: PathBuf,
    /// The workers' logs.
    pub(super) log: PathBuf,
}

/// The state directory of a hive that root starts.
const ROOT_STATE: &str = "/run/rbee-hive";
/// Its log directory.
const ROOT_LOG: &str = "/var/log/rbee-hive";

impl Places {
    /// Fills the defaults in. `runtime_dir` is `$XDG_RUNTIME_DIR`, used when not root.
    pub(super) fn resolve(args: &PlaceArgs, starter: Starter, runtime_dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let (state, default_log) = match (&args.state_dir, starter, runtime_dir) {
            (Some(dir), _, _) => (dir.clone(), None),
            (None, Starter::Root, _) => (ROOT_STATE.into(), Some(PathBuf::from(ROOT_LOG))),
            (None, Starter::Other, Some(dir)) => (dir.join("rbee-hive"), None),
            (None, Starter::Other, None) => bail!("find a state directory: XDG_RUNTIME_DIR is not set; give one with --state-dir"),
        };
        let state = std::path::absolute(&state).with_context(|| format!("resolve the state directory {state:?}"))?;
        let log = args.log_dir.clone().or(default_log).unwrap_or_else(|| state.join("log"));
        let log = std::path::absolute(&log).with_context(|| format!("resolve the log directory {log:?}"))?;
        Ok(Self { state, log })
    }

    /// Makes what is missing. `account` is what the hive becomes; `hive/` is its, everything else stays the starter's.
    pub(super) fn make(&self, account: Option<&Account>) -> anyhow::Result<()> {
        make_dir(&self.state, 0o755)?;
        make_dir(&self.log, 0o755)?;
        let records = [self.state.join("workers"), self.log.join("workers")];
        let own = self.state.join("hive");
        for dir in &records {
            make_dir(dir, 0o750)?;
        }
        make_dir(&own, 0o700)?;
        if let Some(account) = account {
            for dir in &records {
                chown(dir, Some(0), Some(account.gid)).with_context(|| format!("give {dir:?} to group {}", account.gid))?;
            }
            chown(&own, Some(account.uid), Some(account.gid)).with_context(|| format!("give {own:?} to uid {}", account.uid))?;
        }
        Ok(())
    }

    /// The hive's own directory, opened.
    pub(super) fn open_own(&self) -> anyhow::Result<OwnedFd> {
        let path = self.state.join("hive");
        Ok(File::open(&path).with_context(|| format!("open the hive's directory {path:?}"))?.into())
    }

    /// The workers' log directory, opened.
    pub(super) fn open_logs(&self) -> anyhow::Result<OwnedFd> {
        let path = self.log.join("workers");
        Ok(File::open(&path).with_context(|| format!("open the log directory {path:?}"))?.into())
    }
}

/// Who started the hive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starter {
    /// Root: privileges are dropped later.
    Root,
    /// Anybody else: nothing to drop.
    Other,
}

impl Starter {
    /// By the effective uid.
    pub(super) fn current() -> Self {
        if nix::unistd::geteuid().is_root() { Self::Root } else { Self::Other }
    }
}

/// Makes a directory with `mode` whatever the umask, or checks that an existing one is ours alone to write.
fn make_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    let made = match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().with_context(|| format!("create {path:?}: it has no parent"))?;
            make_dir(parent, 0o755)?;
            DirBuilder::new().mode(mode).create(path)
        }
        other => other,
    };
    match made {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("set the mode of {path:?}")),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_dir(path),
        Err(e) => Err(e).with_context(|| format!("create the directory {path:?}")),
    }
}

fn check_dir(path: &Path) -> anyhow::Result<()> {
    let meta = path.metadata().with_context(|| format!("look at {path:?}"))?;
    if !meta.is_dir() {
        bail!("{path:?} is not a directory");
    }
    if meta.mode() & 0o022 != 0 {
        bail!("{path:?} can be written by others (mode {:o}): chmod go-w it, or name another directory", meta.mode() & 0o7777);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_depend_on_who_starts_the_hive() {
        let args = PlaceArgs::default();
        let root = Places::resolve(&args, Starter::Root, None).unwrap();
        assert_eq!(root, Places { state: ROOT_STATE.into(), log: ROOT_LOG.into() });
        let user = Places::resolve(&args, Starter::Other, Some("/run/user/7".into())).unwrap();
        assert_eq!(user, Places { state: "/run/user/7/rbee-hive".into(), log: "/run/user/7/rbee-hive/log".into() });
        assert!(Places::resolve(&args, Starter::Other, None).is_err());
        let given = PlaceArgs { state_dir: Some("/x".into()), ..args };
        assert_eq!(Places::resolve(&given, Starter::Root, None).unwrap().log, Path::new("/x/log"));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(make_dir(&open, 0o755).is_err());
        make_dir(&dir.path().join("a/b"), 0o750).unwrap();
        assert_eq!(dir.path().join("a/b").metadata().unwrap().mode() & 0o777, 0o750);
    }
}
