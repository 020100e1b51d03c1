//! How a process ended that is not this process's child, by a pidfd of it: `PIDFD_GET_INFO` (Linux 6.13, its exit status 6.15).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// `struct pidfd_info` of <linux/pidfd.h> as it was first, which later kernels take, too.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// Its numbers and ids.
    who: [u32; 11],
    exit_code: i32,
}

/// _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)
const PIDFD_GET_INFO: libc::c_ulong = (3 << 30) | ((size_of::<Info>() as libc::c_ulong) << 16) | (0xff << 8) | 11;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How the process ended: known once its parent has reaped it, for as long as the descriptor is open. `None` before that, and where the kernel
/// does not tell.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the kernel reads and writes one `struct pidfd_info` of the size that the request's number has; `info` has that layout and lives
    // through the call.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    (done == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn how_a_process_ended_is_told_after_it_was_reaped_where_the_kernel_tells() {
        for (script, code, signal) in [("read x; exit 7", Some(7), None), ("read x; kill -9 $$", None, Some(9))] {
            let mut child = Command::new("sh").args(["-c", script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            assert_eq!(exit_status(pidfd.as_fd()), None, "it lives");
            drop(child.stdin.take());
            child.wait().unwrap();
            match exit_status(pidfd.as_fd()) {
                Some(status) => assert_eq!((status.code(), status.signal()), (code, signal), "{script}"),
                None => eprintln!("SKIPPED: needs a kernel that tells how a process has ended (Linux 6.15)"),
            }
        }
    }
}
