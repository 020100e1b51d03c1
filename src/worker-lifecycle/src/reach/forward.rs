//! From the port that the hive holds to the worker inside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::counted::Counted;
use super::dialer::Stream;
use super::gate::{Passage, Shut};
use super::usage::Connection;
use super::{Dialer, Usage};
use crate::{WorkerState, WorkerView};

/// Most connections to one worker at a time; others wait in the backlog.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a failed accept (no descriptors left): trying at once would spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long a client is kept while its worker does not accept yet.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a client is kept while its worker wakes: what was swapped out has to come back before it answers.
const AWAKE_WITHIN: Duration = Duration::from_secs(60);
/// Pause after the first connection that was refused; doubled after each, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The way of one worker's connections.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Makes them.
    pub(crate) dialer: Arc<Dialer>,
    /// Counts them.
    pub(crate) usage: Arc<Usage>,
    /// Whether the worker can be reached now.
    pub(crate) passage: Passage,
    /// Tells whether the worker is still starting.
    pub(crate) view: watch::Receiver<WorkerView>,
}

/// Forwards until stopped; its connections end with it.
#[derive(Debug)]
pub(crate) struct Forwarder {
    task: JoinHandle<()>,
}

impl Forwarder {
    /// Starts to accept on a duplicate of `listener`.
    pub(crate) fn start(listener: &std::net::TcpListener, route: Route) -> io::Result<Self> {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { task: tokio::spawn(accept(listener, route)) })
    }

    /// Ends all connections and waits until the listener is closed.
    pub(crate) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn accept(listener: TcpListener, mut route: Route) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        if !route.passage.until_shut_is(Shut::No).await {
            return;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            there = route.passage.until_shut_is(Shut::Yes) => if there { continue } else { return },
        };
        match accepted {
            Ok((client, _)) => {
                // Before it looks at the gate: a worker is put to sleep only where no connection is counted.
                let (route, counted) = (route.clone(), Arc::clone(&route.usage).connection());
                connections.spawn(async move {
                    let _slot = slot;
                    // A client that meets a worker which does not accept sees its connection close, as it would without us.
                    let _ = relay((client, counted), route).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Copies both ways; one side's end of writing is passed on, and the other direction goes on.
async fn relay((client, counted): (TcpStream, Connection), route: Route) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = Counted::new(client, counted);
    if !timeout(AWAKE_WITHIN, route.passage.clone().through()).await? {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let mut worker = timeout(CONNECT_WITHIN, route.connect()).await??;
    tokio::io::copy_bidirectional(&mut client, &mut worker).await.map(drop)
}

impl Route {
    /// A connection; tried again for as long as the worker is starting.
    async fn connect(mut self) -> io::Result<Box<dyn Stream>> {
        let mut pause = FIRST_PAUSE;
        loop {
            // Before the try: one that turned ready just after it is tried again.
            let starting = self.view.borrow_and_update().state == WorkerState::Starting;
            match self.dialer.connect().await {
                Ok(worker) => return Ok(worker),
                Err(error) if !starting => return Err(error),
                Err(_) => {}
            }
            // The news that it is ready ends the pause.
            let until = Instant::now() + pause;
            while let Ok(changed) = timeout_at(until, self.view.changed()).await {
                changed.map_err(|_| io::ErrorKind::ConnectionAborted)?;
                if self.view.borrow().state != WorkerState::Starting {
                    break;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
