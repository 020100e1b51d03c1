//! `[devices]`: how many GPUs, how they are shared, and how much of their memory a worker may have.
//!
//! Must never know which GPUs there are: what a host lacks is found out when a worker is started.

mod raw;
mod resolve;

use serde::{Deserialize, Serialize};

use super::{ListedNode, Setting};
use crate::plan::Enforce;

pub(super) use raw::{RawMemory, RawShare};
pub(super) use resolve::{Given, resolve};

/// GPUs and further nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevicesSection {
    /// Whether a GPU is leased.
    pub gpus: Gpus,
    /// How many GPUs a worker gets whose request names none, 1 to 64.
    #[serde(default = "one")]
    pub count: u32,
    /// Whether its GPUs are its own.
    #[serde(default)]
    pub share: GpuShare,
    /// Whether its CPUs and memory are those next to its GPUs.
    #[serde(default)]
    pub affinity: Affinity,
    /// Bytes of memory that each of its GPUs must have free, or there is no lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_min: Option<u64>,
    /// Most bytes of memory that it may have on each of its GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory_max: Option<Setting<u64>>,
    /// What happens when it has more and nothing holds it back.
    #[serde(default)]
    pub gpu_memory_action: GpuMemoryAction,
    /// Whether workers that share a GPU go through one MPS server.
    #[serde(default)]
    pub mps: Mps,
    /// Percent of a GPU's threads that MPS lets it have, 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mps_active_threads: Option<u32>,
    /// Further nodes.
    pub nodes: Vec<ListedNode>,
}

fn one() -> u32 {
    1
}

/// `gpus` of `[devices]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpus {
    /// No GPU.
    None,
    /// What the request leases.
    Leased,
}

/// `share` of `[devices]`: `"exclusive"`, `{ ways = 4 }` or `{ memory = "20GiB" }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuShare {
    /// Nobody else has it meanwhile.
    #[default]
    Exclusive,
    /// At most so many workers have it, 2 to 64.
    Ways(u32),
    /// As many as fit with so many bytes each.
    Memory(u64),
}

/// `affinity` of `[devices]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Every CPU that the policy allows.
    #[default]
    None,
    /// CPUs and memory nodes next to its GPUs.
    Device,
}

/// `gpu_memory_action` of `[devices]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuMemoryAction {
    /// It is told.
    Warn,
    /// It is told; a worker that stays over the limit is stopped.
    #[default]
    Stop,
}

/// `mps` of `[devices]`: NVIDIA's Multi-Process Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mps {
    /// Never.
    #[default]
    Off,
    /// Where the host has it; else `not_in_force` says why not.
    IfAvailable,
    /// Or the start is refused.
    Required,
}

impl Mps {
    /// What happens where it can't be had; `None` where nobody asks for it.
    pub fn enforce(self) -> Option<Enforce> {
        match self {
            Self::Off => None,
            Self::IfAvailable => Some(Enforce::IfAvailable),
            Self::Required => Some(Enforce::Required),
        }
    }
}

#[cfg(test)]
mod tests;
