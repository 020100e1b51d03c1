//! Which path does what: one flat match is the table of contents.
//!
//! Owns: the routes. Must never know: sockets and threads.

mod kernel;
mod stream;

use std::io::{self, Write};
use std::process;
use std::time::Duration;

use crate::http::{Reply, Request};
use crate::json::Json;
use crate::load;
use crate::readiness::Readiness;
use crate::sight;

/// What every answer may look at.
#[derive(Debug)]
pub(crate) struct Site {
    /// When `/health` says 200.
    pub(crate) readiness: Readiness,
    /// `/proc/self/status` as it was before the mock changed anything about itself.
    pub(crate) status_at_start: String,
}

/// Answers one request.
pub(crate) fn answer(request: &Request, site: &Site, out: &mut impl Write) -> io::Result<()> {
    let query = &request.query;
    let reply = match request.path.as_str() {
        "/health" => health(site.readiness),
        "/info" => Reply::json(200, &sight::everything(&site.status_at_start)),
        "/alloc" => {
            load::hold_memory(query.number("bytes", 0));
            done(Ok(()))
        }
        "/hog" => done(load::start_hog(query.number("bytes", 0))),
        "/spin" => {
            load::spin(Duration::from_millis(query.number("ms", 0)));
            done(Ok(()))
        }
        "/fork" => fork(query.number("n", 1)),
        "/daemonize" => done(load::daemonize()),
        "/read" => kernel::read(query),
        "/write" => done(kernel::write(query)),
        "/open" => done(kernel::open(query)),
        "/mknod" => done(kernel::mknod(query)),
        "/connect" => done(kernel::connect(query)),
        "/kill" => done(kernel::kill(query)),
        "/log" => done(load::print(query.number("bytes", 0))),
        "/exit" => process::exit(i32::try_from(query.number("code", 0)).unwrap_or(1)),
        "/abort" => process::abort(),
        "/stream" => return stream::send(query, out),
        "/echo" => Reply::bytes(request.body.clone()),
        "/v1/chat/completions" => completion(&request.method),
        _ => Reply::json(404, &Json::object([("error", Json::from("no such route"))])),
    };
    reply.write_to(out)
}

fn health(readiness: Readiness) -> Reply {
    if readiness.is_ready() {
        Reply::json(200, &Json::object([("status", Json::from("ok"))]))
    } else {
        let error = Json::object([("message", Json::from("Loading model")), ("code", Json::Int(503))]);
        Reply::json(503, &Json::object([("error", error)]))
    }
}

fn fork(count: u64) -> Reply {
    let (started, error) = load::start_children(u32::try_from(count).unwrap_or(u32::MAX));
    let errno = error.and_then(|error| error.raw_os_error()).map_or(Json::Null, |errno| Json::Int(errno.into()));
    Reply::json(200, &Json::object([("started", Json::from(started)), ("errno", errno)]))
}

/// A completion in OpenAI's shape, so that a demonstration works where no real engine can be had.
fn completion(method: &str) -> Reply {
    if method != "POST" {
        return Reply::json(400, &Json::object([("error", Json::from("POST a chat completion"))]));
    }
    let message =
        Json::object([("role", Json::from("assistant")), ("content", Json::from("I am the mock worker: no model, same sandbox."))]);
    let choice = Json::object([("index", Json::Int(0)), ("message", message), ("finish_reason", Json::from("stop"))]);
    Reply::json(200, &Json::object([("object", Json::from("chat.completion")), ("choices", Json::List(vec![choice]))]))
}

/// `{"ok": true}`, or what the kernel said instead.
fn done(result: io::Result<()>) -> Reply {
    Reply::json(200, &outcome(&result))
}

fn outcome(result: &io::Result<()>) -> Json {
    match result {
        Ok(()) => Json::object([("ok", Json::Bool(true)), ("errno", Json::Null)]),
        Err(error) => Json::object([
            ("ok", Json::Bool(false)),
            ("errno", error.raw_os_error().map_or(Json::Null, |errno| Json::Int(errno.into()))),
            ("error", Json::from(error.to_string())),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn ask(target: &str) -> String {
        let mut wire = std::io::Cursor::new(format!("GET {target} HTTP/1.1\r\n\r\n"));
        let request = Request::read_from(&mut wire).unwrap();
        let site = Site { readiness: Readiness::from_options(&Options::default()), status_at_start: "Pid:\t1\n".to_owned() };
        let mut out = Vec::new();
        answer(&request, &site, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn health_is_ok_when_ready_and_503_when_not() {
        assert!(ask("/health").ends_with("\r\n\r\n{\"status\":\"ok\"}"));
        let mut out = Vec::new();
        health(Readiness::Never).write_to(&mut out).unwrap();
        assert!(out.starts_with(b"HTTP/1.1 503 "));
    }

    #[test]
    fn a_refusal_carries_its_errno() {
        assert!(ask("/open?path=/no/such/file&mode=r").contains("\"errno\":2"));
        assert!(ask("/open?path=/dev/null&mode=rw").contains("\"ok\":true"));
    }

    #[test]
    fn a_stream_ends_with_the_empty_chunk() {
        assert!(ask("/stream?chunks=2&delay_ms=0").ends_with("0\r\n\r\n"));
    }

    #[test]
    fn info_tells_who_is_asked() {
        assert!(ask("/info").contains(&format!("\"pid\":{}", std::process::id())));
        assert!(ask("/no-such-route").starts_with("HTTP/1.1 404"));
    }
}
