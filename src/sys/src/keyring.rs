//! A session keyring of its own: `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`.

use std::io;

/// Leaves the inherited session keyring for a new, anonymous one.
///
/// Errors: `ENOSYS` without CONFIG_KEYS; `EPERM` where a filter denies keyctl, which then protects the keyring as well.
pub fn join_new_session() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: with a null name the kernel makes an anonymous keyring and reads no memory of ours.
    match unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0usize) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
