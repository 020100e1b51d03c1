//! Reading one request, within bounds.
//!
//! Owns: the bounds on head and body. Must never know: routes.

use std::io::{self, Read};

use crate::http::Query;

/// Bytes of request line and headers.
const HEAD: usize = 16 << 10;
/// Bytes of body.
const BODY: usize = 1 << 20;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    /// `GET`, `POST`, …
    pub(crate) method: String,
    /// The path without its query.
    pub(crate) path: String,
    /// What followed `?`.
    pub(crate) query: Query,
    /// The body, empty where there was none.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Reads head and body.
    ///
    /// # Errors
    /// The stream ended early, is not HTTP, or is over a bound.
    pub(crate) fn read_from(stream: &mut impl Read) -> io::Result<Self> {
        let (head, mut body) = read_head(stream)?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::Error::other("read request line: not HTTP"));
        };
        let length = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = length.map_or(Ok(0), |(_, value)| value.trim().parse::<usize>()).map_err(io::Error::other)?;
        if length > BODY {
            return Err(io::Error::other("read body: too long"));
        }
        let have = body.len().min(length);
        body.resize(length, 0);
        stream.read_exact(&mut body[have..])?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Self { method: method.to_owned(), path: path.to_owned(), query: Query::parse(query), body })
    }
}

/// Reads up to the empty line; gives the head and what of the body came along with it.
fn read_head(stream: &mut impl Read) -> io::Result<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut part = [0_u8; 4096];
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = seen.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&seen[..end]).into_owned(), body));
        }
        if seen.len() > HEAD {
            return Err(io::Error::other("read head: too long"));
        }
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => seen.extend_from_slice(&part[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_to_its_stated_length() {
        let mut wire: &[u8] = b"POST /echo?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
        let request = Request::read_from(&mut wire).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str(), request.body.as_slice()), ("POST", "/echo", b"hello".as_slice()));
        assert_eq!(request.query.get("a"), Some("1"));
    }

    #[test]
    fn oversized_and_cut_requests_are_errors() {
        let mut long: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n";
        assert!(Request::read_from(&mut long).is_err());
        let mut cut: &[u8] = b"GET / HTT";
        assert!(Request::read_from(&mut cut).is_err());
    }
}
