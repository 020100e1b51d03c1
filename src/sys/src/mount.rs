//! `mount_setattr(2)`: attributes for a whole tree of mounts in one call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a mount may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// What the mounts have already.
    pub const INHERITED: Self = Self(0);
    /// Nothing can be written.
    pub const RDONLY: Self = Self(0x1);
    /// Set-uid bits do nothing.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes can't be opened.
    pub const NODEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(0x8);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The same as `mount(2)` flags.
    pub const fn mount_flags(self) -> u64 {
        self.0 // MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC have the same values
    }
}

/// Sets `attributes` on every mount of the tree that `tree` is the root of, and makes each private: what is mounted outside is not seen in it.
///
/// Errors: `ENOSYS` before Linux 5.12; `EPERM` where a locked flag would be cleared.
pub fn set_recursive(tree: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: attributes.0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a NUL-terminated empty string and `attr` outlives the call; its size is passed.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size_of::<libc::mount_attr>())
    };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Shows the owners of the files of a tree that is attached nowhere as others: what is `a` on disk is `b` by the map of `user_namespace`, whose
/// lines say "a b count".
///
/// Errors: `EINVAL` where a file system of the tree can't be id-mapped, `ENOSYS` before Linux 5.12, `EPERM` without CAP_SYS_ADMIN over the file
/// system.
pub fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let attr = libc::mount_attr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: user_namespace.as_raw_fd() as u64 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a NUL-terminated empty string and `attr` outlives the call; its size is passed. Both descriptors are borrowed.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size_of::<libc::mount_attr>())
    };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the kernel has mount_setattr(2) and lets this process call it.
pub fn has_setattr() -> bool {
    // SAFETY: flags that no kernel knows give EINVAL before anything is read; the pointer is null and its size 0.
    let refused =
        unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), u32::MAX, std::ptr::null::<libc::mount_attr>(), 0usize) };
    refused == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}
