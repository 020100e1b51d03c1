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
            let stat = read(Home::V1("cpuacct"), "cpuacct.stat").unwrap_or_default();
            // It counts in USER_HZ.
            let ticks = procfs::ticks_per_second().max(1);
            let usec = |key| keyed(&stat, key).map(|n| n.saturating_mul(1_000_000) / ticks);
            to.cpu_usage_usec = Some(nanoseconds / 1000);
            (to.cpu_user_usec, to.cpu_system_usec) = (usec("user"), usec("system"));
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
