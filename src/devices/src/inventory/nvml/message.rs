//! What a helper prints: one JSON value a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Lines about a GPU itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Described {
    /// What it tells of itself.
    Gpu(Box<Told>),
    /// What is between it and another GPU, by that one's PCI address: a PCIe switch (`pix`), several (`pxb`), a host bridge (`phb`), a NUMA
    /// node's bridges (`node`), the whole machine (`sys`). Asked last: it touches the others.
    Near(BTreeMap<String, String>),
    /// What is not known, and why; one sentence.
    Failed(String),
}

/// One GPU as NVML tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    pub(crate) uuid: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) memory_bytes: Option<u64>,
    /// Whether MIG mode is on; `None` where the GPU has none.
    pub(crate) mig_enabled: Option<bool>,
    pub(crate) parts: Vec<ToldPart>,
    /// PCI addresses at the other end of its NVLinks, as sysfs writes them.
    pub(crate) nvlinks: Vec<String>,
    /// Whether an NVLink leads to an NVSwitch.
    pub(crate) nvswitch: bool,
}

/// A part of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToldPart {
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
    pub(crate) uuid: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) memory_bytes: Option<u64>,
}

/// Lines about what a GPU is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Watched {
    /// It answers.
    Used(Used),
    /// It does not, and why; one sentence.
    Failed(String),
}

/// What a GPU is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Used {
    pub(crate) memory_used_bytes: Option<u64>,
    /// `None` where the driver lists none.
    pub(crate) processes: Option<Vec<Running>>,
    /// Bytes in use by GPU instance and compute instance.
    pub(crate) parts: Vec<(u32, u32, Option<u64>)>,
}

/// A process on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) memory_bytes: Option<u64>,
    /// GPU instance and compute instance, on a GPU that is cut up.
    pub(crate) part: Option<(u32, u32)>,
}
