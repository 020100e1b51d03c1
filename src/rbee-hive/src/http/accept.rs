//! Accepts connections: HTTP/1.1 only, within bounds of number and time, until told to stop.
//!
//! Not `axum::serve`: that lets a silent client keep its connection for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::peer::Peer;
use super::used::Used;
use crate::hive::Connection;

/// Most connections at one time, over all listeners.
const MAX_CONNECTIONS: usize = 512;
/// Longest time for a request's head, also for the first byte of it and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the rest of an answer may take to reach a client whose connection was idle.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// Pause after an `accept` that failed for want of descriptors or memory; without one the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long open connections may take to end after the stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to listen.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// Loopback TCP.
    pub(crate) tcp: TcpListener,
    /// The Unix socket.
    pub(crate) unix: UnixListener,
}

#[derive(Clone)]
struct Acceptor {
    router: Router,
    connections: TaskTracker,
    stopping: CancellationToken,
}

/// Serves until `stopping`; then no connection is accepted and open ones get a moment to end.
pub(crate) async fn serve(listeners: Listeners, router: Router, stopping: CancellationToken) {
    let acceptor = Acceptor { router, connections: TaskTracker::new(), stopping: stopping.clone() };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let Listeners { tcp, unix } = listeners;
    loop {
        let permit = tokio::select! {
            () = stopping.cancelled() => break,
            permit = Arc::clone(&slots).acquire_owned() => permit,
        };
        // The semaphore is never closed.
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = tcp.accept() => accepted.map(|(stream, _)| acceptor.tcp(stream, permit)),
            accepted = unix.accept() => accepted.map(|(stream, _)| acceptor.unix(stream, permit)),
        };
        if let Err(source) = accepted {
            pause_after(&source).await;
        }
    }
    drop((tcp, unix));
    acceptor.connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, acceptor.connections.wait()).await.is_err() {
        tracing::info!(open = acceptor.connections.len(), "connections are cut");
    }
}

async fn pause_after(error: &io::Error) {
    // Those that a client causes by leaving early say nothing about the next one.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
        return;
    }
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

impl Acceptor {
    fn tcp(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let this = self.clone();
        self.connections.spawn(async move {
            let _permit = permit;
            let (Ok(theirs), Ok(ours)) = (stream.peer_addr(), stream.local_addr()) else { return };
            // Small answers in one segment each; a failure costs time only.
            let _ = stream.set_nodelay(true);
            if let Ok(peer) = tokio::task::spawn_blocking(move || Peer::from_tcp(theirs, ours)).await {
                this.connection(stream, peer).await;
            }
        });
    }

    /// Its connections can be a lease's life: they may be idle as long as they are one.
    fn unix(&self, stream: UnixStream, permit: OwnedSemaphorePermit) {
        let this = self.clone();
        self.connections.spawn(async move {
            let _permit = permit;
            let Ok(credentials) = stream.peer_cred() else { return };
            let (uid, gid) = (credentials.uid(), credentials.gid());
            if let Ok(peer) = tokio::task::spawn_blocking(move || Peer::from_unix(uid, gid)).await {
                this.lasting_connection(stream, peer).await;
            }
        });
    }

    async fn connection(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let router = self.router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(source) = ended {
            tracing::debug!(%source, "a connection ended early");
        }
    }

    /// As [`Acceptor::connection`], with time limits of our own: hyper's would close a connection that waits with a lease. Who is idle
    /// without one, or slow to say what it wants, is cut all the same.
    async fn lasting_connection(&self, stream: UnixStream, peer: Peer) {
        let router = self.router.clone();
        let (_until_its_end, life) = Connection::open();
        let requests = life.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(requests.clone());
            let (using, answer) = (requests.uses(), router.clone().oneshot(request));
            // Until the last byte of the answer is handed over.
            async move { answer.await.map(|response| response.map(|body| Used::new(body, using))) }
        });
        let connection = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = life.idle(HEADER_TIMEOUT) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(LAST_BYTES, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(source) = ended {
            tracing::debug!(%source, "a connection ended early");
        }
    }
}
