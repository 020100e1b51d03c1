//! Who listens on a port of the host: a worker there is known by its own uid, not by its number.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use procfs::net::{TcpNetEntry, TcpState};

/// Errors: `PermissionDenied` where the socket that answers on 127.0.0.1 is another uid's, `NotConnected` where nobody listens any more.
pub(super) fn check(port: u16, uid: u32) -> io::Result<()> {
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let answers = |e: &TcpNetEntry| e.state == TcpState::Listen && e.local_address.port() == port && serves_loopback(e.local_address.ip());
    let listening: Vec<TcpNetEntry> = tables.into_iter().flatten().flatten().filter(answers).collect();
    match listening.iter().find(|e| e.uid != uid) {
        Some(stranger) => {
            let text = format!("port {port} is held by uid {}, not by this worker", stranger.uid);
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
        None if listening.is_empty() => Err(io::ErrorKind::NotConnected.into()),
        None => Ok(()),
    }
}

/// Whether a listener on `address` may get what is sent to 127.0.0.1. One on `::` may, unless it is for IPv6 only, which can't be seen here.
fn serves_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4 == Ipv4Addr::LOCALHOST || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.to_ipv4_mapped().is_some_and(|v4| v4 == Ipv4Addr::LOCALHOST || v4.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_another_uid_is_a_stranger() {
        let _no_fork = crate::tests::forks::none_here();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let me = nix::unistd::geteuid().as_raw();
        assert!(check(port, me).is_ok());
        assert_eq!(check(port, me + 1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(listener);
        assert_eq!(check(port, me).unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn a_listener_on_an_address_that_is_not_asked_is_nobody() {
        let _no_fork = crate::tests::forks::none_here();
        let elsewhere = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let port = elsewhere.local_addr().unwrap().port();
        let me = nix::unistd::geteuid().as_raw();
        assert_eq!(check(port, me + 1).unwrap_err().kind(), io::ErrorKind::NotConnected);
        let _worker = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(check(port, me).is_ok());
    }
}
