//! From what is written to a [`Policy`]: defaults filled in, contradictions refused.

use std::path::{Component, Path, PathBuf};

use super::raw::{RawNode, RawPath, RawPolicy};
use super::{
    CredentialsSection, DevicesSection, EnvironmentSection, FilesystemSection, GrantedCapability, LandlockMode, LandlockSection,
    ListedNode, ListedPath, Policy, PolicyError, ProcessSection, ReadinessSection, RequestSection, RestartSection, RestartWhen,
    SeccompSection, Setting, WorkerSection,
};
use super::{gpu, idle};
use crate::compile::{check_template, valid_variable};
use crate::oom::{OnOom, PressurePlan};
use crate::plan::{DeviceAccess, Enforce, IoClass, NetworkMode, OnDrift, OnHiveExit, Readiness, StopPlan, VerifyPlan};
use crate::{LimitKey, LimitValue, PlannedLimit, SeccompProfile};

const SIGTERM: i32 = 15;
const MIB: u64 = 1 << 20;
/// What every policy sees of the system where it says nothing: what the host lacks of these is left out.
const DEFAULT_READ_ONLY: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache"];
/// The seed's command line.
const DEFAULT_COMMAND: [&str; 8] = ["{binary}", "--model", "{model}", "--device", "{device}", "--port", "{port}", "{args}"];
const DEFAULT_PIDS_MAX: u64 = 512;
const DEFAULT_VERIFY_MS: u64 = 30_000;
/// More often would cost more than it tells.
const MIN_VERIFY_MS: u64 = 1_000;
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

type Result<T> = std::result::Result<T, PolicyError>;

pub(super) fn resolve(file: &str, raw: RawPolicy, texts: &dyn Fn(&str) -> Option<String>) -> Result<Policy> {
    let wrong = |key: &str, message: String| PolicyError::plain(file, key, message);
    let network = raw.network.mode.unwrap_or(NetworkMode::Private);
    let policy = Policy {
        description: raw.description.clone().unwrap_or_default(),
        worker: worker(&raw).map_err(|(k, m)| wrong(k, m))?,
        readiness: readiness(&raw, network).map_err(|(k, m)| wrong(k, m))?,
        limits: limits(&raw),
        network,
        filesystem: filesystem(&raw).map_err(|(k, m)| wrong(k, m))?,
        devices: devices(&raw).map_err(|(k, m)| wrong(k, m))?,
        environment: environment(&raw).map_err(|(k, m)| wrong(k, m))?,
        credentials: credentials(&raw).map_err(|(k, m)| wrong(k, m))?,
        seccomp: seccomp(&raw, texts).map_err(|(k, m)| wrong(k, m))?,
        landlock: landlock(&raw).map_err(|(k, m)| wrong(k, m))?,
        restart: RestartSection {
            when: raw.restart.when.unwrap_or(RestartWhen::Never),
            max_restarts: raw.restart.max_restarts.unwrap_or(5),
        },
        request: RequestSection {
            may_set: raw.request.may_set.clone().unwrap_or_default(),
            max: raw.request.max.clone().unwrap_or_default().0,
        },
        process: process(&raw).map_err(|(k, m)| wrong(k, m))?,
        verify: verify(&raw).map_err(|(k, m)| wrong(k, m))?,
        pressure: pressure(&raw).map_err(|(k, m)| wrong(k, m))?,
        idle: idle::resolve(&raw).map_err(|(k, m)| wrong(k, m))?,
    };
    check_template(&policy).map_err(|m| wrong("worker.command", m))?;
    idle::check_waking(&policy).map_err(|m| wrong("idle.action", m))?;
    Ok(policy)
}

pub(super) type Wrong = (&'static str, String);

fn worker(raw: &RawPolicy) -> std::result::Result<WorkerSection, Wrong> {
    let table = &raw.worker;
    let binary = table.binary.clone().ok_or(("worker.binary", "is missing: every policy names its binary".to_owned()))?;
    if binary.is_empty() || binary.contains('\0') || (binary.contains('/') && !binary.starts_with('/')) {
        return Err(("worker.binary", format!("{binary:?} is neither a name nor an absolute path")));
    }
    let command = table.command.clone().unwrap_or_else(|| DEFAULT_COMMAND.map(str::to_owned).to_vec());
    Ok(WorkerSection {
        binary,
        command,
        model_dirs: absolute("worker.model_dirs", table.model_dirs.clone())?,
        binary_dirs: absolute("worker.binary_dirs", table.binary_dirs.clone())?,
        library_dirs: absolute("worker.library_dirs", table.library_dirs.clone())?,
        stop: StopPlan { signal: table.stop_signal.map_or(SIGTERM, |s| s.0), grace_ms: table.stop_grace.map_or(10_000, |m| m.0) },
        on_hive_exit: table.on_hive_exit.unwrap_or(OnHiveExit::Keep),
        on_oom: table.on_oom.unwrap_or_default(),
    })
}

fn absolute(key: &'static str, list: Option<Vec<PathBuf>>) -> std::result::Result<Vec<PathBuf>, Wrong> {
    let list = list.unwrap_or_default();
    match list.iter().find(|p| !clean(p)) {
        Some(bad) => Err((key, format!("{} is not an absolute path without `..`", bad.display()))),
        None => Ok(list),
    }
}

fn clean(path: &Path) -> bool {
    path.is_absolute() && path != Path::new("/") && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

fn readiness(raw: &RawPolicy, network: NetworkMode) -> std::result::Result<ReadinessSection, Wrong> {
    let table = &raw.readiness;
    let mut probes = Vec::new();
    if let Some(path) = &table.http {
        if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(("readiness.http", format!("{path:?} is not a path that starts with `/`")));
        }
        probes.push(Readiness::Http { path: path.clone() });
    }
    let said = [(table.tcp, Readiness::Tcp), (table.notify, Readiness::Notify), (table.none, Readiness::None)];
    probes.extend(said.into_iter().filter(|(on, _)| *on == Some(true)).map(|(_, probe)| probe));
    if probes.len() > 1 {
        return Err(("readiness", "says more than one of http, tcp, notify and none".to_owned()));
    }
    let probe = probes.pop().unwrap_or_else(|| match network {
        // Without a port there is nothing to probe.
        NetworkMode::None => Readiness::None,
        _ => Readiness::Http { path: "/health".into() },
    });
    if network == NetworkMode::None && matches!(probe, Readiness::Http { .. } | Readiness::Tcp) {
        return Err(("readiness", "probes a port, but the network mode is \"none\"".to_owned()));
    }
    Ok(ReadinessSection {
        probe,
        start_timeout_ms: table.start_timeout.map_or(600_000, |m| m.0),
        stall_timeout_ms: table.stall_timeout.map_or(60_000, |m| m.0),
    })
}

fn limits(raw: &RawPolicy) -> crate::Limits {
    let mut limits = raw.limits.0.clone();
    // A default that nobody asked for must not refuse a host without cgroups.
    let default = PlannedLimit { value: LimitValue::Count(DEFAULT_PIDS_MAX), enforce: Enforce::IfAvailable };
    limits.entry(LimitKey::PidsMax).or_insert(default);
    if raw.worker.on_oom == Some(OnOom::Kill) {
        // Where the kernel has no such thing, the init does it.
        limits.entry(LimitKey::OomGroup).or_insert(PlannedLimit { value: LimitValue::Count(1), enforce: Enforce::IfAvailable });
    }
    // A dump of a worker is its model and its users' words; without an entry a request could ask for one.
    limits.entry(LimitKey::CoreSize).or_insert(PlannedLimit { value: LimitValue::Count(0), enforce: Enforce::Required });
    limits
}

fn filesystem(raw: &RawPolicy) -> std::result::Result<FilesystemSection, Wrong> {
    let table = &raw.filesystem;
    let root = absolute("filesystem.root", table.root.clone().map(|path| vec![path]))?.pop();
    // A root directory brings its own system.
    let system: &[&str] = if root.is_some() { &[] } else { &DEFAULT_READ_ONLY };
    let defaults = || system.iter().map(|p| ListedPath { path: p.into(), optional: true }).collect();
    Ok(FilesystemSection {
        root,
        read_only: table.read_only.as_ref().map_or_else(|| Ok(defaults()), |l| listed("filesystem.read_only", l))?,
        read_write: table.read_write.as_ref().map_or_else(|| Ok(vec![]), |l| listed("filesystem.read_write", l))?,
        tmp_size: size("filesystem.tmp_size", table.tmp_size)?,
        shm_size: size("filesystem.shm_size", table.shm_size)?,
    })
}

fn size(key: &'static str, given: Option<super::scalar::Size>) -> std::result::Result<u64, Wrong> {
    match given.map_or(64 * MIB, |s| s.0) {
        // tmpfs reads 0 as "no limit" (tmpfs(5)).
        0 => Err((key, "must not be 0: to tmpfs that means no limit".to_owned())),
        bytes => Ok(bytes),
    }
}

fn listed(key: &'static str, list: &[RawPath]) -> std::result::Result<Vec<ListedPath>, Wrong> {
    let each = list.iter().map(|raw| {
        let (path, optional) = match raw {
            RawPath::Plain(path) => (path.clone(), false),
            RawPath::Detailed(d) => (d.path.clone(), d.optional),
        };
        let ours = ["/proc", "/sys", "/dev"].iter().any(|p| path.starts_with(p));
        match (clean(&path), ours) {
            (true, false) => Ok(ListedPath { path, optional }),
            (true, true) => Err((key, format!("{} is made for each sandbox and can't be bound from the host", path.display()))),
            (false, _) => Err((key, format!("{} is not an absolute path without `..`", path.display()))),
        }
    });
    each.collect()
}

fn devices(raw: &RawPolicy) -> std::result::Result<DevicesSection, Wrong> {
    let nodes = raw.devices.nodes.iter().flatten().map(node).collect::<std::result::Result<_, _>>()?;
    let table = &raw.devices;
    let given = gpu::Given {
        gpus: table.gpus,
        count: table.count,
        share: table.share,
        affinity: table.affinity,
        vram_min: table.vram_min,
        gpu_memory_max: table.gpu_memory_max,
        gpu_memory_action: table.gpu_memory_action,
        mps: table.mps,
        mps_active_threads: table.mps_active_threads,
    };
    gpu::resolve(given, nodes)
}

fn node(raw: &RawNode) -> std::result::Result<ListedNode, Wrong> {
    const NEVER: [&str; 5] = ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/nvidia-caps/nvidia-cap1", "/dev/nvidia-caps/nvidia-cap2"];
    let key = "devices.nodes";
    if !clean(&raw.path) || !raw.path.starts_with("/dev") || NEVER.iter().any(|n| raw.path == Path::new(n)) {
        return Err((key, format!("{} can't be granted: a node below /dev, and not one that opens the machine", raw.path.display())));
    }
    if raw.reason.trim().is_empty() {
        return Err((key, format!("{} has no reason", raw.path.display())));
    }
    let text = raw.access.as_deref().unwrap_or("rw");
    if text.is_empty() || text.chars().any(|c| !"rwm".contains(c)) {
        return Err((key, format!("access {text:?} is not made of r, w and m")));
    }
    let access = DeviceAccess { read: text.contains('r'), write: text.contains('w'), mknod: text.contains('m') };
    Ok(ListedNode { path: raw.path.clone(), reason: raw.reason.clone(), access })
}

fn environment(raw: &RawPolicy) -> std::result::Result<EnvironmentSection, Wrong> {
    let (pass, set) = (raw.environment.pass.clone().unwrap_or_default(), raw.environment.set.clone().unwrap_or_default());
    match pass.iter().chain(set.keys()).find(|n| !valid_variable(n)) {
        Some(bad) => Err(("environment", format!("{bad:?} is no name of a variable"))),
        None => Ok(EnvironmentSection { pass, set }),
    }
}

fn credentials(raw: &RawPolicy) -> std::result::Result<CredentialsSection, Wrong> {
    let capabilities: Vec<GrantedCapability> = raw.credentials.capabilities.iter().flatten().cloned().map(Into::into).collect();
    for granted in &capabilities {
        if !CAPABILITIES.contains(&granted.name.as_str()) {
            return Err(("credentials.capabilities", format!("{:?} is no capability (capabilities(7))", granted.name)));
        }
        if granted.reason.trim().is_empty() {
            return Err(("credentials.capabilities", format!("{} has no reason", granted.name)));
        }
    }
    let user = raw.credentials.user.clone().unwrap_or_else(|| "per-worker".into());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if user.is_empty() || user.len() > 64 || !user.bytes().all(plain) || user.starts_with('-') {
        return Err(("credentials.user", format!("{user:?} is neither \"per-worker\", \"user-namespace\" nor a user's name or number")));
    }
    if user == "root" || user.parse() == Ok(0u32) {
        return Err((
            "credentials.user",
            "no worker is root; \"user-namespace\" gives it an identity that counts for nothing outside".to_owned(),
        ));
    }
    if user == "user-namespace" && !capabilities.is_empty() {
        let text = "capabilities of a user namespace count for nothing here: mounts, network and devices belong to the one outside";
        return Err(("credentials.capabilities", text.to_owned()));
    }
    Ok(CredentialsSection { user, capabilities })
}

/// `texts` gives a profile's text by `seccomp/NAME`.
fn seccomp(raw: &RawPolicy, texts: &dyn Fn(&str) -> Option<String>) -> std::result::Result<SeccompSection, Wrong> {
    let profile = raw.seccomp.profile.clone().unwrap_or_else(|| "inference".into());
    let reason = raw.seccomp.reason.clone().filter(|r| !r.trim().is_empty());
    if profile == "none" {
        return match reason {
            Some(_) => Ok(SeccompSection { profile, reason, rules: None }),
            None => Err(("seccomp.profile", "\"none\" needs a reason = \"…\"".to_owned())),
        };
    }
    let file = format!("seccomp/{profile}");
    let there = profile.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_').then(|| texts(&file)).flatten();
    let text = there.ok_or_else(|| ("seccomp.profile", format!("there is no profile {profile:?}: it would be the file {file}.toml")))?;
    let rules = SeccompProfile::parse(&profile, &format!("{file}.toml"), &text).map_err(|e| ("seccomp.profile", e.to_string()))?;
    Ok(SeccompSection { profile, reason, rules: Some(rules) })
}

fn landlock(raw: &RawPolicy) -> std::result::Result<LandlockSection, Wrong> {
    let enforce = raw.landlock.enforce.unwrap_or(LandlockMode::IfAvailable);
    let reason = raw.landlock.reason.clone().filter(|r| !r.trim().is_empty());
    if enforce == LandlockMode::None && reason.is_none() {
        return Err(("landlock.enforce", "\"none\" needs a reason = \"…\"".to_owned()));
    }
    Ok(LandlockSection { enforce, reason })
}

fn process(raw: &RawPolicy) -> std::result::Result<ProcessSection, Wrong> {
    let text = raw.process.umask.as_deref().unwrap_or("0022");
    let octal = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777);
    let umask = octal.ok_or(("process.umask", format!("{text:?} is no mode mask such as \"0022\"")))?;
    let oom_score_adj = raw.process.oom_score_adj.unwrap_or(0);
    if !(0..=1000).contains(&oom_score_adj) {
        return Err(("process.oom_score_adj", format!("{oom_score_adj} is not between 0 and 1000: no worker may be spared before others")));
    }
    let nice: Option<Setting<i32>> = raw.process.nice.map(Into::into);
    if let Some(nice) = nice.filter(|n| !(-20..=19).contains(&n.value)) {
        return Err(("process.nice", format!("{} is not between -20 and 19", nice.value)));
    }
    let (io_class, io_priority) = (raw.process.io_class, raw.process.io_priority);
    match io_priority {
        Some(_) if io_class != Some(IoClass::BestEffort) => {
            return Err(("process.io_priority", "is a priority within io_class = \"best-effort\", which is not set".to_owned()));
        }
        Some(level @ 8..) => return Err(("process.io_priority", format!("{level} is not between 0 and 7"))),
        _ => {}
    }
    Ok(ProcessSection {
        umask,
        oom_score_adj,
        scheduler: raw.process.scheduler,
        nice,
        io_class,
        io_priority,
        numa: raw.process.numa.map(Into::into),
        timer_slack_ns: raw.process.timer_slack.map(|slack| slack.0),
    })
}

fn verify(raw: &RawPolicy) -> std::result::Result<VerifyPlan, Wrong> {
    let interval_ms = raw.verify.interval.map_or(DEFAULT_VERIFY_MS, |m| m.0);
    if (1..MIN_VERIFY_MS).contains(&interval_ms) {
        return Err(("verify.interval", format!("{interval_ms} ms is too short: at least \"1s\", or \"0\" for once, after exec")));
    }
    Ok(VerifyPlan { interval_ms, on_drift: raw.verify.on_drift.unwrap_or(OnDrift::Report) })
}

fn pressure(raw: &RawPolicy) -> std::result::Result<PressurePlan, Wrong> {
    let Some(given) = raw.pressure.memory.clone().map(Setting::from) else { return Ok(PressurePlan::default()) };
    let memory = match given.value.as_str() {
        "limits" => None,
        text => Some(text.parse().map_err(|e: crate::InvalidTrigger| ("pressure.memory", format!("{e}; or \"limits\"")))?),
    };
    Ok(PressurePlan { memory, enforce: given.enforce })
}
