//! From a policy's seccomp profile to filters that the kernel takes.
//!
//! Several filters are stacked, and of their answers the strictest counts (seccomp(2)): one for each errno, one for calls that are newer than
//! this program, and last the list of what is allowed, which notifies the init of everything else.
//!
//! Must never know: why a call is allowed.

mod assemble;
mod deny;

pub(crate) use deny::DenyList;
use rbee_hive_policy::{SeccompProfile, call_number, newest_call};
use rbee_hive_sys::seccomp::{Insn, Notified};

/// What keeps a profile from becoming filters.
#[derive(Debug, thiserror::Error)]
#[error("make the filter {part:?} of the seccomp profile {profile:?}")]
pub(crate) struct FilterError {
    profile: String,
    part: &'static str,
    #[source]
    source: seccompiler::BackendError,
}

/// A call that is no violation, but may be made a number of times only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A netlink socket. What waits in one to be read is charged to nobody, neither on v1 nor on v2, and 4,000 of them hold a gigabyte.
    Netlink,
    /// A filter of the worker's own. Its machine code is charged to nobody, and the whole machine has so much room for it (the sysctl
    /// net.core.bpf_jit_limit): when that is full, nobody's filters can be loaded.
    Filter,
}

impl Counted {
    /// Each with its call, the argument that decides (of which the kernel looks at the lower 32 bits) and its value there.
    const ALL: [(Self, i64, u8, u32); 3] = [
        (Self::Netlink, libc::SYS_socket, 0, libc::AF_NETLINK as u32),
        (Self::Filter, libc::SYS_seccomp, 0, libc::SECCOMP_SET_MODE_FILTER),
        (Self::Filter, libc::SYS_prctl, 0, libc::PR_SET_SECCOMP as u32),
    ];

    /// What a notified call is, if it is one of these.
    pub(crate) fn of(call: &Notified) -> Option<Self> {
        let native = call.arch == assemble::ARCH.1;
        let same = |(_, number, arg, value): &&(Self, i64, u8, u32)| {
            i64::from(call.number) == *number && call.args.get(usize::from(*arg)).is_some_and(|a| *a as u32 == *value)
        };
        Self::ALL.iter().find(same).filter(|_| native).map(|found| found.0)
    }
}

/// The filters of one worker, in the order in which they are loaded.
#[derive(Clone)]
pub(crate) struct Filters {
    /// Each gives errors to some calls and lets all others pass.
    pub(crate) refusing: Vec<Vec<Insn>>,
    /// Notifies of what is not allowed.
    pub(crate) notifying: Vec<Insn>,
    /// The same, but kills: for where nobody can listen.
    pub(crate) killing: Vec<Insn>,
}

impl Filters {
    /// Compiles `profile` for a worker with these capabilities.
    pub(crate) fn compile(profile: &SeccompProfile, capabilities: &[String]) -> Result<Self, FilterError> {
        let failed = |part| move |source| FilterError { profile: profile.name.clone(), part, source };
        let refusing = Self::refusing(profile, capabilities)?;
        let calls = profile.allow.iter().flat_map(|a| &a.calls).filter_map(|name| call_number(name));
        let (notifying, killing) = assemble::allowing(calls).map_err(failed("allow"))?;
        Ok(Self { refusing, notifying, killing })
    }

    /// Filters under which everything that `profile` does not refuse with an errno is notified: what it refuses, the kernel refuses.
    pub(crate) fn watching(profile: Option<&SeccompProfile>, capabilities: &[String]) -> Result<Self, FilterError> {
        let refusing = match profile {
            Some(profile) => Self::refusing(profile, capabilities)?,
            None => vec![assemble::newer_than(newest_call())],
        };
        let (notifying, killing) = assemble::watching();
        Ok(Self { refusing, notifying, killing })
    }

    fn refusing(profile: &SeccompProfile, capabilities: &[String]) -> Result<Vec<Vec<Insn>>, FilterError> {
        let failed = |part| move |source| FilterError { profile: profile.name.clone(), part, source };
        let mut refusing = vec![assemble::newer_than(newest_call())];
        let mut errnos: Vec<_> = profile.refused(capabilities).map(|r| r.errno).collect();
        errnos.sort_unstable();
        errnos.dedup();
        for errno in errnos {
            let entries = profile.refused(capabilities).filter(|r| r.errno == errno);
            refusing.push(assemble::refusing(entries, errno).map_err(failed("refuse"))?);
        }
        Ok(refusing)
    }

    /// Instructions in all filters.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.refusing.iter().map(Vec::len).sum::<usize>() + self.notifying.len()
    }
}

impl std::fmt::Debug for Filters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filters({} + {} instructions)", self.refusing.iter().map(Vec::len).sum::<usize>(), self.notifying.len())
    }
}

#[cfg(test)]
mod tests;
