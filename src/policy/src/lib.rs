//! From what was asked (`WorkerRequest`) and what is allowed (`Policy`) to what is done (`SandboxPlan`).
//!
//! Owns the policy file format, the limits' units and the rules by which a request may narrow a policy.
//! Must never know: files, the kernel, tokio. Host facts arrive as values.
#![forbid(unsafe_code)]

pub mod check;
mod compile;
pub mod embedded;
pub mod explain;
pub mod exposure;
mod facts;
mod file;
mod id;
mod idle;
pub mod learn;
mod limit;
mod mps;
mod oom;
mod origin;
mod plan;
mod request;
mod seccomp;
pub mod units;

pub use compile::{PLAN_VERSION, Violation, compile, update};
pub use facts::{Ability, HostFacts};
pub use file::{
    Affinity, CredentialsSection, DevicesSection, EnvironmentSection, FilesystemSection, GpuMemoryAction, GpuShare, Gpus,
    GrantedCapability, LandlockMode, LandlockSection, ListedNode, ListedPath, MaySet, Mps, Policy, PolicyError, ProcessSection,
    ReadinessSection, RequestSection, RestartSection, RestartWhen, SeccompSection, Setting, WorkerSection,
};
pub use id::{InvalidWorkerId, WorkerId};
pub use idle::{IdleAction, IdlePlan};
pub use limit::{BlockLimits, InvalidLimit, InvalidNamed, IoBounds, LimitKey, LimitValue, Limits, PageLimits, PlannedLimit, RegionLimits};
pub use mps::{MPS_POLICY, MpsFacts, MpsPlan, MpsWish, mps_obstacle};
pub use oom::{InvalidTrigger, OnOom, PressurePlan, StallTrigger};
pub use origin::{Origin, Origins, Traced};
pub use plan::{
    Bind, BindSource, Credentials, DeviceAccess, DeviceKind, DeviceNode, Enforce, GpuMemoryEnforcer, GpuMemoryPlan, Ids, IoClass,
    LandlockPlan, NetworkMode, NotInForce, NumaMode, NumaPlan, OnDrift, OnHiveExit, ProcessPlan, Readiness, RootDirectory, SandboxPlan,
    Scheduler, StopPlan, TmpNodes, VerifyPlan,
};
pub use request::{Command, GpuLease, WorkerRequest};
pub use seccomp::{Allow, Condition, Errno, Refuse, SeccompProfile, call_name, call_number, newest_call};

#[cfg(test)]
mod tests;
