//! Processes of others: the init, and whatever may have a number outside.

use std::io::IoSliceMut;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, pidfd_getfd, pidfd_open, pidfd_send_signal, prlimit};

use crate::attempt::{Outcome, attempts};
use crate::bait;
use crate::raw::{self, n, z};

attempts! {
    Harmful "kill the init" => kill(Pid::from_raw(1), Signal::SIGKILL),
    Harmful "stop the init" => kill(Pid::from_raw(1), Signal::SIGSTOP),
    Harmless "ask whether the init may be signalled" => kill(Pid::from_raw(1), None),
    Harmless "ask by thread whether the init may be signalled" => by_thread(),
    Harmless "ask by pidfd whether the init may be signalled" => signal_by_pidfd(),
    Harmless "signal a process of the host" => at("pid", |pid| Outcome::from(kill(pid, None))),
    Harmless "signal the hive" => at("hive-pid", |pid| Outcome::from(kill(pid, None))),
    Harmful "ptrace the init" => ptrace::attach(Pid::from_raw(1)),
    Harmful "ptrace seize the init" => ptrace::seize(Pid::from_raw(1), ptrace::Options::empty()),
    Harmless "ptrace a process of the host" => at("pid", |pid| Outcome::from(ptrace::seize(pid, ptrace::Options::empty()))),
    Harmless "read the memory of the init" => memory(Pid::from_raw(1)),
    Harmless "read the memory of a process of the host" => at("pid", memory),
    Harmless "compare descriptors with the init" => compare(),
    Harmless "take a descriptor from the init" => descriptor(1),
    Harmless "take a descriptor from a process of the host" => at("pid", |pid| descriptor(pid.as_raw())),
    Harmless "take a descriptor of the init by /proc" => std::fs::read_link("/proc/1/fd/0"),
    Harmful "limit the init's files" => limit_the_init(),
    Harmful "slow the init down" => rustix::process::setpriority_process(rustix::process::Pid::from_raw(1), 19),
    Harmful "pin the init" => pin_the_init(),
    Harmful "make the init idle" => raw::call(libc::SYS_sched_setscheduler, &[n(1), n(5), z(4)]),
    Harmful "move the init's pages" => raw::call(libc::SYS_migrate_pages, &[n(1), n(1), z(8), z(8)]),
    Harmless "list processes of others" => others(),
    Harmless "find a descriptor that was left open" => stray_descriptors(),
    Harmless "attach to shared memory of the host" => shared_memory(),
}

fn at(name: &str, act: fn(Pid) -> Outcome) -> Outcome {
    match bait::get(name).and_then(|text| text.parse().ok()) {
        Some(pid) => act(Pid::from_raw(pid)),
        None => Outcome::Untried("no bait"),
    }
}

fn signal_by_pidfd() -> Outcome {
    let Some(init) = rustix::process::Pid::from_raw(1) else { return Outcome::Untried("no pid 1") };
    match pidfd_open(init, PidfdFlags::empty()) {
        // rustix has no null signal; SIGCONT does nothing to who runs.
        Ok(fd) => Outcome::from(pidfd_send_signal(fd, rustix::process::Signal::CONT)),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

/// An address that nobody has: EFAULT means that the kernel would have read.
fn memory(pid: Pid) -> Outcome {
    let mut buffer = [0u8; 16];
    match process_vm_readv(pid, &mut [IoSliceMut::new(&mut buffer)], &[RemoteIoVec { base: 0x10, len: 16 }]) {
        Ok(_) | Err(Errno::EFAULT) => Outcome::Done("the kernel looked".into()),
        Err(e) => Outcome::Refused(e),
    }
}

fn descriptor(pid: i32) -> Outcome {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return Outcome::Untried("no pid") };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(other) => Outcome::from(pidfd_getfd(&other, 0, PidfdGetfdFlags::empty())),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

fn by_thread() -> Outcome {
    raw::call(libc::SYS_tgkill, &[n(1), n(1), n(0)])
}

fn compare() -> Outcome {
    raw::call(libc::SYS_kcmp, &[n(1), n(1), n(0), n(0), n(0)])
}

fn limit_the_init() -> rustix::io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    prlimit(rustix::process::Pid::from_raw(1), Resource::Nofile, none).map(drop)
}

fn pin_the_init() -> nix::Result<()> {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(0)?;
    nix::sched::sched_setaffinity(Pid::from_raw(1), &cpus)
}

fn others() -> Outcome {
    let own = std::process::id();
    let numbers =
        std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_string_lossy().parse::<u32>().ok());
    // The shell that may have started this one is no other.
    let foreign = numbers.filter(|n| *n != own && std::fs::read(format!("/proc/{n}/environ")).is_err()).count();
    let init = std::path::Path::new("/proc/1/stat").exists();
    match (foreign, init) {
        (0, false) => Outcome::Empty,
        (n, _) => Outcome::Done(format!("{n} processes, the init among them: {init}")),
    }
}

/// Beyond the three standard streams there is nothing but what this program opened itself.
fn stray_descriptors() -> Outcome {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let targets: Vec<String> = open
        .filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok_and(|n| n > 2))
        .filter_map(|e| std::fs::read_link(e.path()).ok())
        .map(|p| p.display().to_string())
        .filter(|target| !target.starts_with("/proc/"))
        .collect();
    if targets.is_empty() { Outcome::Empty } else { Outcome::Done(targets.join(", ")) }
}

fn shared_memory() -> Outcome {
    match bait::get("sysv").and_then(|text| text.parse().ok()) {
        Some(key) => raw::call(libc::SYS_shmget, &[n(key), n(0), n(0)]),
        None => Outcome::Untried("no bait"),
    }
}
