//! Everything outside of its own loopback.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::attempt::{Outcome, attempts};
use crate::bait;

/// Long enough for the host itself.
const PATIENCE: Duration = Duration::from_secs(2);

attempts! {
    Harmless "connect to a port of the host's loopback" => bait_port("tcp"),
    Harmless "connect to the hive" => bait_port("hive"),
    Harmless "connect to a neighbour's port" => bait_port("sibling"),
    Harmless "connect to the host by its own address" => bait::get("address").map_or(Outcome::Untried("no bait"), connect),
    Harmless "find a way to the host by its own address" => bait::get("address").map_or(Outcome::Untried("no bait"), datagram),
    Harmless "look for a way to the internet" => datagram("192.0.2.1:9"),
    Harmless "look for a way to the internet by IPv6" => datagram("[2001:db8::1]:9"),
    Harmless "look for a way to the cloud's metadata" => datagram("169.254.169.254:80"),
    Harmful "broadcast" => broadcast(),
    Harmless "raw socket" => open(AddressFamily::Inet, SockType::Raw),
    Harmless "packet socket" => open(AddressFamily::Packet, SockType::Raw),
    Harmless "vsock" => open(AddressFamily::Vsock, SockType::Stream),
    Harmless "kernel crypto socket" => open(AddressFamily::Alg, SockType::SeqPacket),
    Harmless "netlink to netfilter" => netlink(SockProtocol::NetlinkNetFilter),
    Harmless "netlink to audit" => netlink(SockProtocol::NetlinkAudit),
    Harmless "netlink to the kernel's events" => netlink(SockProtocol::NetlinkKObjectUEvent),
    Harmless "netlink to the socket tables" => netlink(SockProtocol::NetlinkSockDiag),
    Harmless "listen on a port of root's" => std::net::TcpListener::bind("127.0.0.1:81"),
    Harmless "see an interface of the host" => interfaces(),
    Harmless "abstract socket of the host" => bait::get("abstract").map_or(Outcome::Untried("no bait"), abstract_socket),
}

fn bait_port(name: &str) -> Outcome {
    bait::get(name).map_or(Outcome::Untried("no bait"), |port| connect(&format!("127.0.0.1:{port}")))
}

fn connect(address: &str) -> Outcome {
    let Ok(address) = address.parse::<SocketAddr>() else { return Outcome::Untried("no address") };
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut => Outcome::Done("it was sent".into()),
        other => Outcome::from(other),
    }
}

/// Connecting a datagram socket sends nothing, and says whether there is a way.
fn datagram(address: &str) -> Outcome {
    let from = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    Outcome::from(UdpSocket::bind(from).and_then(|socket| socket.connect(address)))
}

fn broadcast() -> Outcome {
    let sent = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.set_broadcast(true)?;
        socket.send_to(b"", "255.255.255.255:9")
    });
    Outcome::from(sent)
}

fn open(family: AddressFamily, kind: SockType) -> nix::Result<std::os::fd::OwnedFd> {
    socket(family, kind, SockFlag::empty(), None)
}

fn netlink(protocol: SockProtocol) -> nix::Result<std::os::fd::OwnedFd> {
    socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), protocol)
}

fn interfaces() -> Outcome {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|l| l.split(':').next()).map(str::trim);
    // What a kernel puts into every network namespace (tunnels that are down) leads nowhere.
    let leading: Vec<&str> = names.filter(|n| ["eth", "en", "wl", "veth", "docker", "br"].iter().any(|p| n.starts_with(p))).collect();
    if leading.is_empty() { Outcome::Empty } else { Outcome::Done(leading.join(" ")) }
}

fn abstract_socket(name: &str) -> Outcome {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name);
    Outcome::from(address.and_then(|a| std::os::unix::net::UnixStream::connect_addr(&a)))
}
