//! What a worker is killed for: calls that no program makes by mistake.

use nix::kmod::{DeleteModuleFlags, delete_module, finit_module, init_module};

use crate::attempt::{Outcome, attempts};
use crate::raw::{self, n, t};

attempts! {
    Deadly "remove a module" => delete_module(c"rbee_hive_no_such_module", DeleteModuleFlags::O_NONBLOCK),
    Deadly "load a module from memory" => init_module(b"no module", c""),
    Deadly "load a module from a file" => from_file(),
    Deadly "load another kernel" => raw::call(libc::SYS_kexec_load, &[n(0), n(0), n(0), n(0)]),
    Deadly "load another kernel from a file" => raw::call(libc::SYS_kexec_file_load, &[n(-1), n(-1), n(0), n(0), n(0)]),
    Deadly "switch Ctrl-Alt-Del off" => raw::call(libc::SYS_reboot, &[n(0xfee1_dead), n(672_274_793), n(0)]),
    Deadly "swap to a file" => raw::call(libc::SYS_swapon, &[t("/tmp/hostile-swap"), n(0)]),
    Deadly "take a swap file away" => raw::call(libc::SYS_swapoff, &[t("/tmp/hostile-swap")]),
    Deadly "all ports of the machine" => all_ports(),
    Deadly "one port of the machine" => one_port(),
    Deadly "a system call by its x32 number" => raw::call(0x4000_0000 | libc::SYS_getppid, &[]),
}

fn from_file() -> Outcome {
    match std::fs::File::open("/etc/passwd") {
        Ok(file) => Outcome::from(finit_module(&file, c"", nix::kmod::ModuleInitFlags::empty())),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

#[cfg(target_arch = "x86_64")]
fn all_ports() -> Outcome {
    raw::call(libc::SYS_iopl, &[n(0)])
}

#[cfg(target_arch = "x86_64")]
fn one_port() -> Outcome {
    raw::call(libc::SYS_ioperm, &[n(0x80), n(1), n(0)])
}

#[cfg(not(target_arch = "x86_64"))]
fn all_ports() -> Outcome {
    Outcome::Untried("not on this architecture")
}

#[cfg(not(target_arch = "x86_64"))]
fn one_port() -> Outcome {
    Outcome::Untried("not on this architecture")
}
