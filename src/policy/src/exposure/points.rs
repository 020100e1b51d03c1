//! The table: which settings count, how much, and what measures them.

use super::{Measured, confinement, reach, resources};
use crate::Policy;

/// One line of the table.
pub(super) struct Row {
    pub(super) setting: &'static str,
    pub(super) weight: u32,
    pub(super) measure: fn(&Policy) -> Measured,
}

const fn row(setting: &'static str, weight: u32, measure: fn(&Policy) -> Measured) -> Row {
    Row { setting, weight, measure }
}

/// The heavier, the more of the host lies behind it: what reaches beyond the machine and into the kernel first.
pub(super) const POINTS: &[Row] = &[
    row("network.mode", 30, reach::network),
    row("seccomp.profile", 20, confinement::seccomp),
    row("seccomp.allow", 8, confinement::dangerous_calls),
    row("credentials.capabilities", 20, confinement::capabilities),
    row("credentials.user", 8, confinement::user),
    row("landlock.enforce", 10, confinement::landlock),
    row("filesystem.read_write", 8, reach::read_write),
    row("filesystem.read_only", 5, reach::read_only),
    row("devices.gpus", 6, reach::gpus),
    row("devices.nodes", 8, reach::nodes),
    row("environment.pass", 2, reach::environment),
    row("limits.memory_max", 6, resources::memory_max),
    row("limits.pids_max", 4, resources::pids_max),
    row("limits.swap_max", 2, resources::swap_max),
    row("limits.cpus", 2, resources::cpus),
    row("limits.open_files", 1, resources::open_files),
    row("request.may_set", 3, confinement::may_set),
    row("process.umask", 1, confinement::umask),
];

/// Takes a policy apart without `..`: a field that is added to policies does not compile until it is decided here whether it counts.
///
/// It does nothing when it runs.
pub(super) fn decided(policy: &Policy) {
    use crate::file::{
        CredentialsSection, DevicesSection, EnvironmentSection, FilesystemSection, LandlockSection, ProcessSection, ReadinessSection,
        RequestSection, RestartSection, SeccompSection, WorkerSection,
    };
    let Policy {
        description: _, // for people
        worker,
        readiness,
        limits: _, // each key by name above
        network: _,
        filesystem,
        devices,
        environment,
        credentials,
        seccomp,
        landlock,
        restart,
        request,
        process,
        verify: _,   // what is looked at later holds nothing by itself
        pressure: _, // nor does what is told
        idle: _,     // a worker that does nothing opens nothing
    } = policy;
    // How a worker is started and stopped opens nothing; model, binary and libraries are shown read-only.
    let WorkerSection { binary: _, command: _, model_dirs: _, binary_dirs: _, library_dirs: _, stop: _, on_hive_exit: _, on_oom: _ } =
        worker;
    let ReadinessSection { probe: _, start_timeout_ms: _, stall_timeout_ms: _ } = readiness;
    // Memory of tmpfs is the worker's own, and so under its memory_max.
    let FilesystemSection { root: _, read_only: _, read_write: _, tmp_size: _, shm_size: _ } = filesystem;
    // Sharing counts with `gpus`. How many, which and how much of their memory is between a worker and those that it shares them with.
    let DevicesSection {
        gpus: _,
        share: _,
        nodes: _,
        count: _,
        affinity: _,
        vram_min: _,
        gpu_memory_max: _,
        gpu_memory_action: _,
        mps: _,
        mps_active_threads: _,
    } = devices;
    // `set` holds what the policy's author wrote.
    let EnvironmentSection { pass: _, set: _ } = environment;
    let CredentialsSection { user: _, capabilities: _ } = credentials;
    let SeccompSection { profile: _, reason: _, rules: _ } = seccomp;
    let LandlockSection { enforce: _, reason: _ } = landlock;
    let RestartSection { when: _, max_restarts: _ } = restart;
    let RequestSection { may_set: _, max: _ } = request;
    // What a worker may take of CPU and devices before others is for the host's limits to say.
    let ProcessSection { umask: _, oom_score_adj: _, scheduler: _, nice: _, io_class: _, io_priority: _, numa: _, timer_slack_ns: _ } =
        process;
}
