//! The acts. Each is harmless outside, where it is tried first: it opens without writing, asks without doing, and undoes what it makes.
//!
//! Tools: the shell, coreutils, grep, util-linux, and perl for system calls that have no tool.

use super::Claim::{Both, Bubblewrap, Crun, Neither};
use super::{Claim, Fact};

const fn fact(section: char, act: &'static str, claimed_by: Claim, script: &'static str) -> Fact {
    Fact { section, act, script, claimed_by }
}

/// Of all sections that a script inside can see.
pub const FACTS: &[Fact] = &[
    fact('B', "find a descriptor that the caller left open", Crun, "[ -e /proc/self/fd/9 ]"),
    fact('B', "read a variable of the caller's environment", Both, r#"[ -n "$LEAK" ]"#),
    fact('B', "inherit an ignored signal", Neither, "grep -qE '^SigIgn:.*[2367abef]..$' /proc/self/status"),
    fact(
        'B',
        "stay in the caller's session",
        Both,
        r#"[ "$(cut -d' ' -f6 /proc/self/stat)" = {session} ] || [ "$(cut -d' ' -f6 /proc/self/stat)" = 0 ]"#,
    ),
    fact('B', "read what only a supplementary group may", Crun, "cat {shared}/of-a-group"),
    fact('B', "be listed with a supplementary group", Both, "grep -qE '^Groups:.*\\b4\\b' /proc/self/status"),
    fact('B', "type into a terminal by ioctl", Neither, "perl -e '$s = q(x); $! = 0; syscall(16, 0, 0x5412, $s); exit($! != 25)'"),
    fact(
        'B',
        "type into a terminal by ioctl with a high bit",
        Neither,
        "perl -e '$s = q(x); $! = 0; syscall(16, 0, 0x100005412, $s); exit($! != 25)'",
    ),
    fact('B', "make a session keyring", Neither, "perl -e 'exit(syscall(250, 1, 0) == -1)'"),
    fact('C', "see a process of the host", Both, "[ -d /proc/{pid} ]"),
    fact('C', "ask whether a process of the host may be signalled", Both, "kill -0 {pid}"),
    fact(
        'C',
        "read the memory of a process of the host",
        Both,
        "perl -e '$l = pack(q(QQ), 16, 1); $r = $l; $! = 0; syscall(310, {pid}, $l, 1, $r, 1, 0); exit($! != 14)'",
    ),
    fact('C', "enter the root of a process of the host", Both, "ls /proc/{pid}/root/"),
    fact('C', "enter the root of process 1", Neither, "ls /proc/1/root/"),
    fact('C', "read the environment of process 1", Neither, "cat /proc/1/environ"),
    fact('C', "make a user namespace", Bubblewrap, "unshare --user true"),
    fact(
        'C',
        "make a user namespace after raising the limit",
        Bubblewrap,
        "echo 1000 > /proc/sys/user/max_user_namespaces; unshare --user true",
    ),
    fact('C', "make a mount namespace", Both, "unshare --mount true"),
    fact('C', "mount a tmpfs", Both, "mount -t tmpfs x /tmp && umount /tmp"),
    fact('C', "mount a fresh proc", Both, "mount -t proc x /tmp && umount /tmp"),
    fact('C', "mount a directory elsewhere", Both, "mount --bind /usr /tmp && umount /tmp"),
    fact('C', "mount the system writable", Both, "mount -o remount,bind,rw /usr || mount -o remount,bind,rw /"),
    fact('C', "unmount /proc", Both, "umount -l /proc && mount -t proc proc /proc"),
    fact('C', "open a file system by the new calls", Both, "perl -e '$s = q(tmpfs); exit(syscall(430, $s, 0) == -1)'"),
    fact('C', "copy a mount tree by the new calls", Both, "perl -e '$s = q(/usr); exit(syscall(428, -100, $s, 1) == -1)'"),
    fact('C', "change the root", Both, "perl -e 'exit(!chroot(q(/tmp)))'"),
    fact('C', "set the host name", Both, r#"perl -e '$h = `hostname`; chomp $h; exit(syscall(170, $h, length $h) == -1)'"#),
    fact('C', "read a masked path", Crun, r#"[ -r /proc/timer_list ] || exit 77; [ -n "$(head -c 1 /proc/timer_list)" ]"#),
    fact('C', "read the addresses of the kernel", Neither, r#"[ -n "$(head -c 1 /proc/kallsyms)" ]"#),
    fact('C', "open core_pattern to write", Both, ": >> /proc/sys/kernel/core_pattern"),
    fact('C', "open sysrq-trigger to write", Both, "[ -e /proc/sysrq-trigger ] || exit 77; : >> /proc/sysrq-trigger"),
    fact('C', "open the interrupts' affinity to write", Both, ": >> /proc/irq/default_smp_affinity"),
    fact('C', "open a program of the system to write", Both, ": >> /usr/bin/env"),
    fact('C', "make a file in /usr/share", Both, "touch /usr/share/{name} && rm /usr/share/{name}"),
    fact('C', "read a file of the host", Both, "cat {file}"),
    fact('C', "see the old root", Both, "ls -d {directory}"),
    fact('C', "see shared memory of the host", Both, "[ -e /dev/shm/{name} ]"),
    fact('C', "see the host's /tmp", Both, "[ -e /tmp/{name} ]"),
    fact('C', "see a System V segment of the host", Both, "grep -q -e {key} /proc/sysvipc/shm"),
    fact(
        'C',
        "connect to a socket of the host by path",
        Both,
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); exit(!connect(S, pack_sockaddr_un(q({socket}))))'",
    ),
    fact(
        'C',
        "connect to an abstract socket of the host",
        Both,
        r#"perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); exit(!connect(S, pack_sockaddr_un("\0{name}")))'"#,
    ),
    fact('C', "make a device node", Both, "mknod /tmp/{name}-node c 1 3 && rm /tmp/{name}-node"),
    fact('C', "open the kernel's messages", Both, "head -c 0 /dev/kmsg"),
    fact(
        'D',
        "open the process list of a top cgroup to write",
        Both,
        r#"for m in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5) /sys/fs/cgroup; do : >> $m/cgroup.procs && exit 0; done; exit 1"#,
    ),
    fact(
        'D',
        "have more processes than the limit",
        Crun,
        "perl -e 'for (1..48) { $p = fork; if (!defined $p) { kill 9, @p; exit 1 } if (!$p) { sleep 60; exit } push @p, $p } kill 9, @p; exit 0'",
    ),
    fact('D', "have more memory than the limit", Crun, "perl -e '$x = q(a) x (200 << 20); exit 0'"),
    fact('E', "have a capability", Both, "grep -qE '^Cap(Inh|Prm|Eff|Bnd|Amb):.*[1-9a-f]' /proc/self/status"),
    fact('E', "gain privileges by a program", Both, "grep -q '^NoNewPrivs:.*0' /proc/self/status"),
    fact('E', "become another user", Both, "perl -e 'exit(syscall(105, 12345) == -1)'"),
    fact('E', "load a BPF program", Both, "perl -e '$! = 0; syscall(321, 5, 0, 0); exit($! != 22 && $! != 14 && $! != 7)'"),
    fact('E', "set an io_uring up", Neither, "perl -e '$s = chr(0) x 120; exit(syscall(425, 1, $s) == -1)'"),
    fact('E', "handle page faults", Neither, "perl -e 'exit(syscall(323, 0) == -1)'"),
    fact('E', "read the kernel's log", Both, "perl -e '$s = chr(0) x 64; exit(syscall(103, 3, $s, 64) == -1)'"),
    fact(
        'E',
        "run what it wrote in a shared directory",
        Neither,
        "cp /bin/true {shared}/{name} && {shared}/{name}; r=$?; rm -f {shared}/{name}; exit $r",
    ),
    fact(
        'F',
        "connect to the host's loopback",
        Both,
        "perl -MSocket -e 'socket(S, AF_INET, SOCK_STREAM, 0); exit(!connect(S, pack_sockaddr_in({port}, inet_aton(q(127.0.0.1)))))'",
    ),
    fact('F', "see an interface of the host", Both, "grep -qE '^ *(eth|en|wl|veth|br)' /proc/net/dev"),
    fact('F', "open a packet socket", Both, "perl -e 'exit(!socket(S, 17, 3, 0))'"),
];
