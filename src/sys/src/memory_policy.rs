//! NUMA memory policy of this process: `set_mempolicy(2)`, which survives execve(2).
//!
//! Must never know: which nodes are whose.

use std::io;
use std::ptr;

/// Where memory is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The node of the CPU that asks.
    Default = 0,
    /// One node first.
    Preferred = 1,
    /// These nodes alone.
    Bind = 2,
    /// These nodes in turn.
    Interleave = 3,
    /// Several nodes first (Linux 5.15).
    PreferredMany = 5,
}

/// Bits of one word of a node mask.
const WORD: usize = libc::c_ulong::BITS as usize;
/// The kernel's largest node number is below this (MAX_NUMNODES).
const MAX_NODES: usize = 1024;

/// Sets the policy of the calling thread for `nodes`.
///
/// Errors: `EINVAL` for a mode that the kernel lacks, or a node that the cpuset does not allow; `EPERM` below a filter; `ENOSYS` without
/// CONFIG_NUMA.
pub fn set(mode: Mode, nodes: &[u32]) -> io::Result<()> {
    let mut mask: [libc::c_ulong; MAX_NODES / WORD] = [0; MAX_NODES / WORD];
    for node in nodes.iter().map(|n| *n as usize) {
        *mask.get_mut(node / WORD).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))? |= 1 << (node % WORD);
    }
    let (pointer, bits) = if nodes.is_empty() { (ptr::null(), 0) } else { (mask.as_ptr(), MAX_NODES + 1) };
    // SAFETY: set_mempolicy reads `bits` − 1 bits of the mask (set_mempolicy(2), BUGS), all of which it has; none for a null pointer.
    match unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_int, pointer, bits) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Asks for the present policy, to see whether the kernel has such a thing and lets this process use it.
pub fn look() -> io::Result<()> {
    let mut mode: libc::c_int = 0;
    let none = ptr::null_mut::<libc::c_ulong>();
    // SAFETY: get_mempolicy writes one int through the first pointer; a null mask, a null address and no flags ask for nothing else.
    match unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, none, 0usize, none, 0usize) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
