//! Times.

/// Not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a time: write numbers with units, such as \"500ms\", \"10s\", \"10min\" or \"1h 30min\"")]
pub struct InvalidDuration {
    /// What was given.
    pub given: String,
}

const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("sec", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// A year: longer is a mistake, and keeps every sum of deadlines far from overflow.
const MAX_MS: u64 = 365 * 86_400_000;

/// Milliseconds of `"10s"`, `"1h 30min"` or `"0"`.
pub fn parse_duration_ms(text: &str) -> Result<u64, InvalidDuration> {
    let invalid = || InvalidDuration { given: text.chars().take(40).collect() };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = after.split_at(letters);
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(invalid)?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(invalid)?;
        total = total.checked_add(part).filter(|t| *t <= MAX_MS).ok_or_else(invalid)?;
        rest = next.trim_start();
    }
    if text.trim().is_empty() { Err(invalid()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_unit() {
        for (text, ms) in [("10s", 10_000), ("500ms", 500), ("10min", 600_000), ("1h 30min", 5_400_000), ("1h30m", 5_400_000), ("0", 0)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "10", "-1s", "s", "10 parsecs", "1.5s", "99999999999d", "ä"] {
            assert!(parse_duration_ms(text).is_err(), "{text:?} was accepted");
        }
    }
}
