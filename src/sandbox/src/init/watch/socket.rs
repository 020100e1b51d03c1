//! Addresses of sockets: what is bound, and where it is connected and sent to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rbee_hive_policy::learn::{Gap, Target, Use};

use super::calls::Deed;
use super::words::Thread;

/// An address as the kernel reads it (ip(7), ipv6(7), unix(7)).
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Internet(IpAddr, u16),
    Unix(PathBuf),
    /// Without a name in the file system, of a family that has nothing to do with it, or cut short.
    Other,
}

/// What a socket's call does.
pub(super) fn deeds(name: &str, args: &[u64; 6], thread: &mut Thread) -> Vec<Deed> {
    let (address, length) = match name {
        "socket" => return made(args),
        "listen" => return vec![Deed::Listened],
        "sendto" => (args[4], args[5]),
        _ => (args[1], args[2]),
    };
    if address == 0 {
        return vec![];
    }
    let Ok(bytes) = thread.bytes(address, usize::try_from(length).unwrap_or(usize::MAX)) else {
        return vec![Deed::Unread(Gap::Addresses)];
    };
    match (Address::parse(&bytes), name) {
        (Address::Internet(_, port), "bind") => vec![Deed::Bound(port)],
        (Address::Internet(ip, port), _) => vec![Deed::Target(target(ip, port))],
        (Address::Unix(path), _) => {
            let what = if name == "bind" { Use::Write } else { Use::Read };
            let start = if path.is_absolute() { Some(Path::new("/").to_owned()) } else { thread.start(None) };
            start.map(|start| Deed::Path { start, path, what, follow: true }).into_iter().collect()
        }
        (Address::Other, _) => vec![],
    }
}

fn made(args: &[u64; 6]) -> Vec<Deed> {
    // The upper bits are SOCK_CLOEXEC and SOCK_NONBLOCK (socket(2)).
    let kind = args[1] as i32 & 0xf;
    let internet = matches!(args[0] as i32, libc::AF_INET | libc::AF_INET6);
    if internet && kind != libc::SOCK_STREAM { vec![Deed::Datagrams] } else { vec![] }
}

fn target(ip: IpAddr, port: u16) -> Target {
    // To connect to "any" is to connect to oneself (ip(7)).
    if ip.to_canonical().is_loopback() || ip.is_unspecified() { Target::Loopback(port) } else { Target::Elsewhere }
}

impl Address {
    fn parse(bytes: &[u8]) -> Self {
        let Some((family, rest)) = bytes.split_first_chunk::<2>() else { return Self::Other };
        let port = rest.first_chunk::<2>().map(|b| u16::from_be_bytes(*b));
        match (i32::from(u16::from_ne_bytes(*family)), port) {
            (libc::AF_INET, Some(port)) => {
                let ip = rest.get(2..).and_then(<[u8]>::first_chunk::<4>);
                ip.map_or(Self::Other, |ip| Self::Internet(Ipv4Addr::from(*ip).into(), port))
            }
            (libc::AF_INET6, Some(port)) => {
                // Four bytes of flow information lie between.
                let ip = rest.get(6..).and_then(<[u8]>::first_chunk::<16>);
                ip.map_or(Self::Other, |ip| Self::Internet(Ipv6Addr::from(*ip).into(), port))
            }
            (libc::AF_UNIX, _) => {
                let name = rest.split(|b| *b == 0).next().unwrap_or_default();
                if name.is_empty() { Self::Other } else { Self::Unix(std::ffi::OsStr::from_bytes(name).into()) }
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internet(family: i32, port: u16, rest: &[u8]) -> Vec<u8> {
        [&(family as u16).to_ne_bytes()[..], &port.to_be_bytes(), rest].concat()
    }

    #[test]
    fn addresses_are_read_as_the_kernel_does() {
        let v4 = internet(libc::AF_INET, 9100, &[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Address::parse(&v4), Address::Internet(Ipv4Addr::LOCALHOST.into(), 9100));
        let mapped = [&[0u8; 4][..], &Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets(), &[0; 4]].concat();
        let Address::Internet(ip, 53) = Address::parse(&internet(libc::AF_INET6, 53, &mapped)) else { panic!("no address") };
        assert_eq!(target(ip, 53), Target::Elsewhere);
        assert_eq!(Address::parse(&internet(libc::AF_UNIX, 0, b"")), Address::Other, "abstract");
        let named = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], b"/run/x\0rest"].concat();
        assert_eq!(Address::parse(&named), Address::Unix("/run/x".into()));
        for cut in 0..v4.len().min(8) {
            assert_eq!(Address::parse(&v4[..cut]), Address::Other, "{cut}");
        }
    }

    #[test]
    fn loopback_has_many_names() {
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert_eq!(target(ip.parse().unwrap(), 1), Target::Loopback(1), "{ip}");
        }
        assert_eq!(target("192.0.2.1".parse().unwrap(), 1), Target::Elsewhere);
    }
}
