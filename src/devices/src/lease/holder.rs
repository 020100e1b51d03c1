//! A lease: who has which part of what.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Share;

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A worker, by its name: until its cgroup is empty and the memory is back.
    Worker(String),
    /// Somebody else, by the name that it gave: until it says so, its time is over, or its connection ends.
    External(String),
}

/// Devices in somebody's hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// `lease:<number>`, given once in a hive's life.
    pub id: String,
    /// Whose.
    pub holder: Holder,
    /// How much of each GPU.
    pub share: Share,
    /// Canonical names, in the order asked for.
    pub devices: Vec<String>,
    /// Its GPUs, each with whether its memory is awaited.
    pub(super) gpus: BTreeMap<u32, Hold>,
    /// The worker that runs on somebody else's lease.
    pub(super) user: Option<String>,
    /// Whether the holder has gone while a worker uses it.
    pub(super) abandoned: bool,
}

/// What of a GPU a lease has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Its share.
    Held,
    /// Its share, until the memory is back.
    Releasing,
}

/// A lease as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseView {
    /// `lease:<number>`.
    pub lease_id: String,
    /// `worker` or `external`.
    pub kind: &'static str,
    /// The worker's name, or the name that the holder gave.
    pub holder: String,
    /// Canonical names.
    pub devices: Vec<String>,
    /// `"exclusive"`, `{"ways": n}`, `{"memory": bytes}`; `None` for CPUs.
    pub share: Option<Share>,
    /// `held` or `releasing`.
    pub state: &'static str,
    /// The worker that runs on it, where that is not the holder.
    pub used_by: Option<String>,
}

impl Holder {
    /// The worker's, or the holder's own, name.
    pub fn name(&self) -> &str {
        match self {
            Self::Worker(name) | Self::External(name) => name,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(name) => write!(f, "worker {name}"),
            Self::External(name) => f.write_str(name),
        }
    }
}

impl Lease {
    /// Indices of its GPUs.
    pub fn gpus(&self) -> impl Iterator<Item = u32> + '_ {
        self.gpus.keys().copied()
    }

    /// Whether a worker runs on it that is not its holder.
    pub fn used_by(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether anything of it is still awaited.
    pub(super) fn is_releasing(&self) -> bool {
        self.gpus.values().any(|h| *h == Hold::Releasing)
    }

    /// In words, for who stands before it.
    pub(super) fn in_words(&self) -> String {
        let ended = if self.is_releasing() { ", whose memory is not back yet" } else { "" };
        let how = if self.share == Share::Exclusive { String::new() } else { format!(" ({})", self.share) };
        match &self.holder {
            Holder::Worker(name) => format!("worker {name}{how}{ended}"),
            Holder::External(name) => format!("{name} by {}{how}{ended}", self.id),
        }
    }

    /// As clients see it.
    pub fn view(&self) -> LeaseView {
        LeaseView {
            lease_id: self.id.clone(),
            kind: if matches!(self.holder, Holder::Worker(_)) { "worker" } else { "external" },
            holder: self.holder.name().to_owned(),
            devices: self.devices.clone(),
            share: (!self.gpus.is_empty()).then_some(self.share),
            state: if self.is_releasing() { "releasing" } else { "held" },
            used_by: self.user.clone(),
        }
    }
}
