//! A hive with its runtime: serves until a signal or `hive_shutdown`, then takes everything down.

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use futures_util::future::join_all;
use rbee_hive_narration::{JobStreams, Narrator};
use rbee_hive_worker_lifecycle::{WorkerFilter, WorkerSpawner, WorkerState};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::boot::Booted;
use crate::config::OnTerminate;
use crate::hive::{HiveState, Workers};
use crate::http::{self, Listeners, TlsListening};
use crate::jobs::JobBoard;
use crate::launch;

/// Runs the runtime to the hive's end.
pub(super) fn run(booted: Booted) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve(booted))
}

async fn serve(booted: Booted) -> anyhow::Result<()> {
    let Booted { spawner, tcp, unix, socket, rules, access, lock, observer, on_terminate } = booted;
    let mut signals = Signals::new()?;
    let cgroup = spawner.launcher.cgroup.clone();
    let host = spawner.launcher.host.clone();
    let narrator = Narrator::new(Arc::new(JobStreams::new()));
    let observer = Arc::new(observer);
    let spawner = launch::attach_spawner(spawner, &observer, narrator.clone())?;
    // Before anything is served: whoever asks finds what was there before. Connections wait in the backlog.
    spawner.adopt().await;
    let launcher = Arc::clone(&spawner);
    let workers: Arc<dyn Workers> = Arc::new(Arc::clone(&spawner));
    let ended = Arc::clone(&spawner);
    let (stopping, workers_gone) = (CancellationToken::new(), CancellationToken::new());
    let events = spawner.events().cloned().unwrap_or_default();
    let state = Arc::new(HiveState {
        events,
        id: own_id(),
        workers: Arc::clone(&workers),
        cgroup,
        host,
        devices: Box::new(move || {
            let mut topology = spawner.topology(&observer.recent());
            topology.notes.extend(observer.blind().map(|why| format!("no GPU can be looked at: {why}")));
            serde_json::to_value(topology).unwrap_or_default()
        }),
        jobs: JobBoard::new(narrator),
        access: access.clone(),
        stopping: stopping.clone(),
        workers_gone: workers_gone.clone(),
        sessions: TaskTracker::new(),
        at_the_end: OnceLock::new(),
    });
    let tls = access.tls.map(|files| TlsListening { files, denials: Arc::clone(&rules.denials) });
    let ending = http::Ending::of(&state);
    let router = http::router(Arc::clone(&state), rules)?;
    let listeners = Listeners {
        tcp: tokio::net::TcpListener::from_std(tcp).context("hand the TCP socket to the runtime")?,
        tls,
        unix: tokio::net::UnixListener::from_std(unix).context("hand the Unix socket to the runtime")?,
    };
    let http = tokio::spawn(http::serve(listeners, router, ending));
    let why = until_the_end(&launcher, &stopping, &mut signals).await;
    stopping.cancel();
    let at_the_end = match why {
        Why::Signal => on_terminate,
        Why::Client => state.at_the_end.get().copied().unwrap_or(OnTerminate::Stop),
        Why::LauncherGone => OnTerminate::Keep,
    };
    end_workers((&workers, at_the_end), &mut signals).await;
    workers_gone.cancel();
    // Its connections have a bounded time to end; a panic in it changes nothing any more.
    let _ = http.await;
    ended.end_events();
    // Gone already where the launcher has removed it; not ours to remove after the drop of privileges.
    let _ = std::fs::remove_file(&socket);
    lock.remove();
    match why {
        Why::LauncherGone => {
            Err(anyhow::anyhow!("the launcher has ended: a hive that is started again has one, and takes the workers over"))
        }
        Why::Signal | Why::Client => Ok(()),
    }
}

/// Why a hive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Signal,
    Client,
    LauncherGone,
}

async fn until_the_end(spawner: &WorkerSpawner, stopping: &CancellationToken, signals: &mut Signals) -> Why {
    tokio::select! {
        () = signals.next() => {
            tracing::info!("a signal asks the hive to stop");
            Why::Signal
        }
        () = stopping.cancelled() => {
            tracing::info!("a client asks the hive to stop");
            Why::Client
        }
        // Who would start it again is there; elsewhere it goes on and says so.
        () = spawner.until_launcher_is_gone(), if under_a_service_manager() => {
            tracing::error!("the launcher has ended: the hive ends as well, for the service manager to start it again");
            Why::LauncherGone
        }
    }
}

/// Whether systemd, or something like it, has started this hive (systemd.exec(5), sd_notify(3)).
fn under_a_service_manager() -> bool {
    ["NOTIFY_SOCKET", "INVOCATION_ID"].iter().any(|name| std::env::var_os(name).is_some())
}

/// Stops workers with their own grace, all of them or those that end with the hive; a further signal ends the grace.
async fn end_workers((workers, at_the_end): (&Arc<dyn Workers>, OnTerminate), signals: &mut Signals) {
    let shutdown = async {
        match at_the_end {
            OnTerminate::Stop => workers.shutdown().await,
            OnTerminate::Keep => workers.leave().await,
        }
    };
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => return,
        () = signals.next() => tracing::info!("a second signal: workers are killed"),
    }
    let hurry = async {
        // Others are not being stopped where some stay.
        let state = (at_the_end == OnTerminate::Keep).then_some(WorkerState::Stopping);
        let views = workers.list(&WorkerFilter { state, ..WorkerFilter::default() }).await;
        let ids = views.iter().filter_map(|view| rbee_hive_policy::WorkerId::parse(&view.worker_id).ok());
        join_all(ids.map(|id| async move { workers.stop(&id, Some(0)).await })).await;
    };
    tokio::join!(shutdown, hurry);
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The hive's own id: the host's name.
fn own_id() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}
