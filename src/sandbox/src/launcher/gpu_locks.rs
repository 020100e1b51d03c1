//! A GPU is one launcher's at a time, of all hives and `run`s of the machine: each has a ledger of its own and knows nothing of the others'.
//!
//! One lock file for the machine, as for the uids; a byte of it stands for a device node. The open file description lock (fcntl(2),
//! F_OFD_SETLK) is shared by the workers of one launcher that share the GPU, and inherited by their inits: it is free when the last of them
//! is gone, however they ended. A simulation's stand-ins are locked among those who simulate with the same file.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
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

    /// Locks what is claimed, or joins the lock that a worker of this launcher has.
    ///
    /// Errors: `device_busy` where somebody else has it.
    pub(super) fn lock(&self, mut claims: Vec<Claim>, ledger: &Ledger) -> Result<Vec<Claim>, LaunchError> {
        for claim in &mut claims {
            let ours = ledger.entries.values().flat_map(|e| &e.gpus).filter(|other| other.number == claim.number);
            claim.lock = match ours.filter_map(|other| other.lock.clone()).next() {
                Some(lock) => Some(lock),
                None => Some(Arc::new(self.take(claim.number)?)),
            };
        }
        Ok(claims)
    }

    /// A worker is gone, with everything in its cgroup: what it alone had is free at once. Other inits that are being born may hold a copy of
    /// the descriptor for a moment yet, as they do of all of the launcher's.
    ///
    /// What is still in use by something that does not die stays locked for as long as this launcher lives.
    pub(super) fn unlock(&self, claims: Vec<Claim>, everything_is_gone: Gone) {
        for lock in claims.into_iter().filter_map(|claim| claim.lock) {
            match (everything_is_gone, Arc::into_inner(lock)) {
                (Gone::All, Some(file)) => drop(fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)))),
                (Gone::Not, Some(file)) => drop(file.into_raw_fd()),
                // Others of its own are on it.
                (_, None) => {}
            }
        }
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

    fn claims(minor: u32) -> Vec<Claim> {
        vec![Claim { number: (DeviceKind::Char, 195, minor), share: Share::Ways(2), lock: None }]
    }

    #[test]
    fn a_gpu_is_one_launchers_until_its_last_worker_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let locks =
            |simulation: Option<&str>| GpuLocks { path: directory.path().join("devices.lock"), simulation: simulation.map(Into::into) };
        let (mut hive, other) = (super::super::ledger::tests::shared(&[Share::Ways(2)]), Ledger::new(9, None));
        let take = |locks: &GpuLocks, ledger: &Ledger, minor| locks.lock(claims(minor), ledger).map_err(|e| e.kind);
        let first = take(&locks(None), &hive, 0).unwrap();
        hive.entries.values_mut().for_each(|e| e.gpus.clone_from(&first));
        drop(first);
        let second = take(&locks(None), &hive, 0).expect("it is shared among its own");
        assert_eq!(take(&locks(None), &other, 0).unwrap_err(), LaunchErrorKind::DeviceBusy, "another launcher's");
        assert!(take(&locks(None), &other, 1).is_ok() && take(&locks(Some("d.toml")), &other, 0).is_ok(), "that is another device");
        let born = second[0].lock.as_ref().unwrap().try_clone().unwrap();
        let gpus: Vec<Claim> = std::mem::take(&mut hive.entries).into_values().flat_map(|e| e.gpus).collect();
        locks(None).unlock(gpus, Gone::All);
        assert_eq!(take(&locks(None), &other, 0).unwrap_err(), LaunchErrorKind::DeviceBusy, "one is left");
        locks(None).unlock(second, Gone::All);
        let third = take(&locks(None), &other, 0).expect("what another init has inherited keeps nobody");
        drop(born);
        locks(None).unlock(third, Gone::Not);
        assert_eq!(take(&locks(None), &other, 0).unwrap_err(), LaunchErrorKind::DeviceBusy, "something does not die");
    }
}
