//! Signal state of a process about to be replaced.

use std::mem::MaybeUninit;
use std::{io, ptr};

/// What rt_sigaction(2) takes: a handler, flags, a restorer and a mask, all zero for the default action.
const DEFAULT: [u64; 4] = [0; 4];

/// Every signal's action back to its default, and none blocked: ignored signals and the mask survive execve(2).
///
/// Not by signal(3): glibc keeps 32 and 33 for its threads and refuses them there, though its own posix_spawn(3) leaves them ignored in
/// what it starts, the launcher too.
pub fn reset_all() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: the kernel reads one action of at most 32 bytes from `DEFAULT`, whose zeros are SIG_DFL, and is asked for no old
            // one; 8 is the size of its signal set.
            let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), ptr::null_mut::<u64>(), 8_usize) };
            if done == -1 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set is initialised; no old set is asked for.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ignores SIGHUP, which a terminal sends when it goes away.
pub fn ignore_hangup() -> io::Result<()> {
    // SAFETY: SIG_IGN is no handler.
    match unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets SIGALRM bring a call back that goes on in the kernel (EINTR), instead of ending the process.
pub fn interrupt_by_alarm() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: a sigaction of zeros has no flags (no SA_RESTART), an empty mask and no handler, and is valid.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, so it may run between any two instructions; no old action is asked for.
    match unsafe { libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sends `signal` to the process `pid`: also a real-time one, which the safe wrappers know no name for.
///
/// Errors, from kill(2): `EINVAL` for what is no signal, `ESRCH`, `EPERM`.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill reads no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
