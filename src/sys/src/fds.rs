//! Closing descriptors in bulk: `close_range(2)`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range takes plain integers. That the closed descriptors have no owner left is the promise of the callers below.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Closes every descriptor from 3 on that is not in `keep`.
///
/// For a fresh copy of a process: O_CLOEXEC does nothing on clone, and an inherited lock or socket would outlive its owner. Values that
/// own a closed descriptor must never be dropped afterwards: `std::mem::forget` them, or end the process by `exit_now`.
pub fn close_all_except(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter(|fd| **fd >= 3).map(|fd| *fd as u32).collect();
    keep.sort_unstable();
    let mut next = 3;
    for fd in keep {
        if fd > next {
            close_range(next, fd - 1, 0)?;
        }
        next = next.max(fd + 1);
    }
    close_range(next, u32::MAX, 0)
}

/// Marks every descriptor from 3 on close-on-exec.
pub fn cloexec_from_3() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    match close_range(3, u32::MAX, CLOSE_RANGE_CLOEXEC) {
        // Kernels before 5.11 know the call but not the flag.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => cloexec_one_by_one(),
        other => other,
    }
}

fn cloexec_one_by_one() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|n| n.parse::<RawFd>().ok()) else { continue };
        if fd >= 3 {
            // SAFETY: F_SETFD takes an integer; a descriptor that is gone meanwhile gives EBADF and nothing else.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Makes `fd` the descriptor number `number` (0, 1 or 2), without close-on-exec.
pub fn install(fd: &OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes plain integers; 0–2 have no owner in this process.
    match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes over a descriptor that was handed to this process by number when it was executed.
///
/// Errors: `EBADF` where nothing is open there.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (just checked), and the caller names it as its own, once, at start.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A copy of `fd` with a number of at least 3 and close-on-exec, so that installing 0–2 can't overwrite it.
pub fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= 3 {
        return Ok(fd);
    }
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and gives a fresh descriptor.
    let raw = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if raw == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fresh from the kernel, owned by nobody else.
    let moved = unsafe { OwnedFd::from_raw_fd(raw) };
    // The low number stays open on purpose: whoever installs 0–2 replaces it.
    let _low = fd.into_raw_fd();
    Ok(moved)
}
