//! One connection, one POST, one bounded answer.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::{ClientError, Endpoint};

/// Longest answer taken, bytes.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// A connection to a hive.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Connects within `limit`.
pub(super) async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Stream, ClientError> {
    let connecting = async {
        match endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Endpoint::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(Stream::Tcp),
        }
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|source| ClientError::NoHive { endpoint: endpoint.to_string(), source }),
        Err(_) => Err(ClientError::Timeout { act: "take the connection".into(), endpoint: endpoint.to_string(), limit }),
    }
}

/// Sends `body` to `/rpc` and reads the whole answer.
pub(super) async fn post(endpoint: &Endpoint, stream: Stream, body: String) -> Result<Answer, ClientError> {
    match stream {
        Stream::Unix(stream) => exchange(endpoint, TokioIo::new(stream), body).await,
        Stream::Tcp(stream) => exchange(endpoint, TokioIo::new(stream), body).await,
    }
}

async fn exchange<S>(endpoint: &Endpoint, io: S, body: String) -> Result<Answer, ClientError>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let protocol = |problem: &str| ClientError::Protocol { endpoint: endpoint.to_string(), problem: problem.into(), source: None };
    let request = Request::post("/rpc")
        .header(header::HOST, endpoint.host_header())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| protocol("make the request").because(e))?;
    let (mut sender, connection) = http1::handshake(io).await.map_err(|e| protocol("start HTTP").because(e))?;
    // Dropped with this future, which closes the connection: a hive notices that its client has gone.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(|e| protocol("the connection ended before the answer").because(e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|source| {
        let problem = match source.downcast_ref::<LengthLimitError>() {
            Some(_) => format!("the answer is longer than {MAX_ANSWER_BYTES} bytes"),
            None => "the connection ended within the answer".into(),
        };
        ClientError::Protocol { endpoint: endpoint.to_string(), problem, source: Some(source) }
    })?;
    Ok(Answer { status, body: body.to_bytes() })
}
