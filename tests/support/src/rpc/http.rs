//! HTTP/1.1 by hand: one request a connection, the whole answer read.
//!
//! Owns: the wire format as a client sees it. Must never know: JSON.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::eventually::within;

/// Bytes of one answer at most.
const ANSWER: u64 = 64 << 20;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// The header lines, without the status line.
    pub headers: String,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl HttpReply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path` from a port of 127.0.0.1, for at most 10 s (scaled).
///
/// # Errors
/// Nothing listens there, or the answer is not HTTP.
pub fn http_get(port: u16, path: &str) -> io::Result<HttpReply> {
    http_over_tcp(port, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"), Duration::from_secs(10))
}

/// Sends raw bytes to a port of 127.0.0.1 and reads the answer until it ends or `limit` (scaled) passes.
///
/// # Errors
/// Nothing listens there, or the answer is not HTTP.
pub fn http_over_tcp(port: u16, request: &str, limit: Duration) -> io::Result<HttpReply> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, within(limit))?;
    stream.set_read_timeout(Some(within(limit)))?;
    exchange(stream, request)
}

/// The same over a Unix socket.
///
/// # Errors
/// Nothing listens there, or the answer is not HTTP.
pub fn http_over_unix(socket: &Path, request: &str, limit: Duration) -> io::Result<HttpReply> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(within(limit)))?;
    exchange(stream, request)
}

/// The text of a POST with a JSON body.
pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<HttpReply> {
    stream.write_all(request.as_bytes())?;
    let mut wire = Vec::new();
    stream.take(ANSWER).read_to_end(&mut wire)?;
    parse(&wire)
}

fn parse(wire: &[u8]) -> io::Result<HttpReply> {
    let broken = |what: &str| io::Error::other(format!("{what}: {:?}", String::from_utf8_lossy(&wire[..wire.len().min(200)])));
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| broken("no end of head"))?;
    let head = String::from_utf8_lossy(&wire[..end]);
    let (first, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| broken("no status"))?;
    let chunked = headers.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = &wire[end + 4..];
    let body = if chunked { join_chunks(body).ok_or_else(|| broken("cut in the middle of a chunk"))? } else { body.to_vec() };
    Ok(HttpReply { status, headers: headers.to_owned(), body })
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim(), 16).ok()?;
        let chunk = rest.get(line + 2..line + 2 + size)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + size..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_a_cut_answer_is_an_error() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(whole).unwrap().body, b"abcde");
        assert!(parse(&whole[..whole.len() - 9]).is_err());
    }

    #[test]
    fn a_plain_answer_has_status_and_body() {
        let reply = parse(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno").unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (503, "no"));
    }
}
