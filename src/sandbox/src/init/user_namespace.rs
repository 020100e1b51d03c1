//! A user namespace of the worker's own, in which its uid goes by another number and no capability counts for anything outside.
//!
//! ```text
//!  worker ── unshare(CLONE_NEWUSER), then one byte ──► init: setgroups, uid_map, gid_map of that process
//!         ◄── errno of that, 0 for done ──
//! ```
//! The mounts, the network and the host name belong to the namespace outside: nothing in here can change them. The init writes the maps
//! because the worker may not: it has no capability over its own uid's outside.

use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rbee_hive_policy::SandboxPlan;

use crate::step::{CallError, failed};

/// The two ends by which worker and init agree.
pub(crate) struct Mapping {
    worker: OwnedFd,
    init: OwnedFd,
}

impl Mapping {
    /// For a plan that wants such a namespace.
    pub(super) fn of(plan: &SandboxPlan) -> Result<Option<Self>, CallError> {
        if plan.credentials.inside.is_none() {
            return Ok(None);
        }
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (worker, init) = pair.map_err(failed(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)".into()))?;
        let high = |fd| rbee_hive_sys::fds::above_stdio(fd).map_err(failed(|| "fcntl(F_DUPFD_CLOEXEC, 3)".into()));
        Ok(Some(Self { worker: high(worker)?, init: high(init)? }))
    }

    /// In the worker process: enters the namespace; afterwards its ids are those of the plan's `inside`.
    pub(super) fn enter(&self) -> Result<(), CallError> {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| {
            CallError::new("unshare(CLONE_NEWUSER)", e).hint("raise the sysctl user.max_user_namespaces, or use user = \"per-worker\"")
        })?;
        rustix::io::write(&self.worker, b"m").map_err(failed(|| "write(mapping)".into()))?;
        let mut answer = [0; 4];
        match rustix::io::read(&self.worker, &mut answer).map_err(failed(|| "read(mapping)".into()))? {
            4 if answer == [0; 4] => Ok(()),
            4 => Err(CallError::new("write(uid_map, gid_map)", io::Error::from_raw_os_error(i32::from_ne_bytes(answer)))),
            _ => Err(CallError::new("read(mapping)", io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }

    /// In the init: waits until the worker `pid` is in its namespace, or has ended on the way, and writes its maps.
    pub(super) fn serve(self, plan: &SandboxPlan, pid: i32) -> Result<(), CallError> {
        drop(self.worker);
        let mut asked = [0; 1];
        if rustix::io::read(&self.init, &mut asked).map_err(failed(|| "read(mapping)".into()))? == 0 {
            return Ok(()); // what it has to say is in its report
        }
        let errno = write_maps(plan, pid).err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::EIO));
        rustix::io::write(&self.init, &errno.to_ne_bytes()).map(drop).map_err(failed(|| "write(mapping)".into()))
    }
}

fn write_maps(plan: &SandboxPlan, pid: i32) -> io::Result<()> {
    let who = &plan.credentials;
    let Some(inside) = who.inside else { return Ok(()) };
    std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    std::fs::write(format!("/proc/{pid}/uid_map"), format!("{} {} 1\n", inside.uid, who.uid))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), format!("{} {} 1\n", inside.gid, who.gid))
}
