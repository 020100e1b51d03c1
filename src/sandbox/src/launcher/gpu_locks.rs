//! A GPU is one launcher's at a time, of all hives and `run`s of the machine: each has a ledger of its own and knows nothing of the others'.
//!
//! One lock file for the machine, as for the uids; a byte of it stands for a device node. The open file description lock (fcntl(2),
//! F_OFD_SETLK) is shared by the workers of one launcher that share the GPU and by the MPS daemon on it, and inherited by their inits: it is free
//! when the last of them is gone, however they ended. A simulation's stand-ins are locked among those who simulate with the same file.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use rbee_hive_policy::DeviceKind;

use super::LauncherOptions;
use super::ledger::{Claim, DeviceNumber, Ledger};
use crate::protocol::{LaunchError, LaunchErrorKind};
use crate::step::CallError;

/// Where the lock file lies as root.
const DIRECTORY: &str = "/run/rbee-hive";

/// Locks GPUs.
pub(super) struct GpuLocks {
    path: PathBuf,
    /// The simulation's file; `None` where the nodes are the machine's GPUs.
    simulation: Option<PathBuf>,
}

impl GpuLocks {
    /// An ordinary user can lock out no other user's hive: the locks are among its own.
    pub(super) fn new(options: &LauncherOptions) -> Self {
        let own = || std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| options.state_dir.clone(), |d| Path::new(&d).join("rbee-hive"));
        let directory = if nix::unistd::geteuid().is_root() { DIRECTORY.into() } else { own() };
        let simulation = options.devices.as_ref().map(|file| file.canonicalize().unwrap_or_else(|_| file.clone()));
        Self { path: directory.join("devices.lock"), simulation }
    }

    /// Locks what a worker holds and what an MPS daemon serves, or joins the locks that others of this launcher have.
    ///
    /// Errors: `device_busy` where somebody else has one.
    pub(super) fn lock(&self, (gpus, serves): (&[Claim], &[DeviceNumber]), ledger: &Ledger) -> Result<Vec<Locked>, LaunchError> {
        let mut locked: Vec<Locked> = Vec::new();
        for number in gpus.iter().map(|claim| claim.number).chain(serves.iter().copied()) {
            // A second lock on the same node would be refused for the first.
            if locked.iter().any(|l| l.number == number) {
                continue;
            }
            let ours = ledger.entries.values().flat_map(|e| &e.locks).find(|l| l.number == number);
            locked.push(match ours {
                Some(lock) => lock.clone(),
                None => Locked { number, file: Arc::new(self.take(number)?) },
            });
        }
        Ok(locked)
    }

    /// A worker is gone, with everything in its cgroup: what it alone had is free at once. Other inits that are being born may hold a copy of
    /// the descriptor for a moment yet, as they do of all of the launcher's.
    ///
    /// What is still in use by something that does not die stays locked for as long as this launcher lives, whoever else is on it: the numbers
    /// are given back, for [`Ledger::stuck`].
    pub(super) fn unlock(&self, locks: Vec<Locked>, everything_is_gone: Gone) -> Vec<DeviceNumber> {
        let mut stuck = Vec::new();
        for Locked { number, file } in locks {
            match everything_is_gone {
                Gone::All => {
                    // Without it others of its own are on it, or something that does not die.
                    if let Some(file) = Arc::into_inner(file) {
                        let _ = fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
                    }
                }
                Gone::Not => {
                    // Counted for good: nobody is the last after it.
                    std::mem::forget(file);
                    stuck.push(number);
                }
            }
        }
        stuck
    }

    fn take(&self, number: DeviceNumber) -> Result<OwnedFd, LaunchError> {
        let failed = |call: String| move |e: io::Error| LaunchError::setup("lock the GPU", CallError::new(call, e));
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(failed(format!("mkdir({directory:?})")))?;
        }
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = open.open(&self.path).map_err(failed(format!("open({:?})", self.path)))?;
        let byte = libc::flock { l_start: self.byte(number), l_len: 1, ..whole(libc::F_WRLCK) };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)) {
            Ok(_) => Ok(file.into()),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                let (_, major, minor) = number;
                let text = format!("the device {major}:{minor} is in use by another hive or `rbee-hive run` of this machine");
                Err(LaunchError::new(LaunchErrorKind::DeviceBusy, text)
                    .with_hint("choose another GPU, or end what runs there: `rbee-hive ps` with that hive's --socket lists it"))
            }
            Err(e) => Err(failed("fcntl(F_OFD_SETLK)".into())(e.into())),
        }
    }

    /// FNV-1a over the file and the node's number, within what a file can have. Two that fell together would lock each other out, and no more.
    fn byte(&self, (kind, major, minor): DeviceNumber) -> i64 {
        let file = self.simulation.as_deref().map_or(&[][..], |path| path.as_os_str().as_encoded_bytes());
        let kind = [u8::from(kind == DeviceKind::Block)];
        let bytes = file.iter().copied().chain(kind).chain(major.to_le_bytes()).chain(minor.to_le_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        (hash >> 2).cast_signed()
    }
}

/// One node, locked.
#[derive(Clone, Debug)]
pub(super) struct Locked {
    number: DeviceNumber,
    /// Shared by all of this launcher that are on it.
    file: Arc<OwnedFd>,
}

impl Locked {
    /// For an init to inherit.
    pub(super) fn as_raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Whether a worker has left nothing behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It has not.
    All,
    /// Its cgroup could not be removed.
    Not,
}

/// A lock, or its end, on all of the file.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as libc::c_short, l_whence: libc::SEEK_SET as libc::c_short, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use rbee_hive_devices::Share;

    use super::*;

    /// The fixtures' node.
    const NODE: DeviceNumber = (DeviceKind::Char, 195, 0);

    fn take(locks: &GpuLocks, ledger: &Ledger, number: DeviceNumber) -> Result<Vec<Locked>, LaunchErrorKind> {
        let claim = Claim { number, share: Share::Ways(2) };
        locks.lock((&[claim.clone(), claim], &[]), ledger).map_err(|e| e.kind)
    }

    fn locks(directory: &Path, simulation: Option<&str>) -> GpuLocks {
        GpuLocks { path: directory.join("devices.lock"), simulation: simulation.map(Into::into) }
    }

    #[test]
    fn a_gpu_is_one_launchers_until_its_last_worker_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let locks = |simulation| locks(directory.path(), simulation);
        let (mut hive, other) = (super::super::ledger::tests::shared(&[Share::Ways(2)]), Ledger::new(9, None));
        let first = take(&locks(None), &hive, NODE).unwrap();
        assert_eq!(first.len(), 1, "a node that is named twice is locked once");
        hive.entries.values_mut().for_each(|e| e.locks.clone_from(&first));
        drop(first);
        let second = take(&locks(None), &hive, NODE).expect("it is shared among its own");
        assert_eq!(take(&locks(None), &other, NODE).unwrap_err(), LaunchErrorKind::DeviceBusy, "another launcher's");
        let next = (DeviceKind::Char, 195, 1);
        assert!(take(&locks(None), &other, next).is_ok() && take(&locks(Some("d.toml")), &other, NODE).is_ok(), "that is another device");
        let born = second[0].file.try_clone().unwrap();
        let first: Vec<Locked> = std::mem::take(&mut hive.entries).into_values().flat_map(|e| e.locks).collect();
        assert!(locks(None).unlock(first, Gone::All).is_empty());
        assert_eq!(take(&locks(None), &other, NODE).unwrap_err(), LaunchErrorKind::DeviceBusy, "one is left");
        assert!(locks(None).unlock(second, Gone::All).is_empty());
        let third = take(&locks(None), &other, NODE).expect("what another init has inherited keeps nobody");
        drop(born);
        assert_eq!(locks(None).unlock(third, Gone::Not), [NODE]);
        assert_eq!(take(&locks(None), &other, NODE).unwrap_err(), LaunchErrorKind::DeviceBusy, "something does not die");
    }

    #[test]
    fn an_mps_daemon_is_on_no_gpu_of_another_launcher_and_keeps_others_off_when_its_clients_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let locks = locks(directory.path(), None);
        let (mut hive, other) = (super::super::ledger::tests::shared(&[Share::Ways(2)]), Ledger::new(9, None));
        let serve = |ledger: &Ledger| locks.lock((&[], &[NODE]), ledger).map_err(|e| e.kind);
        let theirs = take(&locks, &other, NODE).unwrap();
        assert_eq!(serve(&hive).unwrap_err(), LaunchErrorKind::DeviceBusy, "somebody else has it");
        assert!(locks.unlock(theirs, Gone::All).is_empty());
        hive.entries.values_mut().for_each(|e| e.locks = serve(&Ledger::new(9, None)).unwrap());
        let client = take(&locks, &hive, NODE).expect("its clients join it");
        assert!(locks.unlock(client, Gone::All).is_empty());
        assert_eq!(take(&locks, &other, NODE).unwrap_err(), LaunchErrorKind::DeviceBusy, "the daemon is still on it");
    }

    #[test]
    fn something_that_does_not_die_keeps_a_gpu_locked_when_a_sharer_ends_cleanly() {
        let directory = tempfile::tempdir().unwrap();
        let locks = locks(directory.path(), None);
        let (mut hive, other) = (super::super::ledger::tests::shared(&[Share::Ways(2)]), Ledger::new(9, None));
        let first = take(&locks, &hive, NODE).unwrap();
        hive.entries.values_mut().for_each(|e| e.locks.clone_from(&first));
        let second = take(&locks, &hive, NODE).unwrap();
        hive.entries.clear();
        assert_eq!(locks.unlock(first, Gone::Not), [NODE]);
        assert!(locks.unlock(second, Gone::All).is_empty());
        assert_eq!(take(&locks, &other, NODE).unwrap_err(), LaunchErrorKind::DeviceBusy);
    }
}
