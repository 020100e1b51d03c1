//! CPU scheduling class and block I/O priority of this process: `sched_setscheduler(2)`, `ioprio_set(2)`.
//!
//! Must never know: who is scheduled, and why.

use std::io;

/// Time-shared classes; the real-time ones are nobody's here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `SCHED_OTHER`
    Other,
    /// `SCHED_BATCH`
    Batch,
    /// `SCHED_IDLE`
    Idle,
    /// Any other: real-time, deadline, or one that is loaded.
    Special,
}

/// Classes of block I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    /// By priority, 0 (first) to 7.
    BestEffort(u8),
    /// When nobody else wants to.
    Idle,
}

const IOPRIO_WHO_PROCESS: libc::c_long = 1;
const IOPRIO_CLASS_SHIFT: libc::c_long = 13;
const IOPRIO_CLASS_RT: libc::c_long = 1;
const IOPRIO_CLASS_BE: libc::c_long = 2;
const IOPRIO_CLASS_IDLE: libc::c_long = 3;

/// The class of this process.
pub fn class() -> io::Result<Class> {
    // SAFETY: sched_getscheduler takes an integer; 0 is the caller.
    match unsafe { libc::sched_getscheduler(0) } {
        -1 => Err(io::Error::last_os_error()),
        libc::SCHED_OTHER => Ok(Class::Other),
        libc::SCHED_BATCH => Ok(Class::Batch),
        libc::SCHED_IDLE => Ok(Class::Idle),
        _ => Ok(Class::Special),
    }
}

/// Puts this process, and what it will start, into `class`.
///
/// Errors: `EPERM` out of `SCHED_IDLE` where RLIMIT_NICE does not allow the present nice value; `EINVAL` for [`Class::Special`].
pub fn set_class(class: Class) -> io::Result<()> {
    let policy = match class {
        Class::Other => libc::SCHED_OTHER,
        Class::Batch => libc::SCHED_BATCH,
        Class::Idle => libc::SCHED_IDLE,
        Class::Special => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads one sched_param, which outlives it; 0 is the caller.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const param) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether this process's requests come before everybody's (`IOPRIO_CLASS_RT`).
pub fn io_is_real_time() -> io::Result<bool> {
    // SAFETY: ioprio_get takes two integers; 0 is the caller.
    match unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_RT),
    }
}

/// Puts this process's block I/O, and that of what it will start, into `class`.
///
/// Errors: `EINVAL` for a priority above 7, `ENOSYS` without CONFIG_BLOCK.
pub fn set_io_class(class: IoClass) -> io::Result<()> {
    let value = match class {
        IoClass::BestEffort(level) => (IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT) | libc::c_long::from(level),
        IoClass::Idle => IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT,
    };
    // SAFETY: ioprio_set takes three integers; 0 is the caller.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
