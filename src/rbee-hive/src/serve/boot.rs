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
use crate::args::ServeArgs;
use crate::config::{self, Config};
use crate::http::{AccessRules, group_id};
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
    pub(super) lock: HiveLock,
    pub(super) observer: ObserverCache,
}

/// Brings a hive up; the order of the steps is told in [`super`].
pub(super) fn boot(options: ServeArgs) -> Result<Booted, ServeError> {
    let address = SocketAddr::new(options.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), options.port.unwrap_or(DEFAULT_PORT));
    check_loopback(address.ip())?;
    let config = options.places.config.as_deref().map_or_else(|| Ok(Config::default()), config::load)?;
    let sample_interval = config.sample_interval()?;
    let starter = Starter::current();
    let account = (starter == Starter::Root).then(|| Account::resolve(&options)).transpose()?;
    let places = Places::resolve(&options.places, starter, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))?;
    places.make(account.as_ref())?;
    lock::check_free(&places.state)?;

    // While it may: who is to tell of workers that run out of memory is not to go before them.
    rbee_hive_sandbox::oom::spare();
    let launcher = launch::start_launcher(&launcher_start(&options, &places, account))?;
    // Before the drop: the file may be root's alone. It forks, which no threaded process may, and nobody is here but us.
    let inventory = crate::gpus::inventory(options.places.devices.as_deref())?;
    let observer = crate::gpus::observer(&inventory);

    let lock = HiveLock::take(&places.state)?;
    let access = socket_access(&options, account)?;
    let rules = rules::access_rules(&options, &config, access.gid)?;
    let socket = options.socket.clone().unwrap_or_else(|| places.state.join("hive.sock"));
    let bound = Bound::bind(address, &socket, access)?;
    let (log_dir, records) = (places.open_logs()?, places.open_own()?);
    raise_open_files();
    if let Some(account) = account {
        privileges::drop_to(account)?;
    }
    let address = bound.address;
    launch::tell_ports(&launcher, address.port(), &options.ports.unwrap_or(config.ports).range())?;
    let (tcp, unix) = bound.listen()?;
    announce(address, &socket)?;
    let spawner = spawner_start(&options, (&config, sample_interval), (launcher, log_dir, records, inventory));
    Ok(Booted { spawner, tcp, unix, socket, rules, lock, observer })
}

fn check_loopback(ip: IpAddr) -> Result<(), ServeError> {
    if ip.to_canonical().is_loopback() {
        return Ok(());
    }
    Err(ServeError::Usage(format!(
        "--listen {ip} is beyond loopback: that needs TLS, which this version does not have; listen on 127.0.0.1 and put a TLS proxy in front"
    )))
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
    held: (StartedLauncher, OwnedFd, OwnedFd, Inventory),
) -> SpawnerStart {
    let (launcher, log_dir, records, inventory) = held;
    SpawnerStart {
        launcher,
        log_dir,
        records,
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
fn announce(address: SocketAddr, socket: &std::path::Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "listening on http://{address} and unix:{}", socket.display()).and_then(|()| out.flush()).context("write to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beyond_loopback_is_a_usage_error() {
        for ip in ["0.0.0.0", "::", "192.168.0.1"] {
            assert!(matches!(check_loopback(ip.parse().unwrap()), Err(ServeError::Usage(_))), "{ip}");
        }
        for ip in ["127.0.0.1", "127.8.0.1", "::1"] {
            assert!(check_loopback(ip.parse().unwrap()).is_ok(), "{ip}");
        }
    }
}
