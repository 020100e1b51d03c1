//! The seams to the privileged half: launcher, `run` and the NVML helper live in `rbee_hive_sandbox` and `rbee_hive_devices`.
//!
//! Owns how the hive gets its launcher and spawner. Must never know HTTP.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rbee_hive_devices::{DeviceSpec, GpuDemand, Holder, Inventory, LeaseRequest, LeaseTable, ObserverCache, Terms};
use rbee_hive_policy::{Command, LimitKey, LimitValue, WorkerId, WorkerRequest};
use rbee_hive_sandbox::launcher::{self as sandbox_launcher, HiveChannel, LauncherOptions, Purpose};
use rbee_hive_sandbox::protocol::{CgroupFacts, HostFeature, Judgement, ToLauncher};
use rbee_hive_sandbox::run::{RunOptions, RunOutcome, report_not_made, run};
use rbee_hive_worker_lifecycle::{DeviceWatch, LauncherClient, SpawnerOptions, WorkerRegistry, WorkerSpawner};
use sha2::{Digest as _, Sha256};

use crate::args::{LauncherArgs, LogFormat, PlaceArgs, RunArgs};
use crate::config::{self, Config, GpuConfig, PortRange};
use crate::gpus::{NVML_DEADLINE, inventory, looking, nvml_helper_command};

/// What the launcher needs to know of the hive.
#[derive(Clone, Debug)]
pub(crate) struct LauncherStart {
    /// Directories and files, defaults filled in.
    pub(crate) places: PlaceArgs,
    /// The group that may read the records below `workers/`; the hive's own.
    pub(crate) hive_gid: u32,
    /// `--ports`; the launcher lets no worker have another.
    pub(crate) ports: Option<PortRange>,
    /// The hive's own form of the log, which the launcher writes to as well.
    pub(crate) log_format: LogFormat,
}

/// A launcher that has said `Hello`.
#[derive(Debug)]
pub(crate) struct StartedLauncher {
    /// The hive's end, blocking as yet.
    pub(crate) channel: HiveChannel,
    /// Its process.
    pub(crate) child: Child,
    /// The cgroup tree.
    pub(crate) cgroup: CgroupFacts,
    /// What the host can do, by feature.
    pub(crate) host: BTreeMap<String, HostFeature>,
}

/// Forks and re-executes the launcher and waits for its `Hello`. Called before any thread exists and before the lock is taken.
pub(crate) fn start_launcher(start: &LauncherStart) -> anyhow::Result<StartedLauncher> {
    let mut arguments = place_arguments(&start.places);
    arguments.extend(["--hive-gid".into(), start.hive_gid.to_string().into()]);
    if let Some(ports) = start.ports {
        arguments.extend(["--ports".into(), ports.to_string().into()]);
    }
    if start.log_format == LogFormat::Json {
        arguments.extend(["--log-format".into(), "json".into()]);
    }
    let started = sandbox_launcher::start(&arguments).context("start the launcher")?;
    Ok(StartedLauncher { channel: started.channel, child: started.child, cgroup: started.cgroup, host: started.host })
}

/// Tells the launcher what workers in the host's network must not reach.
pub(crate) fn tell_ports(launcher: &StartedLauncher, hive: u16, workers: &std::ops::RangeInclusive<u16>) -> anyhow::Result<()> {
    let message = ToLauncher::Ports { hive, workers: (*workers.start(), *workers.end()) };
    launcher.channel.send(&message, &[]).context("tell the launcher the hive's ports")
}

fn place_arguments(places: &PlaceArgs) -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: Option<OsString>| {
        if let Some(value) = value {
            arguments.push(OsString::from(name));
            arguments.push(value);
        }
    };
    let path = |path: &PathBuf| Some(path.clone().into_os_string());
    option("--state-dir", places.state_dir.as_ref().and_then(path));
    option("--log-dir", places.log_dir.as_ref().and_then(path));
    option("--cgroup-root", places.cgroup_root.clone().map(Into::into));
    option("--devices", places.devices.as_ref().and_then(path));
    option("--config", places.config.as_ref().and_then(path));
    for (name, list) in [("--policies", &places.policies), ("--model-dir", &places.model_dir), ("--binary-dir", &places.binary_dir)] {
        list.iter().for_each(|p| option(name, path(p)));
    }
    arguments
}

/// What the spawner is made from.
#[derive(Debug)]
pub(crate) struct SpawnerStart {
    /// The launcher.
    pub(crate) launcher: StartedLauncher,
    /// The workers' log directories are below this one, opened before privileges were dropped.
    pub(crate) log_dir: OwnedFd,
    /// The workers' ports.
    pub(crate) ports: std::ops::RangeInclusive<u16>,
    /// Most workers at one time.
    pub(crate) max_workers: usize,
    /// How often figures are sampled.
    pub(crate) sample_interval: Duration,
    /// The inventory, read before privileges were dropped.
    pub(crate) inventory: Inventory,
    /// How GPUs are watched.
    pub(crate) gpus: GpuConfig,
    /// The hive's own directory, opened before privileges were dropped.
    pub(crate) records: OwnedFd,
}

/// Makes the spawner over a launcher. Called inside the runtime.
pub(crate) fn attach_spawner(
    start: SpawnerStart,
    observer: &Arc<ObserverCache>,
    narrator: rbee_hive_narration::Narrator,
) -> anyhow::Result<Arc<WorkerSpawner>> {
    let SpawnerStart { launcher, log_dir, ports, max_workers, sample_interval, inventory, gpus, records } = start;
    let watch = DeviceWatch { observe: looking(Arc::clone(observer)), interval: gpus.watch_interval, patience: gpus.patience() };
    let client = LauncherClient::attach(launcher.channel, launcher.child, launcher.cgroup).context("attach the launcher")?;
    let registry = Arc::new(WorkerRegistry::with_ports(ports));
    let options =
        SpawnerOptions { inventory, narrator, logs: log_dir, max_workers, sample_interval, devices: Some(watch), records: Some(records) };
    Ok(WorkerSpawner::attach(registry, client, options))
}

/// The hidden command `launcher`.
pub(crate) fn launcher(args: LauncherArgs) -> ExitCode {
    crate::logging::install(args.log_format);
    let fd = args.channel_fd;
    match launcher_options(args) {
        Ok(options) => sandbox_launcher::main(fd, options),
        Err(error) => sandbox_launcher::refuse(fd, &format!("{error:#}")),
    }
}

fn launcher_options(args: LauncherArgs) -> anyhow::Result<LauncherOptions> {
    let config = args.places.config.as_deref().map_or_else(|| Ok(Config::default()), config::load)?;
    let state_dir = args.places.state_dir.context("--state-dir is missing")?;
    let run = args.for_run;
    let default_cgroup_root = if run { format!("/rbee-hive/run-{}", nix::unistd::getppid()) } else { cgroup_root_of(&state_dir) };
    Ok(LauncherOptions {
        log_dir: args.places.log_dir.unwrap_or_else(|| state_dir.join("log")),
        policies: args.places.policies,
        policy_file: args.policy_file,
        model_dirs: [config.model_dirs.clone(), args.places.model_dir].concat(),
        binary_dirs: [config.binary_dirs.clone(), args.places.binary_dir].concat(),
        devices: args.places.devices,
        device_helper: nvml_helper_command(),
        mps_control: mps_control(config.gpus.mps_control.clone())?,
        cgroup_root: args.places.cgroup_root,
        default_cgroup_root,
        group: args.hive_gid.unwrap_or_else(|| nix::unistd::getegid().as_raw()),
        owner: nix::unistd::getuid().as_raw(),
        allow_trusted: config.allow_trusted,
        worker_uids: config.worker_uids()?,
        ports: args.ports.unwrap_or(config.ports).range(),
        max_workers: config.max_workers,
        memory_total: config.memory_total()?,
        spawn_interval: config.spawn_interval()?,
        purpose: if run { Purpose::Run } else { Purpose::Serve },
        watch: args.watch,
        state_dir,
    })
}

/// A relative path would be looked for wherever the hive happens to be started.
fn mps_control(path: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    match path {
        Some(path) if !path.is_absolute() => Err(anyhow::anyhow!("[gpus] mps_control {path:?} is no absolute path")),
        path => Ok(path),
    }
}

/// `/rbee-hive/<first 12 hex digits of SHA-256 of the state directory's path>`.
fn cgroup_root_of(state_dir: &Path) -> String {
    let digest = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
    let hex: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("/rbee-hive/{hex}")
}

/// The command `run`.
pub(crate) fn run_command(args: RunArgs) -> ExitCode {
    let report = args.report.clone();
    match try_run(args) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // There is a report in every case; where it can't be written, that is the error, or one too many.
            let _ = report.map(|path| report_not_made(&path, &format!("{error:#}")));
            fail(&error, 125)
        }
    }
}

#[allow(clippy::print_stderr, reason = "what is wrong with the sandbox is told on stderr; the command's own output is not touched")]
fn try_run(args: RunArgs) -> anyhow::Result<u8> {
    let outcome = run_foreground(&args, Watching::No)?;
    match outcome.status {
        125..=127 if !matches!(outcome.verdict, rbee_hive_sandbox::Verdict::Exited { .. }) => {
            eprintln!("rbee-hive: {}", outcome.verdict.sentence())
        }
        _ => {}
    }
    Ok(outcome.status)
}

/// Whether a foreground command is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watching {
    /// It runs.
    No,
    /// It is watched.
    For {
        /// After this time it is asked to stop.
        time: Duration,
        /// A port of its own that can be reached meanwhile.
        port: Option<u16>,
    },
}

/// Runs one command in the foreground, to its end.
pub(crate) fn run_foreground(args: &RunArgs, watching: Watching) -> anyhow::Result<RunOutcome> {
    crate::logging::install(crate::args::LogFormat::Text);
    let own = OwnLauncher::new(&args.policy, &args.places)?;
    let request = run_request(args, std::process::id())?;
    let mut launcher = own.arguments.clone();
    let (stop_after, publish) = match watching {
        Watching::No => (None, None),
        Watching::For { time, port } => {
            launcher.push("--watch".into());
            (Some(time), port)
        }
    };
    let outcome = run(&RunOptions { launcher, request, report: args.report.clone(), stop_after, publish });
    drop(own);
    outcome.context("run the command")
}

/// A launcher for one foreground command or one question.
struct OwnLauncher {
    arguments: Vec<OsString>,
    /// Its state directory, where the caller gave none.
    state: Option<PathBuf>,
}

impl OwnLauncher {
    fn new(policy: &str, places: &PlaceArgs) -> anyhow::Result<Self> {
        let mut places = places.clone();
        let state = places.state_dir.is_none().then(|| run_state_dir(std::process::id())).transpose()?;
        places.state_dir = places.state_dir.or_else(|| state.clone());
        let mut arguments = place_arguments(&places);
        arguments.push("--for-run".into());
        if is_file(policy) {
            arguments.extend(["--policy-file".into(), std::path::absolute(policy)?.into_os_string()]);
        }
        Ok(Self { arguments, state })
    }
}

impl Drop for OwnLauncher {
    fn drop(&mut self) {
        // The launcher has removed what it made inside; what is not empty is somebody else's.
        for path in self.state.iter().flat_map(|state| [state.join("log"), state.clone()]) {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// `doctor --policy`: what of a policy a launcher with this user's rights would enforce.
pub(crate) fn judge_policy(policy: &str, places: &PlaceArgs) -> anyhow::Result<Judgement> {
    let own = OwnLauncher::new(policy, places)?;
    let name = match is_file(policy) {
        true => Path::new(policy).file_stem().map_or_else(|| "file".to_owned(), |stem| stem.to_string_lossy().into_owned()),
        false => policy.to_owned(),
    };
    Ok(sandbox_launcher::judge(&own.arguments, &name)?)
}

fn run_state_dir(pid: u32) -> anyhow::Result<PathBuf> {
    let base = if nix::unistd::geteuid().is_root() {
        PathBuf::from("/run")
    } else {
        PathBuf::from(
            std::env::var_os("XDG_RUNTIME_DIR").context("find a state directory: XDG_RUNTIME_DIR is not set; give one with --state-dir")?,
        )
    };
    Ok(base.join("rbee-hive").join(format!("run-{pid}")))
}

/// Limits of the command line, each of them once.
fn assigned(assignments: &[String]) -> anyhow::Result<BTreeMap<LimitKey, LimitValue>> {
    let mut limits = BTreeMap::new();
    for text in assignments {
        let (key, value) = LimitKey::parse_assignment(text)?;
        anyhow::ensure!(limits.insert(key, value).is_none(), "--limit {} is given twice", key.name());
    }
    Ok(limits)
}

fn run_request(args: &RunArgs, pid: u32) -> anyhow::Result<WorkerRequest> {
    let utf8 = |word: &OsString| word.to_str().map(str::to_owned).with_context(|| format!("{word:?} is not UTF-8"));
    let limits = assigned(&args.limits)?;
    let spec = args.device.as_deref().map_or(Ok(DeviceSpec::AnyCpu), DeviceSpec::parse_text)?;
    // The launcher decides; this only turns a spelling into names.
    let demand = if spec == DeviceSpec::Auto { GpuDemand::None } else { GpuDemand::Leased };
    let inventory = args
        .places
        .devices
        .as_deref()
        .map_or_else(|| Ok(Inventory::probe_within(&nvml_helper_command(), NVML_DEADLINE)), |d| inventory(Some(d)))?;
    let ask = LeaseRequest { holder: Holder::External("run".into()), spec, terms: Terms { demand, ..Terms::unbounded() } };
    let devices = LeaseTable::default().acquire(&inventory, &ask)?.devices;
    let name = if is_file(&args.policy) { "file".to_owned() } else { args.policy.clone() };
    Ok(WorkerRequest {
        worker_id: WorkerId::parse(&format!("run-{pid}"))?,
        policy: name,
        command: Command::Run { argv: args.command.iter().map(utf8).collect::<anyhow::Result<_>>()? },
        devices,
        lease: None,
        mps: None,
        env: BTreeMap::new(),
        limits,
        port: None,
    })
}

/// A policy's name has neither a slash nor a dot.
pub(crate) fn is_file(policy: &str) -> bool {
    policy.contains('/') || policy.contains('.')
}

#[allow(clippy::print_stderr, reason = "no log is installed in these commands: stderr is their only voice")]
pub(crate) fn fail(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("rbee-hive: {error:#}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_root_is_told_by_the_state_directory() {
        // printf %s /run/rbee-hive | sha256sum | cut -c1-12
        assert_eq!(cgroup_root_of(Path::new("/run/rbee-hive")).len(), "/rbee-hive/".len() + 12);
        assert_ne!(cgroup_root_of(Path::new("/a")), cgroup_root_of(Path::new("/b")));
    }

    #[test]
    fn a_limit_is_given_once() {
        let of = |texts: &[&str]| assigned(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["pids_max=3", "cpus=1"]).unwrap().len(), 2);
        assert_eq!(of(&["pids_max=3", "pids_max=300"]).unwrap_err().to_string(), "--limit pids_max is given twice");
    }

    #[test]
    fn a_policy_with_a_dot_or_a_slash_is_a_file() {
        assert!(is_file("./x") && is_file("x.toml") && !is_file("cpu-gguf"));
    }
}
