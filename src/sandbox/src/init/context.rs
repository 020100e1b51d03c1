//! What an init is born with: the plan, and descriptors that the launcher opened for it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rbee_hive_policy::SandboxPlan;

use super::{HostNumbers, OomContext};
use crate::cgroup::Leaves;
use crate::launcher::DenyLists;
use crate::mount_tree::{MountApi, Tree};
use crate::protocol::{Channel, FromInit, ToInit};
use crate::seccomp::Filters;

/// Where the worker's standard streams go.
pub(crate) enum Stdio {
    /// stdin from /dev/null; stdout and stderr are read by the init and logged.
    Logged {
        /// The worker's log directory.
        directory: OwnedFd,
    },
    /// `run`: the caller's own streams.
    Inherited([OwnedFd; 3]),
    /// They were the caller's, and only the worker holds them now.
    HandedOver,
}

/// Everything the init works with.
pub(crate) struct InitContext {
    pub(crate) plan: SandboxPlan,
    pub(crate) control: Channel<FromInit, ToInit>,
    pub(crate) leaves: Leaves,
    /// Empty directory over which the new root is mounted (in the init's mount namespace only).
    pub(crate) staging: PathBuf,
    /// Mounts that the launcher opened, by the plan's index; each is used once.
    pub(crate) trees: Vec<Option<Tree>>,
    /// How this process takes mounts.
    pub(crate) mounts: MountApi,
    pub(crate) stdio: Stdio,
    /// `workers/<id>` in the state directory.
    pub(crate) state: OwnedFd,
    /// Keep the worker's uid and its GPUs locked for as long as the init lives.
    pub(crate) locks: Vec<RawFd>,
    /// The root being made, from the step that mounts it to the one that seals it.
    pub(crate) root: Option<super::root::NewRoot>,
    /// The worker's ends of its output pipes, then the init's; set by their step.
    pub(crate) pipes: Option<Pipes>,
    /// What neither of them may ask of the kernel.
    pub(crate) deny: DenyLists,
    /// What the worker may ask of the kernel; `None` where its policy has no profile. Taken by the worker's step.
    pub(crate) filters: Option<Filters>,
    /// Where violations are told: in the worker process from its step to `execve`, in the init after that.
    pub(crate) listener: Option<OwnedFd>,
    /// How the worker gets its ids in a user namespace of its own; made just before the worker is.
    pub(crate) mapping: Option<super::user_namespace::Mapping>,
    /// Bound where the worker finds it by NOTIFY_SOCKET.
    pub(crate) notify: Option<OwnedFd>,
    /// What tells of want of memory; taken by the supervision.
    pub(crate) oom: OomContext,
    /// From its step until the worker's number is known.
    pub(crate) host_numbers: Option<HostNumbers>,
}

/// Two pipes, one for each output stream.
pub(crate) struct Pipes {
    pub(crate) worker: [OwnedFd; 2],
    pub(crate) init: [OwnedFd; 2],
}

impl InitContext {
    /// Numbers of all descriptors that the init keeps; every other one is closed first thing.
    pub(crate) fn raw_fds(&self) -> Vec<RawFd> {
        let mut list = vec![self.control.as_raw_fd(), self.state.as_raw_fd()];
        list.extend(self.leaves.raw_fds());
        list.extend(self.trees.iter().flatten().map(Tree::as_raw_fd));
        list.extend(&self.locks);
        list.extend(self.oom.raw_fds());
        match &self.stdio {
            Stdio::Logged { directory } => list.push(directory.as_raw_fd()),
            Stdio::Inherited(streams) => list.extend(streams.iter().map(AsRawFd::as_raw_fd)),
            Stdio::HandedOver => {}
        }
        list
    }

    /// Closes what belongs to the worker alone and returns the init's ends of the pipes.
    pub(crate) fn close_worker_ends(&mut self) -> Option<[OwnedFd; 2]> {
        if let Stdio::Inherited(_) = self.stdio {
            // The caller's pipe must see its end when the worker's side closes, not when the init does.
            self.stdio = Stdio::HandedOver;
        }
        self.pipes.take().map(|p| p.init)
    }
}
