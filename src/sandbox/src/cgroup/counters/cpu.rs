//! CPU time, and what the limit on it took.

use super::{Home, Read, count, keyed};
use crate::protocol::{Resources, Throttled};

pub(super) fn collect(read: &mut Read<'_>, to: &mut Resources) {
    let v1_limit = read(Home::V1("cpu"), "cpu.stat");
    let v1_time = read(Home::V1("cpuacct"), "cpuacct.usage").and_then(|text| count(&text));
    // cpu.stat of v2 has the three times also where the cpu controller is not enabled.
    let v2 = if v1_limit.is_none() || v1_time.is_none() { read(Home::V2, "cpu.stat") } else { None }.unwrap_or_default();
    match v1_time {
        Some(nanoseconds) => {
            to.cpu_usage_usec = Some(nanoseconds / 1000);
            (to.cpu_user_usec, to.cpu_system_usec) = by_mode(read, nanoseconds);
        }
        None => {
            to.cpu_usage_usec = keyed(&v2, "usage_usec");
            (to.cpu_user_usec, to.cpu_system_usec) = (keyed(&v2, "user_usec"), keyed(&v2, "system_usec"));
        }
    }
    let (stat, usec) = match &v1_limit {
        Some(stat) => (stat, keyed(stat, "throttled_time").map(|nanoseconds| nanoseconds / 1000)),
        None => (&v2, keyed(&v2, "throttled_usec")),
    };
    to.cpu_throttled = Throttled { periods: keyed(stat, "nr_periods"), throttled_periods: keyed(stat, "nr_throttled"), usec };
}

/// User and system time on v1. cpuacct.stat has them in hundredths of a second, these to the tick at which the kernel looks who runs.
/// A worker that has run and was never met by a tick has no such figures: 0 of both would be wrong of one of them.
fn by_mode(read: &mut Read<'_>, whole: u64) -> (Option<u64>, Option<u64>) {
    let mut usec = |file| read(Home::V1("cpuacct"), file).and_then(|text| count(&text)).map(|nanoseconds| nanoseconds / 1000);
    match (usec("cpuacct.usage_user"), usec("cpuacct.usage_sys")) {
        (Some(0), Some(0)) if whole > 0 => (None, None),
        both => both,
    }
}
