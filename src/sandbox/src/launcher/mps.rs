//! MPS daemons: which may be started, and who may be a client of which.
//!
//! ```text
//!  hive: "a daemon for these GPUs, policy p" ──► p wants MPS, nobody has them alone ──► a sandbox like a worker's, under the policy `mps`
//!  hive: "worker w under p, client of d" ──► d lives and has the same GPUs ──► d's uid, d's /dev/shm
//! ```
//! The hive says when, the launcher says whether: a hive that was taken over gets no daemon for GPUs that somebody has alone, none where no
//! policy wants one, and no worker into the `/dev/shm` of workers on other GPUs.
//!
//! Must never know: what a daemon and its clients say to each other.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rbee_hive_devices::{Share, Vendor};
use rbee_hive_policy::{Command, GpuShare, MPS_POLICY, Mps, MpsFacts, MpsPlan, MpsWish, Policy, WorkerId, WorkerRequest, mps_obstacle};
use rbee_hive_sys::clone::{Cloned, Namespaces, clone_process, exit_now};
use rustix::fs::{CWD, Stat, stat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Signal, pidfd_send_signal};

use super::Purpose;
use super::audit::clipped;
use super::ledger::Entry;
use super::resolve::identity::{self, Identity};
use super::serve::Launcher;
use super::uids::UidLease;
use crate::mount_tree::Tree;
use crate::protocol::{LaunchError, LaunchErrorKind};

/// Where a daemon and its clients meet.
const SHM: &str = "/dev/shm";
/// How long a copy of this process may take for a few calls.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest text of the hive's that is passed on.
const MAX_WHY: usize = 1024;

/// What a client has of its daemon.
struct Joined {
    server: WorkerId,
    who: Identity,
    shm: Tree,
    shm_size: u64,
}

impl Launcher {
    /// A daemon runs under its own policy and nothing else does; it is started only for a policy that wants it.
    ///
    /// The policy that it has: with the path of the configuration, and the user of its clients.
    pub(super) fn policy_of(&self, request: &WorkerRequest, mut policy: Policy) -> Result<Policy, LaunchError> {
        let refuse = |kind, text: &str| Err(LaunchError::new(kind, text));
        let Command::Mps { clients } = &request.command else {
            return match request.policy == MPS_POLICY && self.options.purpose == Purpose::Serve {
                true => refuse(LaunchErrorKind::PolicyViolation, "the policy \"mps\" is for MPS daemons, which the hive starts itself"),
                false => Ok(policy),
            };
        };
        if request.policy != MPS_POLICY || request.mps.is_some() || request.lease.is_some() {
            return refuse(LaunchErrorKind::InvalidParams, "an MPS daemon has the policy \"mps\" and no lease");
        }
        let theirs = self.policies.load(clients)?.policy;
        if theirs.devices.mps == Mps::Off || theirs.devices.share == GpuShare::Exclusive {
            let text = format!("the policy {:?} wants no MPS daemon for GPUs that are shared", clipped(clients, 64));
            return refuse(LaunchErrorKind::PolicyViolation, &text);
        }
        self.can_serve(request, &theirs).map_err(|why| LaunchError::new(LaunchErrorKind::NotEnforceable, why))?;
        policy.credentials.user = theirs.credentials.user;
        if let Some(path) = &self.options.mps_control {
            policy.worker.binary = path.display().to_string();
            // The server's program lies beside it.
            policy.worker.binary_dirs.extend(path.parent().map(Into::into));
        }
        Ok(policy)
    }

    fn can_serve(&self, request: &WorkerRequest, theirs: &Policy) -> Result<(), String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("an MPS daemon that several sandboxes reach needs a hive of root".into());
        }
        if let Some(why) = mps_obstacle(theirs) {
            return Err(why.into());
        }
        let vendor = |name: &String| self.inventory.gpus.iter().find(|g| format!("GPU-{}", g.index) == **name).map(|g| g.vendor);
        match request.devices.iter().find(|name| vendor(name) != Some(Vendor::Nvidia)) {
            Some(name) => Err(format!("MPS is NVIDIA's, and {} is no GPU of theirs", clipped(name, 64))),
            None => Ok(()),
        }
    }

    /// Who it is, and what it has of its group's MPS daemon; that one's `/dev/shm` becomes one of its trees.
    pub(super) fn identify(
        &mut self,
        request: &WorkerRequest,
        policy: &Policy,
        (share, trees): (Share, &mut Vec<Tree>),
    ) -> Result<(Identity, MpsFacts), LaunchError> {
        let wants = policy.devices.mps != Mps::Off && request.devices.iter().any(|name| name.starts_with("GPU-"));
        let facts = match wants.then(|| self.join_mps(request, policy, share)) {
            Some(Ok(joined)) => {
                trees.push(joined.shm);
                return Ok((joined.who, MpsFacts::There { server: joined.server, shm: trees.len() - 1, shm_size: joined.shm_size }));
            }
            Some(Err(why)) => MpsFacts::Missing { why },
            None => MpsFacts::default(),
        };
        Ok((identity::identify(&policy.credentials.user, &mut self.uids, &self.options)?, facts))
    }

    /// What the worker has of the daemon that the hive names for it, or why it is no client.
    fn join_mps(&self, request: &WorkerRequest, policy: &Policy, share: Share) -> Result<Joined, String> {
        let server = match &request.mps {
            Some(MpsWish::Server(server)) => server,
            Some(MpsWish::None { why }) => return Err(clipped(why, MAX_WHY)),
            None => return Err("nobody has started an MPS daemon for it".into()),
        };
        let found = self.ledger.entries.get(server).filter(|e| e.is_mps_daemon() && e.ended.is_none());
        let daemon = found.ok_or_else(|| format!("there is no MPS daemon {server}"))?;
        if share == Share::Exclusive {
            return Err("its lease is exclusive: there is nobody to share with".into());
        }
        if let Some(why) = mps_obstacle(policy) {
            return Err(why.into());
        }
        let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
        if set(&daemon.plan.leased) != set(&request.devices) {
            return Err(format!("the MPS daemon {server} is for other GPUs: {}", daemon.plan.leased.join(", ")));
        }
        let who = who(daemon, policy)?;
        let shm = self.shm_of(daemon).map_err(|e| format!("the /dev/shm of the MPS daemon {server} can't be had: {e}"))?;
        Ok(Joined { server: server.clone(), who, shm, shm_size: daemon.plan.shm_size })
    }

    /// The daemon's `/dev/shm`, for another sandbox: a copy of this process goes into the daemon's mount namespace for it, because a mount can
    /// be copied only from within its own (open_tree(2)). Nothing of it is ever mounted on the host.
    fn shm_of(&self, daemon: &Entry) -> io::Result<Tree> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        match clone_process(&self.proof, Namespaces::NONE, None)? {
            Cloned::Child => {
                drop(ours);
                let errno = hand_over(daemon.pidfd.as_fd(), theirs.as_fd()).err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::EIO));
                exit_now(errno.min(255))
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                let got = receive(&ours);
                // One that hangs, which nothing in it should, does not keep the launcher.
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                waitpid(Pid::from_raw(pid), None)?;
                got.map(Tree::Detached)
            }
        }
    }
}

impl Entry {
    /// Whether it is an MPS daemon and no worker.
    pub(super) fn is_mps_daemon(&self) -> bool {
        self.plan.mps == Some(MpsPlan::Server)
    }
}

/// The daemon's own uid, held by one more: it is nobody else's until the last of the group is gone.
fn who(daemon: &Entry, policy: &Policy) -> Result<Identity, String> {
    let credentials = &daemon.plan.credentials;
    let ids = rbee_hive_policy::Ids { uid: credentials.uid, gid: credentials.gid };
    let other = || {
        format!(
            "the MPS daemon of its group serves the uid {} alone, and its policy says credentials.user {:?}",
            ids.uid, policy.credentials.user
        )
    };
    let lease = match (policy.credentials.user.as_str(), &daemon.uid) {
        ("per-worker", Some(lock)) => {
            let lock = lock.try_clone().map_err(|e| format!("the uid of its MPS daemon can't be held: {e}"))?;
            Some(UidLease { uid: ids.uid, lock })
        }
        ("per-worker", None) => return Err(other()),
        (name, _) => match identity::look_up(name) {
            Ok(named) if named == ids => None,
            _ => return Err(other()),
        },
    };
    Ok(Identity { ids, inside: None, lease })
}

/// In a copy of this process: sends the mount, or its errno.
fn hand_over(daemon: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    let sent = copy_of_shm(daemon);
    match sent {
        Ok(tree) => rbee_hive_sys::scm::send(socket, &0_i32.to_ne_bytes(), &[tree.as_fd()]),
        Err(e) => {
            let errno = e.raw_os_error().unwrap_or(libc::EIO);
            rbee_hive_sys::scm::send(socket, &errno.to_ne_bytes(), &[])?;
            Err(e)
        }
    }
}

/// A daemon that is not made yet still has the host's root, and so the host's `/dev/shm`: that is nobody's to be given.
fn copy_of_shm(daemon: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    let (host, host_shm) = (stat("/")?, stat(SHM).ok());
    setns(daemon, CloneFlags::CLONE_NEWNS)?;
    let shm = stat(SHM)?;
    if same(&stat("/")?, &host) || host_shm.is_some_and(|there| same(&there, &shm)) || shm.st_dev == stat("/dev")?.st_dev {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    Ok(open_tree(CWD, SHM, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut list = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    if poll(&mut list, PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut errno = [0; 4];
    let (_, fds) = rbee_hive_sys::scm::recv(socket.as_fd(), &mut errno, 1)?;
    match (fds.into_iter().next(), i32::from_ne_bytes(errno)) {
        (Some(tree), _) => Ok(tree),
        (None, 0) => Err(io::ErrorKind::UnexpectedEof.into()),
        (None, errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}
