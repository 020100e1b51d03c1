//! What hive, launcher and init say to each other: JSON datagrams over `SOCK_SEQPACKET`, descriptors by `SCM_RIGHTS`.
//!
//! One type for each direction. A message is at most [`MAX_MESSAGE`] bytes and carries at most [`MAX_FDS`] descriptors.

mod channel;
mod init;
mod judgement;
mod launcher;
mod memory;
mod resources;
mod sight;
mod texts;

pub use channel::{Channel, ChannelError};
pub use init::{FromInit, ToInit};
pub use judgement::{InForce, JudgedAs, JudgedSetting, Judgement};
pub use launcher::{BelowUse, CgroupFacts, CgroupMode, FromLauncher, HostFeature, LaunchError, LaunchErrorKind, PolicyInfo, ToLauncher};
pub use memory::{MAX_VICTIMS, MemoryPressure, OomKills, PressureSource};
pub use resources::{IoBytes, MemoryEvents, MemoryKinds, PageFaults, Percent, Pressure, ProcessIo, Resources, Stall, Stalls, Throttled};
pub use sight::{Descriptor, Inside, InsideProcess, Made, MountSeen, Namespaces, Place, ProgramSeen, Rlimit};
pub use texts::PolicyTexts;

/// Largest message, bytes.
pub const MAX_MESSAGE: usize = 160 * 1024;
/// Most descriptors in one message.
pub const MAX_FDS: usize = 32;
