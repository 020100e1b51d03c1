//! One connection, one POST, one bounded answer.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Client, ClientError, ClientTls, Endpoint};

/// Longest answer taken, bytes.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// A connection to a hive.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Connects within the client's bound, handshake included.
pub(super) async fn connect(client: &Client) -> Result<Stream, ClientError> {
    let (endpoint, limit) = (&client.endpoint, client.connect);
    let absent = |source| ClientError::NoHive { endpoint: endpoint.to_string(), source };
    if client.token.is_some() && endpoint.is_clear() {
        return Err(ClientError::Clear { endpoint: endpoint.to_string() });
    }
    let connecting = async {
        match endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix).map_err(absent),
            Endpoint::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(Stream::Tcp).map_err(absent),
            Endpoint::Tls { host, port } => {
                // Before anything is sent: without a CA nobody is whom they say.
                let tls = client.tls.as_ref().ok_or_else(|| ClientError::NoCa { endpoint: endpoint.to_string() })?;
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(absent)?;
                shake_hands(tls, host, stream).await.map_err(|source| ClientError::Tls { endpoint: endpoint.to_string(), source })
            }
        }
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(ClientError::Timeout { act: "take the connection".into(), endpoint: endpoint.to_string(), limit }),
    }
}

async fn shake_hands(tls: &ClientTls, host: &str, stream: TcpStream) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(&tls.0)).connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Sends `body` to `/rpc` and reads the whole answer.
pub(super) async fn post(client: &Client, stream: Stream, body: String) -> Result<Answer, ClientError> {
    match stream {
        Stream::Unix(stream) => exchange(client, TokioIo::new(stream), body).await,
        Stream::Tcp(stream) => exchange(client, TokioIo::new(stream), body).await,
        Stream::Tls(stream) => exchange(client, TokioIo::new(stream), body).await,
    }
}

async fn exchange<S>(client: &Client, io: S, body: String) -> Result<Answer, ClientError>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let endpoint = &client.endpoint;
    let protocol = |problem: &str| ClientError::Protocol { endpoint: endpoint.to_string(), problem: problem.into(), source: None };
    let request = client
        .addressed(Request::post("/rpc"))
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
