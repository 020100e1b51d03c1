//! What went to block devices and came from them.

use super::{Home, Read, count};
use crate::protocol::Resources;

pub(super) fn collect(read: &mut Read<'_>, to: &mut Resources) {
    // On v1 the kernel counts only for devices that some group throttles (blk_should_throtl); for others there is no line, and what was
    // not counted is not 0.
    let mut v1 = |file| read(Home::V1("blkio"), file).filter(|text| text.contains(':'));
    if let Some(bytes) = v1("blkio.throttle.io_service_bytes") {
        (to.io_read_bytes, to.io_write_bytes) = (blkio_sum(&bytes, "Read"), blkio_sum(&bytes, "Write"));
        let ops = v1("blkio.throttle.io_serviced").unwrap_or_default();
        (to.io_read_ops, to.io_write_ops) = (blkio_sum(&ops, "Read"), blkio_sum(&ops, "Write"));
        return;
    }
    if let Some(text) = read(Home::V2, "io.stat") {
        (to.io_read_bytes, to.io_write_bytes) = (io_stat_sum(&text, "rbytes="), io_stat_sum(&text, "wbytes="));
        (to.io_read_ops, to.io_write_ops) = (io_stat_sum(&text, "rios="), io_stat_sum(&text, "wios="));
    }
}

/// `<major>:<minor> <operation> <count>`, summed over the devices; `None` without such a line.
fn blkio_sum(text: &str, operation: &str) -> Option<u64> {
    let of_line = |line: &str| {
        let mut parts = line.split_ascii_whitespace();
        let device = parts.next()?.contains(':');
        let same = parts.next()? == operation;
        (device && same).then(|| count(parts.next()?)).flatten()
    };
    text.lines().filter_map(of_line).reduce(u64::saturating_add)
}

/// `<major>:<minor> rbytes=… wbytes=… …`, summed over the devices. A device that the leaf has never used has no line, or one without
/// figures: that is a sum of nothing. `None` for figures among which this one is not.
fn io_stat_sum(text: &str, key: &str) -> Option<u64> {
    let of_line = |line: &str| line.split_ascii_whitespace().find_map(|word| count(word.strip_prefix(key)?));
    let unused = |line: &str| !line.contains('=') && line.split_ascii_whitespace().next().is_none_or(|device| device.contains(':'));
    let nothing = text.lines().all(unused).then_some(0);
    text.lines().filter_map(of_line).reduce(u64::saturating_add).or(nothing)
}
