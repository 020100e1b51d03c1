//! What a worker says by sd_notify(3).
//!
//! Owns: the datagrams. Must never know: who hears them.

use std::env;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::thread;

use crate::{clock, startup};

/// Says `text` to whoever `NOTIFY_SOCKET` names.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let path = env::var_os("NOTIFY_SOCKET").ok_or_else(|| io::Error::other("there is no NOTIFY_SOCKET"))?;
    UnixDatagram::unbound()?.send_to(text.as_bytes(), path).map(drop)
}

/// Says that it is ready, once so many milliseconds are over.
pub(crate) fn say_ready_after(ms: u64) {
    thread::spawn(move || {
        clock::be_slow(ms);
        complaining("READY=1");
    });
}

/// Gives signs of life, where an interval is asked for.
pub(crate) fn ping_for_ever(every_ms: Option<u64>) {
    let Some(ms) = every_ms else { return };
    thread::spawn(move || {
        loop {
            complaining("WATCHDOG=1");
            clock::be_slow(ms);
        }
    });
}

fn complaining(text: &str) {
    if let Err(error) = say(text) {
        startup::complain(&error);
    }
}
