//! Devices of one request: from leased names to nodes with numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbee_hive_devices::{DeviceNumbers, Inventory, Near, NodeKind};
use rbee_hive_policy::{Affinity, Bind, BindSource, DeviceAccess, DeviceKind, DeviceNode, Policy};

use crate::cgroup::Tree;
use crate::launcher::LauncherOptions;
use crate::protocol::{HostFeature, LaunchError, LaunchErrorKind};
use crate::step::CallError;

/// What every program expects in `/dev`.
const BASIC: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
const ALL: DeviceAccess = DeviceAccess { read: true, write: true, mknod: true };
const READ_WRITE: DeviceAccess = DeviceAccess { read: true, write: true, mknod: false };

/// How long the drivers may take to say which GPUs there are.
const DRIVER_DEADLINE: Duration = Duration::from_secs(10);

/// What a lease means on this host.
pub(crate) struct DeviceFacts {
    /// All granted nodes.
    pub(crate) nodes: Vec<DeviceNode>,
    /// Those of leased GPUs, each with its GPU's memory, if known.
    pub(crate) exclusive: Vec<(DeviceNode, Option<u64>)>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cpuset: Option<String>,
    pub(crate) mems: Option<String>,
    /// GPUs that nothing can be placed next to, and why.
    pub(crate) nowhere_near: Vec<String>,
    /// Files of the drivers, read-only.
    pub(crate) binds: Vec<Bind>,
    /// PCI addresses of the GPUs.
    pub(crate) gpu_pci: BTreeMap<String, String>,
    pub(crate) host_cpus: String,
}

impl DeviceFacts {
    pub(crate) fn of(inventory: &Inventory, leased: &[String], policy: &Policy) -> Result<Self, LaunchError> {
        let gpu = leased.iter().any(|d| d.starts_with("GPU-"));
        if gpu && policy.devices.gpus == rbee_hive_policy::Gpus::None {
            return Err(LaunchError::new(LaunchErrorKind::PolicyViolation, "the policy grants no GPU"));
        }
        if let Some(whole) = inventory.gpus.iter().find(|g| g.partitioned && leased.contains(&format!("GPU-{}", g.index))) {
            let text = format!("GPU-{} is cut into parts, which are leased in its place", whole.index);
            return Err(LaunchError::new(LaunchErrorKind::NoSuchDevice, text).with_hint("`rbee-hive devices` lists them"));
        }
        let grant = inventory.grant(leased).map_err(|e| LaunchError::new(LaunchErrorKind::NoSuchDevice, e.to_string()))?;
        let mut nodes = Vec::new();
        for path in BASIC {
            nodes.push(node(Path::new(path), ALL)?);
        }
        let mut exclusive = Vec::new();
        for path in &grant.exclusive {
            let memory = inventory.gpus.iter().find(|g| g.nodes.contains(path)).and_then(|g| g.memory_bytes);
            exclusive.push((node(path, READ_WRITE)?, memory));
        }
        for path in &grant.shared {
            nodes.push(node(path, READ_WRITE)?);
        }
        for listed in &policy.devices.nodes {
            nodes.push(node(&listed.path, listed.access)?);
        }
        nodes.extend(exclusive.iter().map(|(node, _)| node.clone()));
        nodes.sort();
        nodes.dedup_by(|a, b| a.path == b.path);
        let near = match policy.devices.affinity {
            Affinity::Device => inventory.near(leased),
            Affinity::None => Near::default(),
        };
        Ok(Self {
            nodes,
            exclusive,
            env: grant.env,
            // A lease is of CPUs or of GPUs.
            cpuset: grant.cpuset.or(near.cpuset),
            mems: grant.mems.or(near.mems),
            nowhere_near: near.unknown,
            gpu_pci: pci_addresses(inventory, leased),
            binds: grant.mounts.into_iter().map(driver_file).collect(),
            host_cpus: inventory.cpus.clone(),
        })
    }
}

fn pci_addresses(inventory: &Inventory, leased: &[String]) -> BTreeMap<String, String> {
    let named = inventory.gpus.iter().filter_map(|gpu| Some((format!("GPU-{}", gpu.index), gpu.pci.clone()?)));
    named.filter(|(name, _)| leased.contains(name)).collect()
}

/// One that the host has lost since is left out: a driver's programs say themselves what they lack.
fn driver_file((host, inside): (PathBuf, PathBuf)) -> Bind {
    Bind { source: BindSource::Path { path: host }, target: inside, writable: false, optional: true }
}

fn node(path: &Path, access: DeviceAccess) -> Result<DeviceNode, LaunchError> {
    let numbers = DeviceNumbers::of(path).map_err(|e| {
        LaunchError::new(LaunchErrorKind::NoSuchDevice, super::super::serve::error_chain(&e))
            .with_hint("the driver makes its nodes when it is loaded (for NVIDIA: nvidia-modprobe)")
    })?;
    let kind = match numbers.kind {
        NodeKind::Char => DeviceKind::Char,
        NodeKind::Block => DeviceKind::Block,
    };
    Ok(DeviceNode { path: path.to_owned(), kind, major: numbers.major, minor: numbers.minor, access })
}

/// The machine's inventory, or the simulated one.
pub(crate) fn inventory(options: &LauncherOptions) -> Result<Inventory, LaunchError> {
    let Some(path) = &options.devices else { return Ok(Inventory::probe_within(&options.device_helper, DRIVER_DEADLINE)) };
    let text =
        std::fs::read_to_string(path).map_err(|e| LaunchError::setup("read the devices", CallError::new(format!("read({path:?})"), e)))?;
    Inventory::from_simulation(&text, &path.display().to_string())
        .map_err(|e| LaunchError::new(LaunchErrorKind::InvalidParams, e.to_string()))
}

/// Whether the kernel has seccomp filters, and whether they can notify (seccomp(2)).
pub(crate) fn seccomp_actions() -> (bool, bool) {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let has = |action: &str| actions.split_whitespace().any(|a| a == action);
    (has("errno"), has("user_notif"))
}

/// Features that the launcher can tell of.
pub(crate) fn host_features(tree: &Tree) -> BTreeMap<String, HostFeature> {
    let unenforceable = tree.unenforceable();
    let mut features: BTreeMap<String, HostFeature> = rbee_hive_policy::LimitKey::ALL
        .into_iter()
        .map(|key| {
            let why = unenforceable.get(&key).cloned();
            (key.name().to_owned(), HostFeature { supported: why.is_none(), why: why.unwrap_or_else(|| "enforced by the kernel".into()) })
        })
        .collect();
    let mut add = |name: &str, supported: bool, why: &str| {
        features.insert(name.to_owned(), HostFeature { supported, why: why.to_owned() });
    };
    let namespaces = match nix::unistd::geteuid().is_root() {
        true => "mount, pid, ipc, uts, net and cgroup namespaces for each worker, and a uid of its own",
        false => "mount, pid, ipc, uts, net, cgroup and user namespaces for each worker, all with the uid of who started the hive",
    };
    add("namespaces", true, namespaces);
    let seccomp = match seccomp_actions() {
        (true, true) => (true, "default-deny profiles; a violation is named by the init before it kills"),
        (true, false) => (true, "default-deny profiles; a violation kills without its name: this kernel has no notifications (5.0)"),
        (false, _) => (false, "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)"),
    };
    add("seccomp", seccomp.0, seccomp.1);
    let landlock = match rbee_hive_sys::landlock::abi() {
        0 => (false, "this kernel has none, or was booted without it (lsm=landlock,…)".to_owned()),
        abi @ 1..6 => (true, format!("ABI {abi}: a part of what is used here; 6 has all of it")),
        abi => (true, format!("ABI {abi}")),
    };
    add("landlock", landlock.0, &landlock.1);
    features.extend(super::abilities::features().into_iter().map(|(name, feature)| (name.to_owned(), feature)));
    features
}
