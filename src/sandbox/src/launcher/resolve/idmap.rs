//! A model that only its owner may read, shown to a worker as the worker's own: an id-mapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP).
//!
//! Nothing on disk changes, nobody else sees it, and the mount is read-only. The map is a user namespace that nobody lives in.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe};
use rbee_hive_policy::Ids;
use rbee_hive_sys::clone::{Cloned, Namespaces, SingleThreaded, clone_process, exit_now};
use rustix::fs::{Mode, OFlags, Stat};

/// How a model is read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'l> {
    /// Who reads it.
    pub(crate) ids: Ids,
    /// That this process may be copied, for a namespace with a map; `None` for a user who may not map others.
    pub(crate) proof: Option<&'l SingleThreaded>,
}

impl Reader<'_> {
    /// Whether what `stat` is about can be read as it is.
    pub(crate) fn may_read(&self, stat: &Stat, needed: u32) -> bool {
        let shift = match stat {
            s if s.st_uid == self.ids.uid => 6,
            s if s.st_gid == self.ids.gid => 3,
            _ => 0,
        };
        (stat.st_mode >> shift) & needed == needed
    }

    /// A user namespace by which the owner of what `stat` is about is seen as the reader.
    ///
    /// Errors: `EACCES` where not even the owner may read it; the kernel's.
    pub(crate) fn map_of(&self, stat: &Stat, needed: u32) -> io::Result<OwnedFd> {
        if (stat.st_mode >> 6) & needed != needed {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let proof = self.proof.ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))?;
        let (release, parent_end) = pipe()?;
        match clone_process(proof, Namespaces::USER, None)? {
            Cloned::Child => {
                drop(parent_end);
                // Until the launcher has what it wants, or is gone.
                let _ = std::fs::File::from(release).read(&mut [0; 1]);
                exit_now(0)
            }
            Cloned::Parent { pid, pidfd: _ } => {
                drop(release);
                let namespace = self.write_maps(stat, pid);
                drop(parent_end);
                waitpid(Pid::from_raw(pid), None)?;
                namespace
            }
        }
    }

    fn write_maps(&self, stat: &Stat, pid: i32) -> io::Result<OwnedFd> {
        std::fs::write(format!("/proc/{pid}/uid_map"), format!("{} {} 1\n", stat.st_uid, self.ids.uid))?;
        std::fs::write(format!("/proc/{pid}/gid_map"), format!("{} {} 1\n", stat.st_gid, self.ids.gid))?;
        let path = format!("/proc/{pid}/ns/user");
        Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}
