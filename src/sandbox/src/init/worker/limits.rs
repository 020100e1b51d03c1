//! The worker's place in the cgroups, and what is limited by process.

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rbee_hive_policy::{LimitKey, SandboxPlan};

use crate::init::InitContext;
use crate::step::{CallError, failed};

/// What no worker gets.
const REFUSED: [rustix::process::Resource; 2] = [rustix::process::Resource::Rtprio, rustix::process::Resource::Nice];

pub(super) fn join_cgroup(context: &mut InitContext) -> Result<(), CallError> {
    for tasks in context.leaves.worker_tasks() {
        rustix::io::write(tasks, b"0").map_err(failed(|| "write(tasks, \"0\")".into()))?;
    }
    Ok(())
}

/// The worker sees its own leaf as the root of every hierarchy.
pub(super) fn unshare_cgroup(_: &mut InitContext) -> Result<(), CallError> {
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(failed(|| "unshare(CLONE_NEWCGROUP)".into()))
}

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let plan = &context.plan;
    // No real time and no better nice value than its own, ever. Never RLIMIT_AS: CUDA and llama.cpp reserve far more than they use.
    for resource in REFUSED {
        rustix::process::setrlimit(resource, rustix::process::Rlimit { current: Some(0), maximum: Some(0) })
            .map_err(failed(|| format!("setrlimit({resource:?}, 0)")))?;
    }
    for key in LimitKey::OF_A_PROCESS {
        if let (Some(limit), Some(resource)) = (plan.limits.get(&key), resource(key)) {
            set(key, resource, limit.value.count())?;
        }
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(plan.umask));
    adjust_oom_score(plan)
}

fn adjust_oom_score(plan: &SandboxPlan) -> Result<(), CallError> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let now: i32 = std::fs::read_to_string(FILE).ok().and_then(|t| t.trim().parse().ok()).unwrap_or_default();
    // An ordinary user may only raise it; it is not lower then than what the policy says.
    let wanted = if plan.user_namespace { plan.oom_score_adj.max(now) } else { plan.oom_score_adj };
    if wanted == now {
        return Ok(());
    }
    if plan.user_namespace {
        // The files of a process that can't be traced are root's, who is nobody here (proc(5)). execve(2) decides anew.
        nix::sys::prctl::set_dumpable(true).map_err(failed(|| "prctl(PR_SET_DUMPABLE, 1)".into()))?;
    }
    std::fs::write(FILE, wanted.to_string()).map_err(failed(|| format!("write({FILE:?}, {wanted})")))
}

/// The kernel's name of a limit that each process has for itself.
pub(crate) fn resource(key: LimitKey) -> Option<Resource> {
    Some(match key {
        LimitKey::OpenFiles => Resource::RLIMIT_NOFILE,
        LimitKey::CoreSize => Resource::RLIMIT_CORE,
        LimitKey::FileSize => Resource::RLIMIT_FSIZE,
        LimitKey::StackSize => Resource::RLIMIT_STACK,
        LimitKey::LockedMemory => Resource::RLIMIT_MEMLOCK,
        LimitKey::MessageQueues => Resource::RLIMIT_MSGQUEUE,
        LimitKey::PendingSignals => Resource::RLIMIT_SIGPENDING,
        LimitKey::UserTasks => Resource::RLIMIT_NPROC,
        LimitKey::CpuTime => Resource::RLIMIT_CPU,
        _ => return None,
    })
}

/// Soft and hard limit for a value; `None` is all that was `inherited`.
pub(crate) fn bounds(key: LimitKey, value: Option<u64>, inherited: u64) -> (u64, u64) {
    match (key, value.unwrap_or(inherited)) {
        // 0 would still let a dump go to a program that core_pattern names, with the host's privileges; 1 is the kernel's word for none at
        // all (do_coredump in fs/coredump.c).
        (LimitKey::CoreSize, 0) => (1, 1),
        // SIGXCPU says why; SIGKILL a second later is for who does not listen.
        (LimitKey::CpuTime, seconds) => (seconds, seconds.saturating_add(1).min(inherited.max(seconds))),
        (_, value) => (value, value),
    }
}

fn set(key: LimitKey, resource: Resource, value: Option<u64>) -> Result<(), CallError> {
    let (_, inherited) = getrlimit(resource).map_err(failed(|| format!("getrlimit({resource:?})")))?;
    let (mut soft, mut hard) = bounds(key, value, inherited);
    if key == LimitKey::CoreSize && value.unwrap_or(inherited) == 0 {
        if setrlimit(resource, soft, hard).is_ok() {
            return Ok(());
        }
        // Where not even that much may be had, 0 has to do.
        (soft, hard) = (0, 0);
    }
    setrlimit(resource, soft, hard).map_err(|e| {
        CallError::new(format!("setrlimit({resource:?}, {soft})"), e)
            .hint("raising a hard limit needs CAP_SYS_RESOURCE: lower the value or raise the limit of who starts the hive")
    })
}
