//! The kernel's larger doors, each by its own system call.

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags};
use nix::sys::personality::{self, Persona};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use rbee_hive_sys::bpf::{self, DeviceRule, DeviceType};

use crate::attempt::{Outcome, attempts};
use crate::raw::{self, Arg, n, t, z};

attempts! {
    Harmful "set the clock" => set_the_clock(),
    Harmful "set the time zone of the kernel" => raw::call(libc::SYS_settimeofday, &[n(0), z(8)]),
    Harmful "switch accounting on" => nix::unistd::acct::enable("/tmp/acct"),
    Harmless "watch a whole mount" => Fanotify::init(InitFlags::FAN_CLASS_CONTENT, EventFFlags::O_RDONLY),
    Harmless "load a BPF program" => load_bpf(),
    Harmless "make a BPF map" => raw::call(libc::SYS_bpf, &[n(1), n(0), n(0)]),
    Harmless "set an io_uring up" => raw::call(libc::SYS_io_uring_setup, &[n(1), z(120)]),
    Harmless "count the kernel's events" => raw::call(libc::SYS_perf_event_open, &[z(128), n(0), n(-1), n(-1), n(0)]),
    Harmless "handle page faults" => raw::call(libc::SYS_userfaultfd, &[n(0)]),
    Harmless "name a file by its handle" => raw::call(libc::SYS_name_to_handle_at, &[n(-100), t("/"), z(256), z(8), n(0)]),
    Harmless "open a file by its handle" => raw::call(libc::SYS_open_by_handle_at, &[n(-100), z(256), n(0)]),
    Harmless "read the kernel's log" => raw::call(libc::SYS_syslog, &[n(3), z(64), n(64)]),
    Harmful "clear the kernel's log" => raw::call(libc::SYS_syslog, &[n(5), n(0), n(0)]),
    Harmful "turn quotas on" => nix::sys::quota::quotactl_sync(nix::sys::quota::QuotaType::USRQUOTA, None::<&str>),
    Harmful "hang the terminal up" => raw::call(libc::SYS_vhangup, &[]),
    Harmless "type for another (TIOCSTI)" => typing(0x5412),
    Harmless "type for another (TIOCSTI with a high bit)" => typing(0x1_0000_5412),
    Harmless "type for another (TIOCLINUX)" => typing(0x541c),
    Harmless "execution domain READ_IMPLIES_EXEC" => personality::set(Persona::READ_IMPLIES_EXEC),
    Harmless "modify its descriptor table" => local_table(),
    Harmless "secret memory" => raw::call(libc::SYS_memfd_secret, &[n(0)]),
    Harmless "prctl with an option that nobody knows" => raw::call(libc::SYS_prctl, &[n(59), n(0)]),
    Harmless "raise its open files" => raise_open_files(),
    Harmless "raise its own priority" => rustix::process::setpriority_process(None, -20),
    Harmless "real-time scheduling" => raw::call(libc::SYS_sched_setscheduler, &[n(0), n(1), Arg::One]),
    Harmless "lock more memory than it may" => lock_everything(),
}

/// To what it is: done outside, it is a second late at most.
fn set_the_clock() -> nix::Result<()> {
    let now = nix::time::clock_gettime(ClockId::CLOCK_REALTIME)?;
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(now.tv_sec(), now.tv_nsec()))
}

fn load_bpf() -> Outcome {
    let rule = DeviceRule { kind: DeviceType::Char, major: 1, minor: 3, access: bpf::ACCESS_READ };
    match bpf::assemble(&[rule]).and_then(|code| bpf::load(&code)) {
        Ok(_) => Outcome::Done("it was loaded".into()),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

/// On standard input, which is no terminal: ENOTTY means that the call reached it.
fn typing(request: i64) -> Outcome {
    match raw::call(libc::SYS_ioctl, &[n(0), n(request), t("x")]) {
        Outcome::Refused(nix::errno::Errno::ENOTTY) => Outcome::Done("it reached the terminal's driver".into()),
        other => other,
    }
}

/// Reading it is harmless; where the kernel has the call it gives 0 bytes.
#[cfg(target_arch = "x86_64")]
fn local_table() -> Outcome {
    raw::call(libc::SYS_modify_ldt, &[n(0), z(16), n(16)])
}

#[cfg(not(target_arch = "x86_64"))]
fn local_table() -> Outcome {
    Outcome::Untried("not on this architecture")
}

/// Soft and hard limit of RLIMIT_MEMLOCK, almost without end. A zero byte would end the argument.
fn lock_everything() -> Outcome {
    const LIMITS: &str = "\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}";
    raw::call(libc::SYS_setrlimit, &[n(8), t(LIMITS)])
}

fn raise_open_files() -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard.saturating_add(1))
}
