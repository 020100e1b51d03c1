//! What no init and no worker may ever ask of the kernel: a deny-list that lies under every profile, from the launcher on.
//!
//! A call on the list is answered like a notification to which nobody listens: `ENOSYS` (seccomp_unotify(2)). Of two filters that want to notify
//! the kernel asks the inner one, so a profile still tells of such a call by its name, and its errno still wins. But a listener can let
//! a call pass, past every other filter: where no listener of ours is in a worker's filters it could bring one of its own, so there the list is
//! loaded again, with an errno ([`DenyList::for_bare_workers`]).
//!
//! Must never know: policies.

use std::collections::BTreeMap;
use std::io;

use rbee_hive_policy::call_number;
use rbee_hive_sys::seccomp::{self, Insn, RET_USER_NOTIF};
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::FilterError;
use super::assemble::{self, RET_ERRNO};

const EPERM: u32 = libc::EPERM as u32;
/// Commands of bpf(2) that put a device program on a leaf, and that tell which ones are there (BPF_PROG_LOAD, BPF_PROG_ATTACH,
/// BPF_OBJ_GET_INFO_BY_FD, BPF_PROG_QUERY): without the latter two a program could neither be told from a stranger's nor be missed.
const DEVICE_PROGRAMS: [u64; 4] = [5, 8, 15, 16];

/// Calls that only an administrator of the whole host has a use for, and two that have only ever helped to break out.
const NEVER: &[&str] = &[
    // Another kernel, or other code in this one.
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "query_module",
    "get_kernel_syms",
    // The machine as a whole: its power, its swap, its accounts and quotas.
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "quotactl_fd",
    "nfsservctl",
    // The clock of everybody.
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    // Ports of the hardware, and the processor's modes for old programs.
    "iopl",
    "ioperm",
    // Files past every mount and directory: only a handle is needed.
    "open_by_handle_at",
    "fanotify_init",
    // What others do, read off the processor; the kernel's own log.
    "perf_event_open",
    "lookup_dcookie",
    "syslog",
    // Faults that stop in the kernel for as long as a program likes: half of many an exploit, and no use to inference.
    "userfaultfd",
];

/// The same and more by the numbers of 32-bit x86 (syscall_32.tbl), which a 64-bit kernel takes as well; bpf(2) as a whole.
#[cfg(target_arch = "x86_64")]
const NEVER_I386: &[i64] = &[
    283, 128, 350, 129, 127, 167, 130, // kexec_load, modules
    88, 87, 115, 51, 131, 443, 169, // reboot, swap, acct, quotas, nfsservctl
    25, 79, 264, 404, 343, 405, 124, // stime, settimeofday, clock_settime and clock_adjtime in both widths, adjtimex
    110, 101, 113, 166, // iopl, ioperm, vm86
    342, 338, 336, 253, 103, 374, 357, // open_by_handle_at, fanotify_init, perf_event_open, lookup_dcookie, syslog, userfaultfd, bpf
];
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters that deny, and let all else pass. They are inherited for ever.
#[derive(Clone)]
pub(crate) struct DenyList(Vec<Vec<Insn>>);

impl DenyList {
    /// For the launcher and all that comes from it: of bpf(2) what has to do with device programs on leaves is left.
    pub(crate) fn for_launcher() -> Result<Self, FilterError> {
        let mut rules = always(NEVER);
        let is_not = |command| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, command);
        let others = || SeccompRule::new(DEVICE_PROGRAMS.into_iter().map(is_not).collect::<Result<_, _>>()?);
        for number in numbers("bpf") {
            rules.insert(number, vec![others().map_err(failed)?]);
        }
        Self::compile(rules, RET_USER_NOTIF)
    }

    /// For an init whose launcher is under the list: the rest of bpf(2), which is the launcher's alone.
    pub(crate) fn for_inits() -> Result<Self, FilterError> {
        Ok(Self(vec![assemble::denying(always(&["bpf"]), RET_USER_NOTIF).map_err(failed)?]))
    }

    /// All of it, for an init whose launcher could not load it.
    pub(crate) fn whole() -> Result<Self, FilterError> {
        Self::compile(always(&[NEVER, &["bpf"]].concat()), RET_USER_NOTIF)
    }

    /// All of it with an errno, for a worker whose filters have no listener of ours.
    pub(crate) fn for_bare_workers() -> Result<Self, FilterError> {
        Self::compile(always(&[NEVER, &["bpf"]].concat()), RET_ERRNO | EPERM)
    }

    fn compile(rules: Rules, answer: u32) -> Result<Self, FilterError> {
        let mut programs = vec![assemble::denying(rules, answer).map_err(failed)?];
        #[cfg(target_arch = "x86_64")]
        programs.push(assemble::denying_on(AUDIT_ARCH_I386, NEVER_I386.iter().map(|n| (*n, vec![])).collect(), answer).map_err(failed)?);
        Ok(Self(programs))
    }

    /// Loads it for the calling process and all that comes from it.
    ///
    /// Errors: `EACCES` without CAP_SYS_ADMIN in the own user namespace and without no_new_privs; `EINVAL` where the kernel has no filters.
    pub(crate) fn load(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|program| seccomp::load(program))
    }

    /// Its programs.
    #[cfg(test)]
    pub(super) fn programs(&self) -> &[Vec<Insn>] {
        &self.0
    }
}

fn failed(source: BackendError) -> FilterError {
    FilterError { profile: "deny-list".into(), part: "deny", source }
}

fn always(calls: &[&str]) -> Rules {
    calls.iter().flat_map(|name| numbers(name)).map(|number| (number, vec![])).collect()
}

/// A call's number on this machine, and on x86 the one by which x32 programs make it; none where the machine has no such call.
fn numbers(name: &str) -> impl Iterator<Item = i64> + use<> {
    let x32 = if cfg!(target_arch = "x86_64") { Some(i64::from(assemble::X32_BIT)) } else { None };
    let native = call_number(name);
    native.into_iter().chain(native.zip(x32).map(|(number, bit)| number | bit))
}
