//! The least network that was enough.

use super::WatchPlan;
use super::observations::{Gap, Observations, Target};
use crate::plan::NetworkMode;

/// The mode and why.
pub(super) fn mode(seen: &Observations, watch: &WatchPlan) -> (NetworkMode, &'static str) {
    let base = watch.base.network;
    let network = &seen.network;
    if seen.gaps.contains(&Gap::Addresses) {
        return (base, "an address could not be read while learning, so this is the base's own");
    }
    let own = |port: &u16| network.ports.contains(port);
    let foreign = |target: &Target| match target {
        Target::Loopback(port) => !own(port),
        Target::Elsewhere => true,
    };
    let serves = network.listens && !network.ports.is_empty();
    match base {
        NetworkMode::Host if network.targets.iter().any(foreign) => (base, "connected to what it does not serve itself while learning"),
        NetworkMode::Host if network.datagrams => (base, "made sockets for datagrams, which may go anywhere, while learning"),
        NetworkMode::Host | NetworkMode::Private if serves => (NetworkMode::Private, "bound a port and listened while learning"),
        _ => (NetworkMode::None, "served no port while learning; its loopback is its own"),
    }
}

/// The port that it served, where there was just one that it did not leave to the kernel.
pub(super) fn served_port(seen: &Observations) -> Option<u16> {
    let mut fixed = seen.network.ports.iter().filter(|p| **p != 0);
    match (fixed.next(), fixed.next(), seen.network.listens) {
        (Some(port), None, true) => Some(*port),
        _ => None,
    }
}
