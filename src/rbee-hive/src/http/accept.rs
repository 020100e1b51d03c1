//! Accepts connections: HTTP/1.1 only, within bounds of number and time, until told to stop.
//!
//! Not `axum::serve`: that lets a silent client keep its connection for ever.

use std::io;
use std::net::SocketAddr;
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
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::peer::{Peer, Transport};
use super::used::Used;
use crate::access::{Certificate, Denials, HANDSHAKE, ServerTls, Watched};
use crate::hive::{Connection, HiveState};

/// Most connections at one time, over all listeners.
const MAX_CONNECTIONS: usize = 512;
/// Longest time for a request's head, also for the first byte of it and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the rest of an answer may take to reach a client whose connection was idle.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// Pause after an `accept` that failed for want of descriptors or memory; without one the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long open connections may take to end once no worker is left; until then they may wait for workers that are being stopped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Of these the most over TCP: whoever floods it must not keep the operator from the Unix socket.
const MAX_TCP: usize = 448;

/// Where to listen.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// TCP; in clear on loopback only.
    pub(crate) tcp: TcpListener,
    /// TLS on it.
    pub(crate) tls: Option<TlsListening>,
    /// The Unix socket.
    pub(crate) unix: UnixListener,
}

/// How TLS is spoken on the TCP port.
#[derive(Clone, Debug)]
pub(crate) struct TlsListening {
    /// Certificate, key and the CA of clients.
    pub(crate) files: Arc<Watched<ServerTls>>,
    /// Where failed handshakes are told.
    pub(crate) denials: Arc<Denials>,
}

/// The hive's end as connections see it.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// Nothing new is accepted.
    pub(crate) stopping: CancellationToken,
    /// No worker is left: nothing more can happen that a connection waits for.
    pub(crate) workers_gone: CancellationToken,
    /// Connections that have become WebSockets.
    pub(crate) sessions: TaskTracker,
}

impl Ending {
    /// Of this hive.
    pub(crate) fn of(state: &HiveState) -> Self {
        Self { stopping: state.stopping.clone(), workers_gone: state.workers_gone.clone(), sessions: state.sessions.clone() }
    }
}

#[derive(Clone)]
struct Acceptor {
    router: Router,
    tls: Option<TlsListening>,
    connections: TaskTracker,
    stopping: CancellationToken,
}

/// Serves until the hive is to stop; then no connection is accepted, and open ones may end: those that wait for workers to be stopped have
/// until a moment after the last of them.
pub(crate) async fn serve(listeners: Listeners, router: Router, ending: Ending) {
    let Ending { stopping, workers_gone, sessions } = ending;
    let Listeners { tcp, tls, unix } = listeners;
    let acceptor = Acceptor { router, tls, connections: TaskTracker::new(), stopping: stopping.clone() };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tcp_slots = Arc::new(Semaphore::new(MAX_TCP));
    loop {
        let permit = tokio::select! {
            () = stopping.cancelled() => break,
            permit = Arc::clone(&slots).acquire_owned() => permit,
        };
        // The semaphore is never closed.
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = accept_tcp(&tcp, &tcp_slots) => accepted.map(|(stream, slot)| acceptor.tcp(stream, (permit, slot))),
            accepted = unix.accept() => accepted.map(|(stream, _)| acceptor.unix(stream, permit)),
        };
        if let Err(source) = accepted {
            pause_after(&source).await;
        }
    }
    drop((tcp, unix));
    acceptor.connections.close();
    sessions.close();
    let too_late = async {
        workers_gone.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    let ended = async { tokio::join!(acceptor.connections.wait(), sessions.wait()) };
    tokio::select! {
        _ = ended => {}
        () = too_late => tracing::info!(open = acceptor.connections.len() + sessions.len(), "connections are cut"),
    }
}

/// The next connection over TCP, once there is room for one. Nothing is lost where it is not awaited to its end.
async fn accept_tcp(tcp: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    tcp.accept().await.map(|(stream, _)| (stream, slot))
}

async fn pause_after(error: &io::Error) {
    // Those that a client causes by leaving early say nothing about the next one.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
        return;
    }
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

impl TlsListening {
    /// The connection as it is inside, and its peer with the certificate that it has shown.
    async fn shake_hands(&self, stream: TcpStream, peer: Peer, ours: SocketAddr) -> Option<(TlsStream<TcpStream>, Peer)> {
        let tls = self.files.fresh().await;
        let shaking = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
        let peer = Peer { transport: Transport::Tls, ..peer };
        match tokio::time::timeout(HANDSHAKE, shaking).await {
            Ok(Ok(stream)) => {
                let certificate = Certificate::of_peer(stream.get_ref().1).map(Arc::new);
                let names = tls.names.iter().cloned().chain([ours.ip().to_canonical().to_string()]).collect();
                Some((stream, Peer { certificate, names, ..peer }))
            }
            Ok(Err(error)) => {
                self.denials.tell(&peer.from(), &format!("TLS: {error}"));
                None
            }
            Err(_) => {
                self.denials.tell(&peer.from(), "TLS: the handshake took too long");
                None
            }
        }
    }
}

impl Acceptor {
    fn tcp(&self, stream: TcpStream, permits: (OwnedSemaphorePermit, OwnedSemaphorePermit)) {
        let this = self.clone();
        self.connections.spawn(async move {
            let _permits = permits;
            let (Ok(theirs), Ok(ours)) = (stream.peer_addr(), stream.local_addr()) else { return };
            // Small answers in one segment each; a failure costs time only.
            let _ = stream.set_nodelay(true);
            let Ok(peer) = tokio::task::spawn_blocking(move || Peer::from_tcp(theirs, ours)).await else { return };
            match &this.tls {
                None => this.connection(stream, peer).await,
                Some(tls) => {
                    let shaken = tokio::select! {
                        shaken = tls.shake_hands(stream, peer, ours) => shaken,
                        () = this.stopping.cancelled() => None,
                    };
                    if let Some((stream, peer)) = shaken {
                        this.connection(stream, peer).await;
                    }
                }
            }
        });
    }

    /// Its connections can be a lease's life: they may be idle as long as they are one.
    fn unix(&self, stream: UnixStream, permit: OwnedSemaphorePermit) {
        let this = self.clone();
        self.connections.spawn(async move {
            let _permit = permit;
            let Ok(credentials) = stream.peer_cred() else { return };
            let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
            if let Ok(peer) = tokio::task::spawn_blocking(move || Peer::from_unix(uid, gid, pid)).await {
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
