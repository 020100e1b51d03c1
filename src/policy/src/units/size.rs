//! Bytes.

/// Not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a size: write a number with a unit, such as \"512MiB\", \"2GiB\" or \"64M\" (10^6)")]
pub struct InvalidSize {
    /// What was given.
    pub given: String,
}

const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("B", 1),
];

/// Bytes of `"2GiB"`, `"1.5 GiB"`, `"64M"` (10^6) or `"0"`; any other number needs its unit.
pub fn parse_size(text: &str) -> Result<u64, InvalidSize> {
    let invalid = || InvalidSize { given: text.chars().take(40).collect() };
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(0);
    }
    let (number, factor) =
        UNITS.iter().find_map(|(unit, factor)| trimmed.strip_suffix(unit).map(|n| (n.trim_end(), *factor))).ok_or_else(invalid)?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(invalid());
    }
    match number.split_once('.') {
        None => number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(invalid),
        Some(_) => {
            let value = number.parse::<f64>().map_err(|_| invalid())? * factor as f64;
            if value < 9e18 { Ok(value as u64) } else { Err(invalid()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_its_unit_and_decimal_units_are_decimal() {
        for (text, bytes) in [("2GiB", 2 << 30), ("64M", 64_000_000), ("64MiB", 64 << 20), ("1.5GiB", 3 << 29), ("0", 0), ("10B", 10)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64", "-1MiB", "MiB", "1e3MiB", "1.2.3MiB", "99999999999999999999GiB", "20000000TiB", "NaNMiB", "infGiB"] {
            assert!(parse_size(text).is_err(), "{text:?} was accepted");
        }
    }
}
