//! The start of a hive, up to the point where threads may exist.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rbee_hive_devices::{Inventory, ObserverCache};

use super::ServeError;
use super::listen::{Bound, SocketAccess};
use super::lock::{self, HiveLock};
use super::places::{Places, Starter};
use super::privileges::{self, Account};
use super::rules;
use crate::access::{AccessRules, AccessState};
use crate::args::ServeArgs;
use crate::config::{self, Config, OnTerminate};
use crate::http::group_id;
use crate::launch::{self, LauncherStart, SpawnerStart, StartedLauncher};

/// The TCP port without `--port`.
const DEFAULT_PORT: u16 = 8600;

/// A hive without privileges, listening, and still without threads.
pub(super) struct Booted {
    pub(super) spawner: SpawnerStart,
    pub(super) tcp: std::net::TcpListener,
    pub(super) unix: std::os::unix::net::UnixListener,
    pub(super) socket: PathBuf,
    pub(super) rules: AccessRules,
    pub(super) access: AccessState,
    pub(super) lock: HiveLock,
    pub(super) observer: ObserverCache,
    /// What becomes of workers at a signal.
    pub(super) on_terminate: OnTerminate,
}

/// Brings a hive up; the order of the steps is told in [`super`].
pub(super) fn boot(options: ServeArgs) -> Result<Booted, ServeError> {
    let address = SocketAddr::new(options.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), options.port.unwrap_or(DEFAULT_PORT));
    let config = options.places.config.as_deref().map_or_else(|| Ok(Config::default()), config::load)?;
    rules::check_listening(address.ip(), &options, &config)?;
    let sample_interval = config.sample_interval()?;
    let starter = Starter::current();
    let account = (starter == Starter::Root).then(|| Account::resolve(&options)).transpose()?;
    // Files that only root may read; and what is wrong with them is told before anything is made.
    let socket_access = socket_access(&options, account)?;
    let (rules, access) = rules::access(&options, &config, (account, socket_access.gid))?;
    let places = Places::resolve(&options.places, starter, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))?;
    places.make(account.as_ref())?;
    lock::check_free(&places.state)?;

    // While it may: who is to tell of workers that run out of memory is not to go before them.
    rbee_hive_sandbox::oom::spare();
    // An init whose launcher has ended is this process's to reap; before that, so that none escapes.
    nix::sys::prctl::set_child_subreaper(true).context("become the subreaper of workers' inits")?;
    let mut launcher = launch::start_launcher(&launcher_start(&options, &places, account))?;
    // Before the drop: the file may be root's alone. It forks, which no threaded process may, and nobody is here but us.
    let inventory = crate::gpus::inventory(options.places.devices.as_deref())?;
    let observer = crate::gpus::observer(&inventory);

    let lock = HiveLock::take(&places.state)?;
    let socket = options.socket.clone().unwrap_or_else(|| places.state.join("hive.sock"));
    let bound = Bound::bind(address, &socket, socket_access)?;
    let held = (places.open_logs()?, places.open_own()?, places.open_workers()?);
    raise_open_files();
    launch::hear_found(&mut launcher)?;
    if let Some(account) = account {
        privileges::drop_to(account)?;
    }
    let address = bound.address;
    launch::tell_ports(&launcher, address.port(), &options.ports.unwrap_or(config.ports).range())?;
    let (tcp, unix) = bound.listen()?;
    announce(if access.tls.is_some() { "https" } else { "http" }, address, &socket)?;
    let on_terminate = config.on_terminate;
    let spawner = spawner_start(&options, (&config, sample_interval), (launcher, held, inventory));
    Ok(Booted { spawner, tcp, unix, socket, rules, access, lock, observer, on_terminate })
}

fn launcher_start(options: &ServeArgs, places: &Places, account: Option<Account>) -> LauncherStart {
    let mut args = options.places.clone();
    args.state_dir = Some(places.state.clone());
    args.log_dir = Some(places.log.clone());
    let hive_gid = account.map_or_else(|| nix::unistd::getegid().as_raw(), |a| a.gid);
    LauncherStart { places: args, hive_gid, ports: options.ports, log_format: options.log_format }
}

fn spawner_start(
    options: &ServeArgs,
    (config, sample_interval): (&Config, Duration),
    (launcher, (log_dir, records, verdicts), inventory): (StartedLauncher, (OwnedFd, OwnedFd, OwnedFd), Inventory),
) -> SpawnerStart {
    SpawnerStart {
        launcher,
        log_dir,
        records,
        verdicts,
        ports: options.ports.unwrap_or(config.ports).range(),
        max_workers: config.max_workers,
        sample_interval,
        gpus: config.gpus.clone(),
        inventory,
    }
}

/// Started by root the socket is for the hive's group or `--socket-group`; started by anybody else for that user alone, unless
/// a group is named: a user's primary group may hold everybody.
fn socket_access(options: &ServeArgs, account: Option<Account>) -> anyhow::Result<SocketAccess> {
    let named = options.socket_group.as_deref();
    let named = named.map(|g| group_id(g).with_context(|| format!("there is no group {g:?}"))).transpose()?;
    let gid = named.or(account.map(|a| a.gid));
    Ok(SocketAccess { uid: account.map(|a| a.uid), gid, mode: if gid.is_some() { 0o660 } else { 0o600 } })
}

/// A hive holds several descriptors for each worker and connection. Failing leaves the limit as it was, which is then the bound.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// The one line on stdout: scripts read the picked port from it.
fn announce(scheme: &str, address: SocketAddr, socket: &std::path::Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "listening on {scheme}://{address} and unix:{}", socket.display()).and_then(|()| out.flush()).context("write to stdout")
}
