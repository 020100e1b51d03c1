//! From what was found out about a request to an init that runs and is on record: cgroups, directories, record, socket, init, record.
//!
//! What fails leaves nothing behind. A launcher that dies on the way leaves a record without an init, or an init that listens where its record
//! lies: the next launcher finds it by either.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use rbee_hive_policy::{Life, WorkerId};
use rbee_hive_sys::clone::{Cloned, clone_process};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::Purpose;
use super::descriptors::Handed;
use super::gpu_locks::Locked;
use super::ledger::{Entry, Kin};
use super::namespaces::{namespaces, namespaces_refused};
use super::record::{InitIdentity, Record, VERSION};
use super::serve::Launcher;
use super::spawn::{Resolved, Spawned, leaf_failed};
use crate::cgroup::{Leaves, Removal};
use crate::init::{InitContext, OomContext, Stdio};
use crate::mount_tree::{MountApi, Tree};
use crate::oom::ordinary_child;
use crate::protocol::{Channel, LaunchError};
use crate::seccomp::Filters;
use crate::step::{CallError, failed};

/// The socket's name in a worker's state directory.
pub(super) const SOCKET: &str = "init.sock";
/// How long an init that is not wanted after all may take to die.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an init is born with beside the plan and the leaves.
struct Parts {
    life: Life,
    trees: Vec<Tree>,
    control: OwnedFd,
    streams: Option<[OwnedFd; 3]>,
    locks: Vec<OwnedFd>,
    filters: Option<Filters>,
    oom: OomContext,
}

impl Launcher {
    /// Makes the sandbox's cgroups, its directories and its init.
    pub(super) fn make(&mut self, resolved: Resolved, (policy_digest, life): (u64, Life), handed: Handed) -> Result<Spawned, LaunchError> {
        let Handed { control, streams } = handed;
        let Resolved { mut plan, trees, gpus, serves, gpu_locks, uid, filters } = resolved;
        let id = plan.worker_id.clone();
        self.ledger.admit_memory(&id, &plan.limits)?;
        let shared = gpu_locks.iter().map(Locked::share).chain(uid.as_ref().map(|uid| uid.share())).collect::<Result<Vec<_>, _>>();
        let locks = shared.map_err(|e| LaunchError::setup("share the locks with the init", CallError::new("fcntl(F_DUPFD_CLOEXEC)", e)))?;
        let leaves = self.tree.make_leaves(&id, &plan.limits, &plan.devices).map_err(|e| leaf_failed(&e))?;
        plan.not_in_force.extend(leaves.notes.iter().cloned());
        plan.not_in_force.extend(self.confined.note());
        let oom = self.oom_context(&mut plan, &leaves).inspect_err(|_| drop(self.tree.remove_leaves(&id)))?;
        let mut record = Record {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            plan: Box::new(plan),
            cgroup: leaves.path.clone(),
            policy_digest,
            device_program: leaves.device_program,
            gpus,
            serves,
            locks: gpu_locks.iter().map(Locked::number).collect(),
            uid_locked: uid.is_some(),
            init: None,
        };
        match self.start(&mut record, leaves, Parts { life, trees, control, streams, filters, oom, locks }) {
            Ok((init_pid, pidfd)) => {
                let spawned =
                    Spawned { worker_id: id.clone(), plan: (*record.plan).clone(), cgroup: record.cgroup.clone(), init_pid, policy_digest };
                let entry = Entry { pidfd, kin: Kin::Own, record, locks: gpu_locks, uid: uid.map(|u| u.lock), ended: None };
                self.ledger.entries.insert(id, entry);
                Ok(spawned)
            }
            Err(e) => {
                self.tree.remove_leaves(&id);
                if life == Life::First {
                    let _ = self.directories.forget(id.as_str());
                }
                Err(e)
            }
        }
    }

    fn start(&self, record: &mut Record, leaves: Leaves, parts: Parts) -> Result<(i32, OwnedFd), LaunchError> {
        let setup = |step: &'static str| move |e: CallError| LaunchError::setup(step, e);
        let id = record.plan.worker_id.clone();
        let (state, logs) = self.directories.take(id.as_str(), parts.life).map_err(setup("make directories"))?;
        record.write(&state).map_err(setup("write the plan"))?;
        let door = match self.options.purpose {
            Purpose::Serve => Some(door(&state).map_err(setup("bind the init's socket"))?),
            Purpose::Run => None,
        };
        let stdio = match parts.streams {
            Some(streams) => Stdio::Inherited(streams),
            None => Stdio::Logged { directory: logs },
        };
        let context = InitContext {
            plan: (*record.plan).clone(),
            control: Channel::new(parts.control),
            leaves,
            staging: self.directories.staging.clone(),
            trees: parts.trees.into_iter().map(Some).collect(),
            mounts: MountApi::probe(),
            stdio,
            state: state.try_clone().map_err(|e| LaunchError::setup("write the plan", CallError::new("fcntl(F_DUPFD_CLOEXEC)", e)))?,
            door,
            boot_id: self.boot_id.clone(),
            open_files: self.open_files,
            locks: parts.locks,
            root: None,
            pipes: None,
            deny: self.confined.lists(),
            filters: parts.filters,
            listener: None,
            notify: None,
            oom: parts.oom,
            host_numbers: None,
            mapping: None,
        };
        let clone = || clone_process(&self.proof, namespaces(&record.plan), context.leaves.init_v2_fd());
        let (pid, pidfd) = match ordinary_child(clone, |cloned| matches!(cloned, Cloned::Child)) {
            Ok(Cloned::Child) => crate::init::main(context, &self.proof),
            Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
            Err(e) => return Err(LaunchError::setup("create namespaces", namespaces_refused(&record.plan, e))),
        };
        // Not reaped yet, so the number is its own.
        let on_record = InitIdentity::of(pid).and_then(|init| {
            record.init = Some(init);
            record.write(&state)
        });
        match on_record {
            Ok(()) => Ok((pid, pidfd)),
            Err(e) => {
                self.put_down(&id, &pidfd);
                Err(LaunchError::setup("put the init on record", e))
            }
        }
    }

    /// Ends an init that was just born, and whatever it has come to.
    fn put_down(&self, id: &WorkerId, pidfd: &OwnedFd) {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
        let mut list = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut list, PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX));
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        if let Removal::Busy { left } = self.tree.discard(id) {
            tracing::warn!(worker = %id, ?left, "cgroups of a failed start could not be removed");
        }
    }
}

/// Binds the socket by which a later launcher comes to the init: by way of the directory's descriptor, so that no path is too long for it and none
/// is looked up twice.
fn door(state: &OwnedFd) -> Result<OwnedFd, CallError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made =
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(failed(|| "socket(AF_UNIX, SOCK_SEQPACKET)".into()))?;
    // Before it has a name: from then on nobody but the owner may connect (unix(7)).
    rustix::fs::fchmod(&made, rustix::fs::Mode::from_raw_mode(0o600)).map_err(failed(|| format!("fchmod({SOCKET}, 0600)")))?;
    let address = address(state).map_err(failed(|| format!("sockaddr_un({SOCKET})")))?;
    bind(made.as_raw_fd(), &address).map_err(failed(|| format!("bind({SOCKET})")))?;
    Ok(made)
}

/// The socket's address, for as long as `state` is open.
pub(super) fn address(state: &OwnedFd) -> nix::Result<UnixAddr> {
    UnixAddr::new(format!("/proc/self/fd/{}/{SOCKET}", state.as_raw_fd()).as_str())
}
