//! The policy file: TOML to [`Policy`], strictly.
//!
//! Each file is checked by itself, so that an error names its own file, line and key; then what it includes is put under it.

mod error;
mod gpu;
mod idle;
mod raw;
mod resolve;
mod scalar;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use error::PolicyError;
pub use gpu::{Affinity, DevicesSection, GpuMemoryAction, GpuShare, Gpus, Mps};
use raw::RawPolicy;
pub(crate) use scalar::signal_name;

use crate::SeccompProfile;
use crate::oom::{OnOom, PressurePlan};
use crate::origin::{Origins, Traced};
use crate::plan::{DeviceAccess, Enforce, IoClass, NetworkMode, NumaMode, OnHiveExit, Readiness, Scheduler, StopPlan, VerifyPlan};
use crate::{IdlePlan, LimitKey, LimitValue, Limits};

/// Deepest chain of includes.
const MAX_DEPTH: usize = 8;

/// A policy with its includes resolved and its defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// For people.
    pub description: String,
    /// `[worker]`
    pub worker: WorkerSection,
    /// `[readiness]`
    pub readiness: ReadinessSection,
    /// `[limits]`, with `pids_max` where the file says nothing.
    pub limits: Limits,
    /// `[network] mode`
    pub network: NetworkMode,
    /// `[filesystem]`
    pub filesystem: FilesystemSection,
    /// `[devices]`
    pub devices: DevicesSection,
    /// `[environment]`
    pub environment: EnvironmentSection,
    /// `[credentials]`
    pub credentials: CredentialsSection,
    /// `[seccomp]`
    pub seccomp: SeccompSection,
    /// `[landlock]`
    pub landlock: LandlockSection,
    /// `[restart]`
    pub restart: RestartSection,
    /// `[request]`
    pub request: RequestSection,
    /// `[process]`
    pub process: ProcessSection,
    /// `[verify]`
    pub verify: VerifyPlan,
    /// `[pressure]`
    #[serde(default)]
    pub pressure: PressurePlan,
    /// `[idle]`
    #[serde(default)]
    pub idle: IdlePlan,
}

/// What is run, and how it is ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSection {
    /// Name or absolute path.
    pub binary: String,
    /// Template of the command line.
    pub command: Vec<String>,
    /// Where models may lie.
    pub model_dirs: Vec<PathBuf>,
    /// Further places for the binary.
    pub binary_dirs: Vec<PathBuf>,
    /// Further places for its libraries.
    pub library_dirs: Vec<PathBuf>,
    /// Signal and grace.
    pub stop: StopPlan,
    /// Whether it outlives the hive.
    pub on_hive_exit: OnHiveExit,
    /// What follows when one of its processes is killed for want of memory.
    #[serde(default)]
    pub on_oom: OnOom,
}

/// When it is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadinessSection {
    /// How it is probed.
    pub probe: Readiness,
    /// Absolute cap, milliseconds.
    pub start_timeout_ms: u64,
    /// Without progress, milliseconds.
    pub stall_timeout_ms: u64,
}

/// What of the host's files it sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesystemSection {
    /// A directory that is the root, read-only; without one the root is made of what is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Read-only.
    pub read_only: Vec<ListedPath>,
    /// Writable.
    pub read_write: Vec<ListedPath>,
    /// Bytes of `/tmp` and of the home.
    pub tmp_size: u64,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
}

/// A host path that a policy shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPath {
    /// Absolute.
    pub path: PathBuf,
    /// Left out where the host lacks it.
    pub optional: bool,
}

/// A device node that a policy grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedNode {
    /// Absolute, below `/dev`.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// The environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSection {
    /// Names passed on from who started the hive.
    pub pass: Vec<String>,
    /// Fixed values.
    pub set: std::collections::BTreeMap<String, String>,
}

/// Who the worker is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CredentialsSection {
    /// `per-worker`, `user-namespace` or a user's name.
    pub user: String,
    /// Capabilities kept.
    pub capabilities: Vec<GrantedCapability>,
}

/// A capability and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedCapability {
    /// `CAP_…`
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Which system calls may be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeccompSection {
    /// The profile's name, or `none`.
    pub profile: String,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The profile; it is shown by itself, not with every policy.
    #[serde(skip)]
    pub rules: Option<SeccompProfile>,
}

/// The worker's Landlock domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockSection {
    /// Whether it must be in force.
    pub enforce: LandlockMode,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `enforce` of `[landlock]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LandlockMode {
    /// All of it, or the start is refused.
    Required,
    /// What the kernel has; the rest is listed in `not_in_force`.
    IfAvailable,
    /// None, with a reason.
    None,
}

/// What happens after an end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartSection {
    /// When it is started again.
    pub when: RestartWhen,
    /// How often before it is given up.
    pub max_restarts: u32,
}

/// `when` of `[restart]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// Never.
    Never,
    /// After a failure.
    OnFailure,
    /// After every end that was not asked for.
    Always,
}

/// What a request may say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestSection {
    /// Of `args`, `env`, `limits`.
    pub may_set: BTreeSet<MaySet>,
    /// Up to where limits may be raised.
    pub max: std::collections::BTreeMap<LimitKey, LimitValue>,
}

/// What a request may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaySet {
    /// Arguments.
    Args,
    /// Environment.
    Env,
    /// Limits.
    Limits,
}

/// Attributes of the worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSection {
    /// `umask(2)`.
    pub umask: u32,
    /// Never below 0.
    pub oom_score_adj: i32,
    /// Class of CPU scheduling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// `nice(2)` value, -20 to 19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<Setting<i32>>,
    /// Class of block I/O.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_class: Option<IoClass>,
    /// Priority within `best-effort`, 0 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<u8>,
    /// Memory policy over the worker's nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<Setting<NumaMode>>,
    /// How late timers may be, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_slack_ns: Option<u64>,
}

/// A value, and what happens where the host can't put it in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Refuse, or report.
    pub enforce: Enforce,
}

impl Policy {
    /// Parses `text`, the file `source` of the policy `name`. `fragments` gives included texts by name.
    ///
    /// Errors name file, line and key.
    pub fn parse(name: &str, source: &str, text: &str, fragments: &dyn Fn(&str) -> Option<String>) -> Result<Self, PolicyError> {
        let raw = Reading::new(name, fragments, &mut |_, _| {}).load(source, text)?;
        resolve::resolve(source, raw, fragments)
    }

    /// As [`Policy::parse`], with the place of everything that the texts say.
    pub fn trace(name: &str, source: &str, text: &str, fragments: &dyn Fn(&str) -> Option<String>) -> Result<Traced, PolicyError> {
        let mut origins = Origins::default();
        let raw = Reading::new(name, fragments, &mut |file, text| origins.add(file, text)).load(source, text)?;
        let policy = resolve::resolve(source, raw, fragments)?;
        let profile = format!("seccomp/{}", policy.seccomp.profile);
        if let Some(text) = policy.seccomp.rules.as_ref().and_then(|_| fragments(&profile)) {
            origins.add_profile(&format!("{profile}.toml"), &text);
        }
        Ok(Traced { policy, origins })
    }

    /// Every host path that it shows.
    pub fn listed_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.filesystem.read_only.iter().chain(&self.filesystem.read_write).map(|p| p.path.clone())
    }

    /// Whether a worker under it takes a port (`API.md`, "Ports").
    pub fn takes_port(&self) -> bool {
        let names = |word: &str| self.worker.command.iter().any(|part| part.contains(word));
        let reachable = self.readiness.probe != Readiness::None || names("{port}") || names("{socket}");
        self.network != NetworkMode::None && reachable
    }
}

/// Reads a policy and what it includes.
struct Reading<'r> {
    fragments: &'r dyn Fn(&str) -> Option<String>,
    /// From the policy to the file that is being read.
    chain: Vec<String>,
    /// All that were read: once more adds nothing, and would let few files become a great many.
    loaded: BTreeSet<String>,
    /// Is told each file and its text, in the order in which they count.
    seen: &'r mut dyn FnMut(&str, &str),
}

impl<'r> Reading<'r> {
    fn new(name: &str, fragments: &'r dyn Fn(&str) -> Option<String>, seen: &'r mut dyn FnMut(&str, &str)) -> Self {
        Self { fragments, chain: vec![name.to_owned()], loaded: BTreeSet::new(), seen }
    }

    fn load(&mut self, source: &str, text: &str) -> Result<RawPolicy, PolicyError> {
        let mut raw: RawPolicy = toml::from_str(text).map_err(|e| PolicyError::of_toml(source, text, &e))?;
        if self.chain.len() > MAX_DEPTH {
            return Err(PolicyError::plain(source, "include", "includes are nested more than 8 deep"));
        }
        (self.seen)(source, text);
        for name in std::mem::take(&mut raw.include) {
            let at = |message: String| PolicyError::at_word(source, text, "include", &name, message);
            if self.chain.contains(&name) {
                return Err(at(format!("{name:?} includes itself by way of {}", self.chain.join(" → "))));
            }
            let plain = name.split('/').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            if !plain {
                return Err(at(format!("{name:?} is not a name such as \"fragments/inference\"")));
            }
            let included = (self.fragments)(&name).ok_or_else(|| at(format!("there is no fragment {name:?}")))?;
            if !self.loaded.insert(name.clone()) {
                continue;
            }
            self.chain.push(name.clone());
            let base = self.load(&format!("{name}.toml"), &included)?;
            self.chain.pop();
            raw = raw.over(base);
        }
        Ok(raw)
    }
}
