//! `seccomp(2)`: loading filters, and hearing of what they notify (seccomp_unotify(2)).
//!
//! Must never know: which calls are allowed, and why.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use libc::sock_filter as Insn;

/// `SECCOMP_RET_USER_NOTIF`, which not every `libc` has under one name.
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;

/// A call that a filter notified; its thread waits in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notified {
    /// What the kernel calls this notification.
    pub id: u64,
    /// Number on the machine of `arch`.
    pub number: i32,
    /// `AUDIT_ARCH_…`
    pub arch: u32,
    /// As they were in the registers.
    pub args: [u64; 6],
    /// The thread, in the pid namespace of who listens; 0 where it is not seen there.
    pub tid: u32,
}

/// Loads a filter for the calling thread and all that it starts. There is no way back.
///
/// Errors: `EACCES` without no_new_privs (or CAP_SYS_ADMIN), `EINVAL` for a program that the kernel does not take, `ENOMEM` where the filters
/// of this process are longer than 32768 instructions together.
pub fn load(program: &[Insn]) -> io::Result<()> {
    set_filter(program, 0).map(drop)
}

/// Loads a filter as [`load`] does; its notifications come to the descriptor, which is close-on-exec.
///
/// Errors: `EBUSY` where a filter of this process has a listener already, `EINVAL` before Linux 5.0.
pub fn load_listening(program: &[Insn]) -> io::Result<OwnedFd> {
    let fd = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: seccomp(2) has just returned this descriptor as the listener, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a filter as [`load_listening`] does, for a listener that lets calls go on: once a notification is taken, only a fatal signal takes the
/// thread out of it, so that a program with many signals comes forward (where the kernel can, Linux 5.19).
///
/// Errors: as of [`load_listening`].
pub fn load_watching(program: &[Insn]) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let fd = match set_filter(program, flags) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return load_listening(program),
        other => other?,
    };
    // SAFETY: seccomp(2) has just returned this descriptor as the listener, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_filter(program: &[Insn], flags: libc::c_ulong) -> io::Result<i32> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let operation = libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: seccomp(2) reads `len` instructions from `filter`, both of the slice `program`, which outlives the call; it writes nothing.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const fprog) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW)) }
}

/// Takes the next notification; waits for one.
///
/// Errors: `ENOENT` where the thread was killed meanwhile, `EINTR`.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Notified> {
    // SAFETY: all fields are integers, for which zero is a value; the kernel takes only a zeroed one.
    let mut notif: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV writes one `struct seccomp_notif`, whose size is part of the request's number, to the pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notif) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Notified { id: notif.id, number: notif.data.nr, arch: notif.data.arch, args: notif.data.args, tid: notif.pid })
}

/// Whether the thread of notification `id` still waits: what was read of it before this call was read of that thread.
///
/// Errors: `ENOENT` where it does not.
pub fn still_waits(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    // SAFETY: SECCOMP_IOCTL_NOTIF_ID_VALID reads one u64 from the pointer, which is that of a live local.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the call of notification `id` go on as if no filter had looked at it.
///
/// Errors: `EINVAL` before Linux 5.5, `ENOENT` where its thread is gone.
pub fn let_go_on(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    let answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads one `struct seccomp_notif_resp`, whose size is part of the request's number, from the pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends the call of notification `id` with an error.
///
/// Errors: `ENOENT` where its thread is gone.
pub fn fail_with(listener: BorrowedFd<'_>, id: u64, errno: i32) -> io::Result<()> {
    let answer = libc::seccomp_notif_resp { id, val: 0, error: -errno, flags: 0 };
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads one `struct seccomp_notif_resp`, whose size is part of the request's number, from the pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for the listener and the listened to be woken on the same CPU, which makes a notification several times cheaper.
///
/// Errors: `EINVAL` or `ENOTTY` before Linux 6.6.
pub fn wake_on_same_cpu(listener: BorrowedFd<'_>) -> io::Result<()> {
    const SYNC_WAKE_UP: libc::c_ulong = 1; // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
    // SAFETY: SECCOMP_IOCTL_NOTIF_SET_FLAGS takes its flags by value and touches no memory of ours.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
