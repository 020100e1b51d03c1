//! Sockets that others can connect to.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// Ports of the range on which something listens, and Unix sockets bound below the directory.
pub(super) fn bound(directory: &Path, ports: &RangeInclusive<u16>) -> BTreeSet<String> {
    let tcp = ["tcp", "tcp6"].into_iter().flat_map(|name| listening(&table(name)));
    let inside = directory.to_string_lossy().into_owned();
    let unix = table("unix");
    let paths = unix.lines().filter_map(|line| line.split_whitespace().nth(7)).filter(|path| path.starts_with(&inside));
    tcp.filter(|port| ports.contains(port)).map(|port| format!("port {port}")).chain(paths.map(str::to_owned)).collect()
}

fn table(name: &str) -> String {
    fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default()
}

fn listening(table: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let number = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        number.filter(|_| state == "0A")
    };
    table.lines().filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_port_is_seen_and_a_connected_one_is_not() {
        let table = "  sl\n 0: 0100007F:238C 00000000:0000 0A 0\n 1: 0100007F:238D 0100007F:0050 01 0";
        assert_eq!(listening(table), [9100]);
    }
}
