//! Figures with units that a person reads.

use jiff::Timestamp;

const STEPS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

/// `1.5 GiB`, `512 B`.
pub(crate) fn bytes(count: u64) -> String {
    match STEPS.iter().find(|(size, _)| count >= *size) {
        // Exact to a tenth is enough to read, and u64 to f64 loses nothing that shows.
        Some((size, unit)) => {
            let number = format!("{:.1}", count as f64 / *size as f64);
            format!("{} {unit}", number.strip_suffix(".0").unwrap_or(&number))
        }
        None => format!("{count} B"),
    }
}

/// CPU time from microseconds: `850 ms`, `12.3 s`, `3 min 2 s`.
pub(crate) fn cpu_time(usec: u64) -> String {
    match usec {
        0..1_000_000 => format!("{} ms", usec / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", usec as f64 / 1e6),
        _ => span(usec / 1_000_000),
    }
}

/// `7 %` of `whole`; nothing of nothing.
pub(crate) fn share(part: u64, whole: u64) -> Option<String> {
    (whole > 0).then(|| format!("{:.0} %", part as f64 * 100.0 / whole as f64))
}

/// The time from `from` (RFC 3339) to `to`: `3 min 2 s`. `None` where either is no time.
pub(crate) fn since(from: &str, to: Timestamp) -> Option<String> {
    let from: Timestamp = from.parse().ok()?;
    Some(span(u64::try_from(to.as_second() - from.as_second()).unwrap_or(0)))
}

/// Seconds by their two largest units.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min {} s", seconds % 60),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_short() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (2 << 30, "2 GiB"), (3 << 29, "1.5 GiB"), (154 << 20, "154 MiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_show_their_two_largest_units() {
        for (usec, text) in
            [(0, "0 ms"), (850_000, "850 ms"), (12_340_000, "12.3 s"), (182_000_000, "3 min 2 s"), (90_000_000_000, "1 d 1 h")]
        {
            assert_eq!(cpu_time(usec), text);
        }
        let now: Timestamp = "2026-01-01T01:01:30Z".parse().unwrap();
        assert_eq!(since("2026-01-01T00:00:00Z", now).as_deref(), Some("1 h 1 min"));
        assert_eq!(since("2026-01-01T02:00:00Z", now).as_deref(), Some("0 s"));
        assert_eq!(since("yesterday", now), None);
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        assert_eq!(share(7, 100).as_deref(), Some("7 %"));
        assert_eq!(share(7, 0), None);
    }
}
