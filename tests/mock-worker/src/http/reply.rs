//! Writing an answer, whole or in chunks.
//!
//! Owns: status lines and framing. Must never know: routes.

use std::io::{self, Write};

use crate::json::Json;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

impl Reply {
    /// JSON with a status.
    pub(crate) fn json(status: u16, value: &Json) -> Self {
        Self { status, kind: "application/json", body: value.to_string().into_bytes() }
    }

    /// Plain text with a status.
    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain", body: text.as_bytes().to_vec() }
    }

    /// Bytes as they are, status 200.
    pub(crate) fn bytes(body: Vec<u8>) -> Self {
        Self { status: 200, kind: "application/octet-stream", body }
    }

    /// Sends it.
    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.status,
            reason(self.status),
            self.kind,
            self.body.len()
        );
        out.write_all(head.as_bytes())?;
        out.write_all(&self.body)?;
        out.flush()
    }
}

/// An answer of unknown length, one chunk at a time.
#[derive(Debug)]
pub(crate) struct Chunked<'a, W: Write>(&'a mut W);

impl<'a, W: Write> Chunked<'a, W> {
    /// Sends the head.
    pub(crate) fn begin(out: &'a mut W) -> io::Result<Self> {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
        out.flush()?;
        Ok(Self(out))
    }

    /// Sends one chunk, which must not be empty.
    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        write!(self.0, "{:x}\r\n{text}\r\n", text.len())?;
        self.0.flush()
    }

    /// Sends the last, empty chunk.
    pub(crate) fn end(self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")?;
        self.0.flush()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
