//! The line by which a hive says where it listens.
//!
//! Owns: `listening on http://127.0.0.1:PORT and unix:PATH`. Must never know: who starts the hive.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::eventually::within;

/// Where a hive listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listening {
    /// The TCP port on 127.0.0.1.
    pub(super) port: u16,
    /// The Unix socket.
    pub(super) socket: PathBuf,
}

/// Reads standard output until that line comes; a thread goes on reading, so that the hive never blocks on its pipe.
pub(super) fn wait_for_line(child: &mut Child, limit: Duration) -> Result<Listening, String> {
    let stdout = child.stdout.take().ok_or("its standard output is not piped")?;
    let (send, receive) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(found) = parse(&line) {
                // Whoever waited may have given up.
                let _ = send.try_send(found);
            }
        }
    });
    match receive.recv_timeout(within(limit)) {
        Ok(found) => Ok(found),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("no such line within {:?}", within(limit))),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(format!("it ended first: {:?}", child.wait())),
    }
}

fn parse(line: &str) -> Option<Listening> {
    let (_, said) = line.split_once("listening on http://127.0.0.1:")?;
    let (port, socket) = said.split_once(" and unix:")?;
    Some(Listening { port: port.parse().ok()?, socket: PathBuf::from(socket.trim_end()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_and_socket_are_taken_from_the_line() {
        let found = parse("listening on http://127.0.0.1:8600 and unix:/run/x/hive.sock");
        assert_eq!(found, Some(Listening { port: 8600, socket: PathBuf::from("/run/x/hive.sock") }));
        assert_eq!(parse("listening soon"), None);
    }
}
