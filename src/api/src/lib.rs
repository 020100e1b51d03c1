//! The wire types of a hive's JSON-RPC interface, and a client for them.
//!
//! Owns what `API.md` says about shapes: unknown fields and kinds are tolerated, so that an older client reads a newer hive.
//! Must never know anything else of this workspace: a program that talks to hives depends on this crate alone.
#![forbid(unsafe_code)]

mod client;
mod wire;

pub use client::{Client, ClientError, Deadline, Endpoint, EventStream, InvalidEndpoint, MAX_ANSWER_BYTES};
pub use wire::{
    BelowUse, Cgroup, Device, DeviceMount, DeviceMps, DevicePart, DeviceProcess, ErrorData, Event, EventEnd, EventQuery, ExplainedLimit,
    Exposure, ExposurePoint, GpuMemory, HiveCgroup, HiveInfo, HostFeature, Incident, JudgedAs, JudgedSetting, KnownVerdict, Lease,
    LeaseParams, LimitValue, LogLine, LogPage, MemoryEvents, MemoryKinds, NotInForce, PageFaults, PolicyCheck, PolicyExplanation,
    PolicyFinding, PolicyInfo, PolicyJudgement, PolicyScore, PolicySetting, PolicyText, Pressure, Process, Resources, RpcError,
    SpawnParams, SpawnWait, Stall, Stalls, Throttled, Topology, Unmeasured, Verdict, VerdictKind, Verified, WaitFor, Worker,
    WorkerExplanation, WorkerHistory,
};
