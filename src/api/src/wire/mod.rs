//! Shapes on the wire, one file a concept. Must never know how they travel.

mod device;
mod error;
mod hive;
mod lease;
mod logs;
mod policy;
mod spawn;
mod verdict;
mod worker;

pub use device::{Device, DeviceMount, DevicePart, DeviceProcess, Topology};
pub use error::{ErrorData, RpcError};
pub use hive::{HiveCgroup, HiveInfo, HostFeature, PolicyInfo, PolicyText};
pub use lease::{Lease, LeaseParams};
pub use logs::{LogLine, LogPage};
pub use policy::{
    ExplainedLimit, Exposure, ExposurePoint, Incident, JudgedAs, JudgedSetting, PolicyCheck, PolicyExplanation, PolicyFinding,
    PolicyJudgement, PolicyScore, PolicySetting, WorkerExplanation,
};
pub use spawn::{SpawnParams, SpawnWait, WaitFor};
pub use verdict::{KnownVerdict, Verdict, VerdictKind};
pub use worker::{Cgroup, GpuMemory, LimitValue, NotInForce, Process, Resources, Verified, Worker};
