//! `clone3(2)` used as a fork that is born in its namespaces and in its cgroup.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Proof that this process had one thread when it was asked.
///
/// A copy of a threaded process may only make async-signal-safe calls; a copy of a single-threaded one may do what it likes. Whoever
/// holds this promises to start no thread.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads in `/proc/self/task`.
    ///
    /// Errors: `ResourceBusy` where there is more than one; what reading `/proc` gives.
    pub fn prove() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.take(2).count() {
            1 => Ok(Self(())),
            _ => Err(io::Error::new(io::ErrorKind::ResourceBusy, "this process has more than one thread")),
        }
    }
}

/// New namespaces of the child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None: all are shared.
    pub const NONE: Self = Self(0);
    /// Users: the child has every capability in it, and none outside.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// System V IPC and POSIX queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which side of the clone this is.
#[derive(Debug)]
pub enum Cloned {
    /// The caller, with the child's pid (in the caller's pid namespace) and pidfd (close-on-exec).
    Parent {
        /// Child's pid.
        pid: i32,
        /// Child's pidfd.
        pidfd: OwnedFd,
    },
    /// The child.
    Child,
}

// libc declares CLONE_INTO_CGROUP as a C int, where it overflows to 0 and the child silently stays in the parent's cgroup.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Copies this process into `namespaces`, and into the cgroup that `cgroup` is the directory of (v2), before its first instruction.
///
/// Errors, from clone3(2): `EPERM` without CAP_SYS_ADMIN for namespaces, `ENOENT` for a cgroup outside the cgroup namespace,
/// `EBUSY` for one that has domain controllers enabled for children, `EAGAIN` at `pids.max`.
pub fn clone_process(_proof: &SingleThreaded, namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces.0 | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: clone3 reads `args` and writes one int through `args.pidfd`; both outlive the call. Without CLONE_VM the child has its own
    // copy of the memory and goes on with this stack; `_proof` says that no other thread can have held a lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Cloned::Child),
        -1 => Err(io::Error::last_os_error()),
        pid => {
            // SAFETY: the kernel has just put a fresh descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Ends this process at once, without running what the parent registered with atexit(3).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any int and does not return.
    unsafe { libc::_exit(code) }
}
