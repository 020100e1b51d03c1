//! A hive with its runtime: serves until a signal or `hive_shutdown`, then takes everything down.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::join_all;
use rbee_hive_narration::{JobStreams, Narrator};
use rbee_hive_worker_lifecycle::WorkerFilter;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::boot::Booted;
use crate::hive::{HiveState, Workers};
use crate::http::{self, Listeners};
use crate::jobs::JobBoard;
use crate::launch;

/// Runs the runtime to the hive's end.
pub(super) fn run(booted: Booted) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve(booted))
}

async fn serve(booted: Booted) -> anyhow::Result<()> {
    let Booted { spawner, tcp, unix, socket, rules, lock, observer } = booted;
    let mut signals = Signals::new()?;
    let cgroup = spawner.launcher.cgroup.clone();
    let host = spawner.launcher.host.clone();
    let narrator = Narrator::new(Arc::new(JobStreams::new()));
    let observer = Arc::new(observer);
    let spawner = launch::attach_spawner(spawner, &observer, narrator.clone())?;
    let workers: Arc<dyn Workers> = Arc::new(Arc::clone(&spawner));
    let stopping = CancellationToken::new();
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
        stopping: stopping.clone(),
    });
    let router = http::router(state, rules)?;
    let listeners = Listeners {
        tcp: tokio::net::TcpListener::from_std(tcp).context("hand the TCP socket to the runtime")?,
        unix: tokio::net::UnixListener::from_std(unix).context("hand the Unix socket to the runtime")?,
    };
    let http = tokio::spawn(http::serve(listeners, router, stopping.clone()));
    tokio::select! {
        () = signals.next() => tracing::info!("a signal asks the hive to stop"),
        () = stopping.cancelled() => tracing::info!("a client asks the hive to stop"),
    }
    stopping.cancel();
    stop_workers(&workers, &mut signals).await;
    // Its connections have a bounded time to end; a panic in it changes nothing any more.
    let _ = http.await;
    // Gone already where the launcher has removed it; not ours to remove after the drop of privileges.
    let _ = std::fs::remove_file(&socket);
    lock.remove();
    Ok(())
}

/// Stops every worker with its own grace; a further signal ends the grace.
async fn stop_workers(workers: &Arc<dyn Workers>, signals: &mut Signals) {
    let shutdown = workers.shutdown();
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => return,
        () = signals.next() => tracing::info!("a second signal: workers are killed"),
    }
    let hurry = async {
        let views = workers.list(&WorkerFilter::default()).await;
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
