//! Which calls name files or addresses, in which of their arguments, and what they mean to do with them.

use std::path::{Path, PathBuf};

use rbee_hive_policy::learn::{Gap, Target, Use};

use super::socket;
use super::words::{Thread, Unreadable};

type Args = [u64; 6];

/// What a call is about to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Something with a path, which begins at `start` where it is relative.
    Path { start: PathBuf, path: PathBuf, what: Use, follow: bool },
    /// Binds an internet port.
    Bound(u16),
    /// Listens.
    Listened,
    /// Makes a socket for datagrams.
    Datagrams,
    /// Connects or sends.
    Target(Target),
    /// It can't be told.
    Unread(Gap),
}

/// One path of a call: which arguments hold it, and its directory's descriptor where there is one.
struct Named {
    directory: Option<usize>,
    path: usize,
    what: Use,
    follow: Follow,
}

enum Follow {
    Yes,
    No,
    /// Unless AT_SYMLINK_NOFOLLOW is in this argument.
    Flags(usize),
}

const fn plain(path: usize, what: Use, follow: Follow) -> Named {
    Named { directory: None, path, what, follow }
}

const fn at(directory: usize, path: usize, what: Use, follow: Follow) -> Named {
    Named { directory: Some(directory), path, what, follow }
}

/// What a call does, in order.
pub(super) fn deeds(name: &str, args: &Args, thread: &mut Thread) -> Vec<Deed> {
    match name {
        "open" | "openat" | "openat2" | "creat" => opened(name, args, thread),
        "getdents" | "getdents64" => listed(args, thread),
        // A base that allows these has no profile, or one of its own.
        "unshare" | "setns" | "chroot" | "pivot_root" | "mount" | "move_mount" | "io_uring_setup" | "open_by_handle_at" => {
            vec![Deed::Unread(Gap::Ways)]
        }
        "clone" | "clone3" => born(name, args, thread),
        "socket" | "bind" | "listen" | "connect" | "sendto" => socket::deeds(name, args, thread),
        _ => named(name).iter().flat_map(|n| deed(n, args, thread)).collect(),
    }
}

/// Whether a call makes descriptors, so that a table of them may have grown; or ends a process, which is the last chance to see it.
pub(super) fn makes_descriptors(name: &str) -> bool {
    matches!(
        name,
        "open"
            | "openat"
            | "openat2"
            | "creat"
            | "dup"
            | "dup2"
            | "dup3"
            | "fcntl"
            | "pipe"
            | "pipe2"
            | "socket"
            | "socketpair"
            | "accept"
            | "accept4"
            | "epoll_create"
            | "epoll_create1"
            | "eventfd"
            | "eventfd2"
            | "signalfd"
            | "signalfd4"
            | "timerfd_create"
            | "memfd_create"
            | "inotify_init"
            | "inotify_init1"
            | "pidfd_open"
            | "exit_group"
    )
}

fn named(name: &str) -> &'static [Named] {
    use Follow::{Flags, No, Yes};
    use Use::{Execute, Look, Write};
    match name {
        "execve" => const { &[plain(0, Execute, Yes)] },
        "execveat" => const { &[at(0, 1, Execute, Flags(4))] },
        "stat" | "access" | "statfs" | "chdir" | "getxattr" | "listxattr" => const { &[plain(0, Look, Yes)] },
        "lstat" | "readlink" | "lgetxattr" | "llistxattr" => const { &[plain(0, Look, No)] },
        "newfstatat" | "faccessat2" => const { &[at(0, 1, Look, Flags(3))] },
        "statx" => const { &[at(0, 1, Look, Flags(2))] },
        "faccessat" => const { &[at(0, 1, Look, Yes)] },
        "readlinkat" => const { &[at(0, 1, Look, No)] },
        "inotify_add_watch" => const { &[plain(1, Look, Yes)] },
        "truncate" | "chmod" | "chown" | "utime" | "utimes" | "setxattr" | "removexattr" => const { &[plain(0, Write, Yes)] },
        "mkdir" | "rmdir" | "unlink" | "mknod" | "lchown" | "lsetxattr" | "lremovexattr" => const { &[plain(0, Write, No)] },
        "mkdirat" | "unlinkat" | "mknodat" => const { &[at(0, 1, Write, No)] },
        "fchmodat" | "futimesat" => const { &[at(0, 1, Write, Yes)] },
        "fchmodat2" | "utimensat" => const { &[at(0, 1, Write, Flags(3))] },
        "fchownat" => const { &[at(0, 1, Write, Flags(4))] },
        "rename" => const { &[plain(0, Write, No), plain(1, Write, No)] },
        "renameat" | "renameat2" => const { &[at(0, 1, Write, No), at(2, 3, Write, No)] },
        "link" => const { &[plain(0, Look, No), plain(1, Write, No)] },
        "linkat" => const { &[at(0, 1, Look, No), at(2, 3, Write, No)] },
        "symlink" => const { &[plain(1, Write, No)] },
        "symlinkat" => const { &[at(1, 2, Write, No)] },
        _ => &[],
    }
}

fn deed(named: &Named, args: &Args, thread: &mut Thread) -> Option<Deed> {
    let follow = match named.follow {
        Follow::Yes => true,
        Follow::No => false,
        Follow::Flags(n) => args[n] as i32 & libc::AT_SYMLINK_NOFOLLOW == 0,
    };
    let directory = named.directory.map(|n| args[n]);
    let whole = path_deed(thread, (directory, args[named.path]), named.what, follow);
    // An empty path is the descriptor itself: of interest where it is a program, whose interpreter is opened with it.
    let program = || (named.what == Use::Execute).then(|| thread.start(directory)).flatten();
    whole.or_else(|| program().map(|path| Deed::Path { start: Path::new("/").to_owned(), path, what: Use::Execute, follow: true }))
}

/// A child with namespaces of its own may have a root of its own.
fn born(name: &str, args: &Args, thread: &mut Thread) -> Vec<Deed> {
    const OWN_FILES: u64 = (libc::CLONE_NEWNS | libc::CLONE_NEWUSER) as u64;
    let flags = match name {
        "clone" => Ok(args[0]),
        // `struct clone_args` begins with its flags.
        _ => thread.bytes(args[0], 8).map(|b| b.try_into().map_or(0, u64::from_ne_bytes)),
    };
    match flags {
        Ok(flags) if flags & OWN_FILES == 0 => vec![],
        _ => vec![Deed::Unread(Gap::Ways)],
    }
}

fn path_deed(thread: &mut Thread, (directory, address): (Option<u64>, u64), what: Use, follow: bool) -> Option<Deed> {
    match thread.path(address) {
        Ok(None) => None,
        Ok(Some(path)) if path.is_absolute() => Some(Deed::Path { start: Path::new("/").to_owned(), path, what, follow }),
        Ok(Some(path)) => thread.start(directory).map(|start| Deed::Path { start, path, what, follow }),
        Err(unreadable) => Some(unreadable.into()),
    }
}

fn opened(name: &str, args: &Args, thread: &mut Thread) -> Vec<Deed> {
    let (directory, path, flags) = match name {
        "open" => (None, args[0], Ok(args[1])),
        "creat" => (None, args[0], Ok((libc::O_WRONLY | libc::O_CREAT) as u64)),
        "openat" => (Some(args[0]), args[1], Ok(args[2])),
        // `struct open_how` begins with its flags.
        _ => (Some(args[0]), args[1], thread.bytes(args[2], 8).map(|b| b.try_into().map_or(0, u64::from_ne_bytes))),
    };
    match flags {
        Ok(flags) => uses_of(flags as i32).filter_map(|what| path_deed(thread, (directory, path), what, follows(flags as i32))).collect(),
        Err(unreadable) => vec![unreadable.into()],
    }
}

fn uses_of(flags: i32) -> impl Iterator<Item = Use> {
    let (read, write) = match flags & libc::O_ACCMODE {
        _ if flags & libc::O_PATH != 0 => (false, false),
        libc::O_RDONLY => (true, flags & (libc::O_CREAT | libc::O_TRUNC) != 0),
        libc::O_WRONLY => (false, true),
        _ => (true, true),
    };
    let only_looks = flags & (libc::O_PATH | libc::O_DIRECTORY) != 0;
    let look = only_looks.then_some(Use::Look);
    let read = (read && !only_looks).then_some(Use::Read);
    look.into_iter().chain(read).chain(write.then_some(Use::Write))
}

fn follows(flags: i32) -> bool {
    flags & libc::O_NOFOLLOW == 0 && flags & (libc::O_CREAT | libc::O_EXCL) != libc::O_CREAT | libc::O_EXCL
}

fn listed(args: &Args, thread: &Thread) -> Vec<Deed> {
    let path = thread.start(Some(args[0]));
    path.map(|path| Deed::Path { start: Path::new("/").to_owned(), path, what: Use::List, follow: false }).into_iter().collect()
}

impl From<Unreadable> for Vec<Deed> {
    fn from(unreadable: Unreadable) -> Self {
        vec![unreadable.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_open_tell_what_is_meant() {
        let uses = |flags: i32| uses_of(flags).collect::<Vec<_>>();
        assert_eq!(uses(libc::O_RDONLY | libc::O_CLOEXEC), [Use::Read]);
        assert_eq!(uses(libc::O_WRONLY | libc::O_CREAT), [Use::Write]);
        assert_eq!(uses(libc::O_RDWR), [Use::Read, Use::Write]);
        assert_eq!(uses(libc::O_RDONLY | libc::O_DIRECTORY), [Use::Look]);
        assert_eq!(uses(libc::O_PATH), [Use::Look]);
        assert!(!follows(libc::O_NOFOLLOW) && !follows(libc::O_CREAT | libc::O_EXCL) && follows(libc::O_CREAT));
    }

    #[test]
    fn a_call_reads_its_words_from_where_the_kernel_does() {
        let path = std::ffi::CString::new("/usr/lib").unwrap();
        let mut thread = Thread::of(std::process::id(), super::super::rights::Rights::own());
        let address = path.as_ptr() as u64;
        let want = |what, follow| vec![Deed::Path { start: "/".into(), path: "/usr/lib".into(), what, follow }];
        let nofollow = libc::AT_SYMLINK_NOFOLLOW as u64;
        assert_eq!(deeds("stat", &[address, 0, 0, 0, 0, 0], &mut thread), want(Use::Look, true));
        assert_eq!(deeds("newfstatat", &[0, address, 0, nofollow, 0, 0], &mut thread), want(Use::Look, false));
        assert_eq!(deeds("openat", &[0, address, 0, 0, 0, 0], &mut thread), want(Use::Read, true));
        assert_eq!(deeds("symlinkat", &[0, 0, address, 0, 0, 0], &mut thread), want(Use::Write, false));
        assert_eq!(deeds("stat", &[8, 0, 0, 0, 0, 0], &mut thread), [], "no memory there: the kernel says EFAULT");
        assert_eq!(deeds("clone", &[libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0], &mut thread), [Deed::Unread(Gap::Ways)]);
        assert_eq!(deeds("clone", &[libc::CLONE_THREAD as u64, 0, 0, 0, 0, 0], &mut thread), []);
        assert_eq!(deeds("read", &[address, 0, 0, 0, 0, 0], &mut thread), []);
    }
}
