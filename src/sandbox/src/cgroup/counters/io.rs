//! What went to block devices and came from them.

use super::{Home, Read, count};
use crate::protocol::{CgroupFacts, Resources};

/// On v1 nothing is read, whatever stands in the files of `blkio.throttle`: buffered writes belong to no group there, and devices that no
/// group throttles have no line (blk_should_throtl in block/blk-throttle.h). A figure that begins when somebody sets a bound, and leaves out
/// most of what a worker writes, would pass for the whole.
pub(super) fn collect(read: &mut Read<'_>, to: &mut Resources) {
    if let Some(text) = read(Home::V2, "io.stat") {
        (to.io_read_bytes, to.io_write_bytes) = (io_stat_sum(&text, "rbytes="), io_stat_sum(&text, "wbytes="));
        (to.io_read_ops, to.io_write_ops) = (io_stat_sum(&text, "rios="), io_stat_sum(&text, "wios="));
    }
}

/// Why a figure of it is `None`.
pub(super) fn why(figure: &str, facts: &CgroupFacts) -> &'static str {
    match (facts.mounts.contains_key("blkio"), figure.ends_with("_bytes")) {
        (true, true) => {
            "cgroup v1 counts neither buffered writes nor what goes to devices that nobody throttles, and by process it was not counted"
        }
        (true, false) => {
            "cgroup v1 counts neither buffered writes nor what goes to devices that nobody throttles; by process only bytes can be counted"
        }
        (false, _) => super::unmeasured::NOT_ENABLED,
    }
}

/// `<major>:<minor> rbytes=… wbytes=… …`, summed over the devices. A device that the leaf has never used has no line, or one without
/// figures: that is a sum of nothing. `None` for figures among which this one is not.
fn io_stat_sum(text: &str, key: &str) -> Option<u64> {
    let of_line = |line: &str| line.split_ascii_whitespace().find_map(|word| count(word.strip_prefix(key)?));
    let unused = |line: &str| !line.contains('=') && line.split_ascii_whitespace().next().is_none_or(|device| device.contains(':'));
    let nothing = text.lines().all(unused).then_some(0);
    text.lines().filter_map(of_line).reduce(u64::saturating_add).or(nothing)
}
