//! Events as they come: server-sent events, read line by line within a bound.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::transport::{self, Stream};
use super::{Client, ClientError};
use crate::{Event, EventEnd, EventQuery};

/// Longest event taken, bytes.
const MAX_EVENT: usize = 4 * 1024 * 1024;
/// Longest refusal taken, bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// A stream of events. The connection is closed when it is dropped.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    lines: Lines,
    endpoint: String,
    /// A connection without it takes its work for done.
    _sender: SendRequest<Empty<Bytes>>,
    _connection: JoinSet<()>,
}

impl Client {
    /// Begins to read events. To go on after a break, ask again with the number of the last one.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] for what the hive refuses; the other variants where there was no answer.
    pub async fn events(&self, query: &EventQuery, end: EventEnd) -> Result<EventStream, ClientError> {
        let mut connection = JoinSet::new();
        let (sender, response) = match transport::connect(self.endpoint(), self.connect).await? {
            Stream::Unix(stream) => self.ask_for_events(TokioIo::new(stream), (query, end), &mut connection).await?,
            Stream::Tcp(stream) => self.ask_for_events(TokioIo::new(stream), (query, end), &mut connection).await?,
        };
        if response.status().is_success() {
            let endpoint = self.endpoint().to_string();
            return Ok(EventStream {
                body: response.into_body(),
                lines: Lines::default(),
                endpoint,
                _sender: sender,
                _connection: connection,
            });
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let error =
            serde_json::from_slice(&body).ok().and_then(|mut body: serde_json::Value| body.get_mut("error").map(serde_json::Value::take));
        Err(match error {
            Some(error) => ClientError::Rpc(Box::new(self.rpc_error(error)?)),
            None => self.protocol(format!("HTTP status {status}")),
        })
    }

    async fn ask_for_events<S>(
        &self,
        io: S,
        (query, end): (&EventQuery, EventEnd),
        connection: &mut JoinSet<()>,
    ) -> Result<(SendRequest<Empty<Bytes>>, Response<Incoming>), ClientError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let request = Request::get(path(query, end))
            .header(header::HOST, self.endpoint().host_header())
            .header(header::ACCEPT, "text/event-stream")
            .body(Empty::new())
            .map_err(|e| self.protocol("make the request".into()).because(e))?;
        let (mut sender, driver) = http1::handshake(io).await.map_err(|e| self.protocol("start HTTP".into()).because(e))?;
        connection.spawn(async move { drop(driver.await) });
        let ended = |e| self.protocol("the connection ended before the answer".into()).because(e);
        let answer = tokio::time::timeout(super::ANSWER, sender.send_request(request)).await.map_err(|_| ClientError::Timeout {
            act: "begin its events".into(),
            endpoint: self.endpoint().to_string(),
            limit: super::ANSWER,
        })?;
        Ok((sender, answer.map_err(ended)?))
    }
}

impl EventStream {
    /// The next event; `None` at the end. Waits as long as nothing happens.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] where the connection breaks off, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(data) = self.lines.event() {
                return serde_json::from_str(&data).map(Some).map_err(|e| self.broken("read an event").because(e));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(self.broken("the stream of events broke off").because(e)),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.lines.add(bytes);
                    }
                }
            }
            if self.lines.rest.len() > MAX_EVENT {
                return Err(self.broken(&format!("an event is longer than {MAX_EVENT} bytes")));
            }
        }
    }

    fn broken(&self, problem: &str) -> ClientError {
        ClientError::Protocol { endpoint: self.endpoint.clone(), problem: problem.to_owned(), source: None }
    }
}

/// Bytes that are not read yet.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The data of the next whole event. Comments, which only show that the hive lives, are left out.
    fn event(&mut self) -> Option<String> {
        loop {
            let end = self.rest.windows(2).position(|two| two == b"\n\n")?;
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&block);
            let data: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix("data:")).map(|d| d.strip_prefix(' ').unwrap_or(d)).collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
    }
}

fn path(query: &EventQuery, end: EventEnd) -> String {
    let mut path = format!("/v1/events?follow={}", end == EventEnd::Hive);
    if let Some(after) = query.after {
        path.push_str(&format!("&after={after}"));
    }
    for (name, value) in [("worker_id", &query.worker_id), ("kind", &query.kind)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    path
}

/// A value as a query has it (RFC 3986: what is not unreserved is percent-encoded).
fn encoded(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_come() {
        let text = b": alive\n\nid: 1\nevent: state\ndata: {\"a\": 1}\n\ndata: x\ndata: y\n\ndata: cut";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = vec![];
            for piece in text.chunks(size) {
                lines.add(piece);
                found.extend(std::iter::from_fn(|| lines.event()));
            }
            assert_eq!(found, ["{\"a\": 1}", "x\ny"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_question_is_encoded() {
        let query = EventQuery { after: Some(7), worker_id: Some("w_1-a".into()), kind: Some("a&b=ä".into()) };
        assert_eq!(path(&query, EventEnd::Now), "/v1/events?follow=false&after=7&worker_id=w_1-a&kind=a%26b%3D%C3%A4");
        assert_eq!(path(&EventQuery::default(), EventEnd::Hive), "/v1/events?follow=true");
    }
}
