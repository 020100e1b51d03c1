//! Namespaces: new ones, and those of others.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::attempt::{Outcome, attempts};
use crate::raw::{self, n, t, z};

attempts! {
    Harmless "unshare a user namespace" => unshare(CloneFlags::CLONE_NEWUSER),
    Harmless "unshare a mount namespace" => unshare(CloneFlags::CLONE_NEWNS),
    Harmless "unshare a network namespace" => unshare(CloneFlags::CLONE_NEWNET),
    Harmless "unshare a pid namespace" => unshare(CloneFlags::CLONE_NEWPID),
    Harmless "unshare an IPC namespace" => unshare(CloneFlags::CLONE_NEWIPC),
    Harmless "unshare a UTS namespace" => unshare(CloneFlags::CLONE_NEWUTS),
    Harmless "unshare a cgroup namespace" => unshare(CloneFlags::CLONE_NEWCGROUP),
    Harmless "unshare a time namespace" => raw::call(libc::SYS_unshare, &[n(0x80)]),
    Harmless "clone a user namespace" => raw::call(libc::SYS_clone, &[n(0x1000_0000 | 17), n(0)]),
    Harmless "clone3 a user namespace" => clone3(),
    Harmless "raise max_user_namespaces and unshare" => raise_and_unshare(),
    Harmless "setns the init's mounts" => enter("/proc/1/ns/mnt"),
    Harmless "setns the init's network" => enter("/proc/1/ns/net"),
    Harmless "setns the init's pids" => enter("/proc/1/ns/pid"),
    Harmless "setns its own network" => enter("/proc/self/ns/net"),
    Harmless "setns all of the init's by pidfd" => enter_all(),
    Harmless "map root into itself" => map_root(),
    Harmless "sethostname" => sethostname("hostile"),
    Harmless "setdomainname" => raw::call(libc::SYS_setdomainname, &[t("hostile"), n(7)]),
}

/// Its first word are the flags: a buffer of zeros would be a plain fork, so this one is too short, which only a filter does not notice.
fn clone3() -> Outcome {
    match raw::call(libc::SYS_clone3, &[z(88), n(8)]) {
        // The kernel looked at the size: the call itself is there.
        Outcome::Refused(nix::errno::Errno::EINVAL) => Outcome::Done("the kernel read its arguments".into()),
        other => other,
    }
}

fn raise_and_unshare() -> Outcome {
    let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "1000000");
    Outcome::from(unshare(CloneFlags::CLONE_NEWUSER))
}

fn enter(path: &str) -> Outcome {
    match File::open(path).map(OwnedFd::from) {
        Ok(namespace) => Outcome::from(setns(namespace, CloneFlags::empty())),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

fn enter_all() -> Outcome {
    let Some(init) = rustix::process::Pid::from_raw(1) else { return Outcome::Untried("no pid 1") };
    match pidfd_open(init, PidfdFlags::empty()) {
        Ok(fd) => Outcome::from(move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&fd), ThreadNameSpaceType::NETWORK)),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

/// A map can be written once, and outside it is written already.
fn map_root() -> Outcome {
    let made = unshare(CloneFlags::CLONE_NEWUSER);
    match made {
        Ok(()) => Outcome::from(std::fs::write("/proc/self/uid_map", "0 0 1")),
        Err(e) => Outcome::Refused(e),
    }
}
