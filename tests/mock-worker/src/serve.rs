//! Listening sockets, and one thread a connection, bounded.
//!
//! Owns: sockets and threads. Must never know: what a route answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::http::{self, Reply};
use crate::options::Options;
use crate::routes::{self, Site};

/// Connections served at the same time; more are answered 503 and closed.
const CONNECTIONS: usize = 64;
/// A client that says nothing for so long is dropped.
const SILENCE: Duration = Duration::from_secs(30);

/// Serves on every address that the options name, until the process is ended from outside.
///
/// # Errors
/// A socket that cannot be bound.
pub(crate) fn until_killed(options: &Options, site: Site) -> io::Result<ExitCode> {
    let site = Arc::new(site);
    let open = Arc::new(AtomicUsize::new(0));
    let host_is_path = options.host.starts_with('/');
    let socket = options.socket.clone().or_else(|| host_is_path.then(|| PathBuf::from(&options.host)));
    if let Some(path) = socket {
        let listener = UnixListener::bind(&path)?;
        let (site, open) = (Arc::clone(&site), Arc::clone(&open));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let timed = stream.set_read_timeout(Some(SILENCE));
                if timed.is_ok() {
                    attend(stream, &site, &open);
                }
            }
        });
    }
    if let Some(port) = options.bind_port.or(options.port).filter(|_| !host_is_path) {
        let address = SocketAddr::new(options.host.parse().map_err(io::Error::other)?, port);
        for stream in TcpListener::bind(address)?.incoming().flatten() {
            let timed = stream.set_read_timeout(Some(SILENCE));
            if timed.is_ok() {
                attend(stream, &site, &open);
            }
        }
    }
    clock::idle()
}

/// Serves one connection on a thread of its own, or turns it away when there are too many.
fn attend<S: Read + Write + Send + 'static>(mut stream: S, site: &Arc<Site>, open: &Arc<AtomicUsize>) {
    if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
        open.fetch_sub(1, Ordering::SeqCst);
        // A client that is gone already needs no answer.
        let _ = Reply::text(503, "too many connections").write_to(&mut stream);
        return;
    }
    let (site, counted) = (Arc::clone(site), Arc::clone(open));
    let started = thread::Builder::new().spawn(move || {
        // A broken connection concerns its client only.
        let _ = answer(&mut stream, &site);
        counted.fetch_sub(1, Ordering::SeqCst);
    });
    if started.is_err() {
        open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answer<S: Read + Write>(stream: &mut S, site: &Site) -> io::Result<()> {
    match http::Request::read_from(stream) {
        Ok(request) => routes::answer(&request, site, stream),
        Err(error) => Reply::text(400, &error.to_string()).write_to(stream),
    }
}
