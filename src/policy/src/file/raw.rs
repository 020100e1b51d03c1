//! A policy file as it is written: everything may be absent, nothing may be unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::gpu::{RawMemory, RawShare};
use super::scalar::{Millis, Nanos, RawLimits, RawMax, RawSetting, SignalNumber, Size};
use super::{Affinity, GpuMemoryAction, Gpus, GrantedCapability, LandlockMode, MaySet, Mps, RestartWhen};
use crate::IdleAction;
use crate::oom::OnOom;
use crate::plan::{IoClass, NetworkMode, NumaMode, OnDrift, OnHiveExit, Scheduler};

/// Declares a table whose fields are all optional, with `over`: the one's values before the other's.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name { $(#[serde(default)] pub(super) $field: Option<$type>,)* }

        impl $name {
            fn over(self, base: Self) -> Self {
                Self { $($field: self.$field.or(base.$field),)* }
            }
        }
    };
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPolicy {
    pub(super) description: Option<String>,
    pub(super) include: Vec<String>,
    pub(super) worker: Worker,
    pub(super) readiness: ReadinessTable,
    pub(super) limits: RawLimits,
    pub(super) network: Network,
    pub(super) filesystem: Filesystem,
    pub(super) devices: Devices,
    pub(super) environment: Environment,
    pub(super) credentials: Credentials,
    pub(super) seccomp: Seccomp,
    pub(super) landlock: Landlock,
    pub(super) restart: Restart,
    pub(super) request: Request,
    pub(super) process: Process,
    pub(super) verify: Verify,
    pub(super) pressure: Pressure,
    pub(super) idle: Idle,
}

table!(
    /// `[worker]`
    Worker {
        binary: String,
        command: Vec<String>,
        model_dirs: Vec<PathBuf>,
        binary_dirs: Vec<PathBuf>,
        library_dirs: Vec<PathBuf>,
        stop_signal: SignalNumber,
        stop_grace: Millis,
        on_hive_exit: OnHiveExit,
        on_oom: OnOom,
    }
);

table!(
    /// `[readiness]`
    ReadinessTable {
        http: String,
        tcp: bool,
        notify: bool,
        none: bool,
        start_timeout: Millis,
        stall_timeout: Millis,
    }
);

table!(
    /// `[network]`
    Network {
        mode: NetworkMode,
    }
);

table!(
    /// `[filesystem]`
    Filesystem {
        root: PathBuf,
        read_only: Vec<RawPath>,
        read_write: Vec<RawPath>,
        tmp_size: Size,
        shm_size: Size,
    }
);

table!(
    /// `[devices]`
    Devices {
        gpus: Gpus,
        count: u32,
        share: RawShare,
        affinity: Affinity,
        vram_min: Size,
        gpu_memory_max: RawMemory,
        gpu_memory_action: GpuMemoryAction,
        mps: Mps,
        mps_active_threads: u32,
        nodes: Vec<RawNode>,
    }
);

table!(
    /// `[environment]`
    Environment {
        pass: Vec<String>,
        set: BTreeMap<String, String>,
    }
);

table!(
    /// `[credentials]`
    Credentials {
        user: String,
        capabilities: Vec<RawCapability>,
    }
);

table!(
    /// `[seccomp]`
    Seccomp {
        profile: String,
        reason: String,
    }
);

table!(
    /// `[landlock]`
    Landlock {
        enforce: LandlockMode,
        reason: String,
    }
);

table!(
    /// `[restart]`
    Restart {
        when: RestartWhen,
        max_restarts: u32,
    }
);

table!(
    /// `[request]`
    Request {
        may_set: BTreeSet<MaySet>,
        max: RawMax,
    }
);

table!(
    /// `[process]`
    Process {
        umask: String,
        oom_score_adj: i32,
        scheduler: Scheduler,
        nice: RawSetting<i32>,
        io_class: IoClass,
        io_priority: u8,
        numa: RawSetting<NumaMode>,
        timer_slack: Nanos,
    }
);

table!(
    /// `[verify]`
    Verify {
        interval: Millis,
        on_drift: OnDrift,
    }
);

table!(
    /// `[pressure]`
    Pressure {
        memory: RawSetting<String>,
    }
);

table!(
    /// `[idle]`
    Idle {
        after: Millis,
        action: IdleAction,
        max_warm: u32,
    }
);

/// A path, or `{ path = …, optional = true }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawPath {
    Plain(PathBuf),
    Detailed(DetailedPath),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DetailedPath {
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) optional: bool,
}

/// A node with its reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) path: PathBuf,
    pub(super) reason: String,
    #[serde(default)]
    pub(super) access: Option<String>,
}

/// A capability with its reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCapability {
    pub(super) name: String,
    pub(super) reason: String,
}

impl From<RawCapability> for GrantedCapability {
    fn from(raw: RawCapability) -> Self {
        Self { name: raw.name, reason: raw.reason }
    }
}

impl RawPolicy {
    /// This file's values before those of `base`, key by key.
    pub(super) fn over(self, base: Self) -> Self {
        let mut limits = base.limits;
        limits.0.extend(self.limits.0);
        Self {
            description: self.description.or(base.description),
            include: self.include,
            worker: self.worker.over(base.worker),
            readiness: self.readiness.over(base.readiness),
            limits,
            network: self.network.over(base.network),
            filesystem: self.filesystem.over(base.filesystem),
            devices: self.devices.over(base.devices),
            environment: self.environment.over(base.environment),
            credentials: self.credentials.over(base.credentials),
            seccomp: self.seccomp.over(base.seccomp),
            landlock: self.landlock.over(base.landlock),
            restart: self.restart.over(base.restart),
            request: self.request.over(base.request),
            process: self.process.over(base.process),
            verify: self.verify.over(base.verify),
            pressure: self.pressure.over(base.pressure),
            idle: self.idle.over(base.idle),
        }
    }
}
