//! When and where the worker computes: scheduling class, nice value, block I/O, memory policy, timers.
//!
//! What the policy does not name stays as it was for who started the hive, but nobody's real-time class is handed on.

use rbee_hive_policy::units::NumberList;
use rbee_hive_policy::{IoClass, NumaMode, NumaPlan, ProcessPlan, Scheduler};
use rbee_hive_sys::memory_policy::{self, Mode};
use rbee_hive_sys::scheduling::{self, Class, IoClass as SysIoClass};

use crate::init::InitContext;
use crate::step::{CallError, failed};

/// The middle, and what processes have that never asked (ioprio_set(2)).
const IO_PRIORITY: u8 = 4;

/// For the launcher, so that neither it nor what it starts is in a real-time class: a cgroup without a share of real time takes no such task
/// (EINVAL), and a worker in one keeps everybody else from running.
pub(crate) fn leave_real_time() -> Result<(), CallError> {
    if scheduling::class().map_err(failed(|| "sched_getscheduler(0)".into()))? == Class::Special {
        scheduling::set_class(Class::Other).map_err(failed(|| "sched_setscheduler(0, SCHED_OTHER)".into()))?;
    }
    // A kernel without block devices has no such classes to hand on.
    if scheduling::io_is_real_time().unwrap_or(false) {
        scheduling::set_io_class(SysIoClass::BestEffort(IO_PRIORITY)).map_err(failed(|| "ioprio_set(IOPRIO_CLASS_BE)".into()))?;
    }
    Ok(())
}

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let plan = &context.plan.process;
    set_scheduler(plan)?;
    if let Some(nice) = plan.nice {
        rustix::process::setpriority_process(None, nice).map_err(failed(|| format!("setpriority(PRIO_PROCESS, {nice})")))?;
    }
    set_io(plan)?;
    if let Some(numa) = &plan.numa {
        set_memory_policy(numa)?;
    }
    match plan.timer_slack_ns {
        Some(ns) => nix::sys::prctl::set_timerslack(ns).map_err(failed(|| format!("prctl(PR_SET_TIMERSLACK, {ns})"))),
        None => Ok(()),
    }
}

fn set_scheduler(plan: &ProcessPlan) -> Result<(), CallError> {
    let wanted = match plan.scheduler {
        Some(Scheduler::Other) => Class::Other,
        Some(Scheduler::Batch) => Class::Batch,
        Some(Scheduler::Idle) => Class::Idle,
        None => return Ok(()),
    };
    // Out of SCHED_IDLE is not everybody's way, and staying needs none.
    if scheduling::class().map_err(failed(|| "sched_getscheduler(0)".into()))? == wanted {
        return Ok(());
    }
    scheduling::set_class(wanted).map_err(failed(|| format!("sched_setscheduler(0, {wanted:?})")))
}

fn set_io(plan: &ProcessPlan) -> Result<(), CallError> {
    let class = match plan.io_class {
        Some(IoClass::BestEffort) => SysIoClass::BestEffort(plan.io_priority.unwrap_or(IO_PRIORITY)),
        Some(IoClass::Idle) => SysIoClass::Idle,
        None => return Ok(()),
    };
    scheduling::set_io_class(class).map_err(failed(|| format!("ioprio_set(IOPRIO_WHO_PROCESS, {class:?})")))
}

fn set_memory_policy(numa: &NumaPlan) -> Result<(), CallError> {
    let list: NumberList = numa.nodes.parse().unwrap_or_default();
    let nodes: Vec<u32> = list.0.into_iter().collect();
    let mode = match numa.mode {
        NumaMode::Default => Mode::Default,
        NumaMode::Bind => Mode::Bind,
        NumaMode::Interleave => Mode::Interleave,
        NumaMode::Preferred if nodes.len() > 1 => Mode::PreferredMany,
        NumaMode::Preferred => Mode::Preferred,
    };
    let done = match memory_policy::set(mode, &nodes) {
        // Before Linux 5.15 one node can be preferred.
        Err(e) if mode == Mode::PreferredMany && e.raw_os_error() == Some(libc::EINVAL) => memory_policy::set(Mode::Preferred, &nodes[..1]),
        other => other,
    };
    done.map_err(|e| {
        CallError::new(format!("set_mempolicy({mode:?}, {:?})", numa.nodes), e)
            .hint("take numa out of the policy, or let it be if_available")
    })
}
