//! Shapes on the wire, one file a concept. Must never know how they travel.

mod device;
mod error;
mod event;
mod hive;
mod lease;
mod logs;
mod policy;
mod resources;
mod spawn;
mod verdict;
mod worker;

pub use device::{Device, DeviceMount, DeviceMps, DevicePart, DeviceProcess, Topology};
pub use error::{ErrorData, RpcError};
pub use event::{Event, EventEnd, EventQuery};
pub use hive::{HiveCgroup, HiveInfo, HostFeature, PolicyInfo, PolicyText};
pub use lease::{Lease, LeaseParams};
pub use logs::{LogLine, LogPage};
pub use policy::{
    ExplainedLimit, Exposure, ExposurePoint, Incident, JudgedAs, JudgedSetting, PolicyCheck, PolicyExplanation, PolicyFinding,
    PolicyJudgement, PolicyScore, PolicySetting, WorkerExplanation,
};
pub use resources::{MemoryEvents, MemoryKinds, PageFaults, Pressure, Resources, Stall, Stalls, Throttled, Unmeasured, WorkerHistory};
pub use spawn::{BelowUse, SpawnParams, SpawnWait, WaitFor};
pub use verdict::{KnownVerdict, Verdict, VerdictKind};
pub use worker::{Cgroup, GpuMemory, LimitValue, NotInForce, Process, Verified, Worker};
