//! Ports that can't race: a port in a private network is held by the hive's own listening socket from reservation to release.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use rbee_hive_policy::NetworkMode;

use crate::channel::lock;

/// Every port of the range is in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every port of {first}–{last} is in use")]
pub struct NoFreePort {
    /// First of the range.
    pub first: u16,
    /// Last of the range.
    pub last: u16,
}

/// The range, and who holds what of it.
#[derive(Debug)]
pub(crate) struct PortPool {
    range: RangeInclusive<u16>,
    held: Mutex<BTreeSet<u16>>,
}

/// A port in use; free again when dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    listener: Option<TcpListener>,
    pool: Arc<PortPool>,
}

impl PortPool {
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, held: Mutex::default() }
    }

    /// Reserves the first port that is free: held by a socket on 127.0.0.1 for a private network; for the host's network checked on all
    /// addresses and reserved by number, since the worker itself must bind it.
    pub(crate) fn reserve(self: &Arc<Self>, network: NetworkMode) -> Result<PortLease, NoFreePort> {
        for port in self.range.clone() {
            // Marked first, so that two callers never try one port at a time.
            if !lock(&self.held).insert(port) {
                continue;
            }
            let listener = match network {
                NetworkMode::Host => free_on_all(port).then_some(None),
                _ => TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(Some),
            };
            match listener {
                Some(listener) => return Ok(PortLease { port, listener, pool: Arc::clone(self) }),
                None => drop(lock(&self.held).remove(&port)),
            }
        }
        Err(NoFreePort { first: *self.range.start(), last: *self.range.end() })
    }
}

/// A worker may bind any address: one that listens on any of them is in its way.
fn free_on_all(port: u16) -> bool {
    let any4 = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    if any4.is_err() {
        return false;
    }
    drop(any4);
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Ok(_) => true,
        // A host without IPv6 has no such address to be taken.
        Err(e) => matches!(e.raw_os_error(), Some(97 | 99)),
    }
}

impl PortLease {
    /// The number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket that holds it, for a private network.
    pub fn listener(&self) -> Option<&TcpListener> {
        self.listener.as_ref()
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        // The socket first: whoever is given the number next must be able to bind it.
        drop(self.listener.take());
        lock(&self.pool.held).remove(&self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_at_a_time_never_share_a_port_and_the_one_too_many_gets_none() {
        let _no_fork = crate::tests::forks::none_here();
        let pool = Arc::new(PortPool::new(29100..=29199));
        let leases: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..200).map(|_| scope.spawn(|| pool.reserve(NetworkMode::Private))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let ports: BTreeSet<u16> = leases.iter().flatten().map(PortLease::port).collect();
        assert_eq!((leases.iter().flatten().count(), ports.len()), (100, 100));
        assert_eq!(leases.iter().filter_map(|l| l.as_ref().err()).next(), Some(&NoFreePort { first: 29100, last: 29199 }));
        drop(leases);
        assert!(pool.reserve(NetworkMode::Private).is_ok(), "a dropped lease is free again");
    }

    #[test]
    fn a_port_that_a_stranger_holds_is_passed_over() {
        let _no_fork = crate::tests::forks::none_here();
        let pool = Arc::new(PortPool::new(29300..=29301));
        let _stranger = TcpListener::bind("0.0.0.0:29300").unwrap();
        assert_eq!(pool.reserve(NetworkMode::Host).unwrap().port(), 29301);
        assert_eq!(pool.reserve(NetworkMode::Private).unwrap().port(), 29301);
    }
}
