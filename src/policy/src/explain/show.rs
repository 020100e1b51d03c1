//! Values as a policy file would have them.

use std::path::Path;

use crate::{DeviceAccess, Enforce, LimitKey, LimitValue};

const SIZES: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
const TIMES: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];

/// Bytes in the largest unit that divides them.
pub(crate) fn size(bytes: u64) -> String {
    in_units(bytes, &SIZES, "B")
}

/// Milliseconds in the largest unit that divides them.
pub(crate) fn time(ms: u64) -> String {
    in_units(ms, &TIMES, "ms")
}

fn in_micros(micros: u64) -> String {
    if micros.is_multiple_of(1000) { time(micros / 1000) } else { format!("{micros}us") }
}

fn in_units(number: u64, units: &[(u64, &str)], least: &str) -> String {
    if number == 0 {
        return "0".to_owned();
    }
    match units.iter().find(|(factor, _)| number.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", number / factor),
        None => format!("{number}{least}"),
    }
}

/// A limit's value with its unit.
pub fn limit(key: LimitKey, value: &LimitValue) -> String {
    match value {
        LimitValue::Count(bytes) if key.is_bytes() => size(*bytes),
        LimitValue::Count(micros) if key == LimitKey::CpuBurst => in_micros(*micros),
        LimitValue::Count(number) => number.to_string(),
        LimitValue::Decimal(number) => number.to_string(),
        LimitValue::Text(text) => text.clone(),
    }
}

/// As `enforce` has it.
pub(crate) fn enforce(enforce: Enforce) -> &'static str {
    match enforce {
        Enforce::Required => "required",
        Enforce::IfAvailable => "if_available",
    }
}

/// As `access` has it.
pub(crate) fn access(DeviceAccess { read, write, mknod }: DeviceAccess) -> String {
    [(read, 'r'), (write, 'w'), (mknod, 'm')].into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect()
}

pub(crate) fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Words side by side, or `none`.
pub(crate) fn words(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let joined = words.into_iter().map(|w| w.as_ref().to_owned()).collect::<Vec<_>>().join(", ");
    if joined.is_empty() { "none".to_owned() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{parse_duration_ms, parse_size};

    #[test]
    fn what_is_shown_can_be_read_again() {
        for bytes in [0, 1, 1024, 3 << 29, 64 << 20, 2 << 30, 1025] {
            assert_eq!(parse_size(&size(bytes)), Ok(bytes), "{}", size(bytes));
        }
        for ms in [1, 1500, 10_000, 600_000, 7_200_000] {
            assert_eq!(parse_duration_ms(&time(ms)), Ok(ms), "{}", time(ms));
        }
        assert_eq!((size(2 << 30).as_str(), time(600_000).as_str()), ("2GiB", "10min"));
    }
}
