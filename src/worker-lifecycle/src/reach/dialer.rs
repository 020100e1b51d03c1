//! Connections to one worker.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rbee_hive_policy::{NetworkMode, SandboxPlan};
use rbee_hive_sandbox::protocol::ToInit;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::owner;
use super::sockets::Sockets;
use crate::init_link::InitLink;

/// A connection to a worker.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a worker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// TCP in the worker's own namespace, by sockets that were born there.
    Private(u16),
    /// A Unix socket inside, connected by the init with the worker's uid.
    Unix,
    /// TCP on the host, checked by who listens there.
    Host { port: u16, uid: u32 },
    /// No way in.
    None,
}

impl Target {
    /// The way to the worker of `plan`.
    pub(crate) fn of(plan: &SandboxPlan) -> Self {
        match (plan.network, &plan.socket, plan.port) {
            (NetworkMode::None, _, _) | (_, None, None) => Self::None,
            (_, Some(_), _) => Self::Unix,
            (NetworkMode::Private, None, Some(port)) => Self::Private(port),
            (NetworkMode::Host, None, Some(port)) => Self::Host { port, uid: plan.credentials.uid },
        }
    }
}

/// Makes connections to one worker.
#[derive(Debug)]
pub(crate) struct Dialer {
    link: Arc<InitLink>,
    sockets: Arc<Sockets>,
    target: Target,
}

impl Dialer {
    pub(crate) fn to(link: Arc<InitLink>, target: Target) -> Self {
        Self { sockets: Sockets::new(Arc::clone(&link)), link, target }
    }

    /// One connection. Errors: the kernel's; `PermissionDenied` where a stranger listens on the worker's port.
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self.target {
            Target::None => Err(io::Error::new(io::ErrorKind::Unsupported, "this worker has neither port nor socket")),
            Target::Private(port) => {
                let socket = std::net::TcpStream::from(self.sockets.take().await?);
                socket.set_nonblocking(true)?;
                let stream = TcpSocket::from_std_stream(socket).connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Target::Unix => {
                let fd = self.link.ask(|seq| ToInit::ConnectUnix { seq }).await?.pop().ok_or(io::ErrorKind::UnexpectedEof)?;
                let socket = std::os::unix::net::UnixStream::from(fd);
                socket.set_nonblocking(true)?;
                Ok(Box::new(UnixStream::from_std(socket)?))
            }
            Target::Host { port, uid } => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                owner::check(port, uid)?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}
