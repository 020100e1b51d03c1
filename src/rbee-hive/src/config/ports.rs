//! A range of TCP ports, written `9100-9199`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;

/// First to last port, both included, neither 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PortRange {
    first: u16,
    last: u16,
}

/// Why a text is no range of ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("port range {given:?} is not valid: use FIRST-LAST with 1 to 65535, the first not above the last")]
pub(crate) struct InvalidPortRange {
    given: String,
}

impl PortRange {
    /// As a range to iterate over.
    pub(crate) fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 9100, last: 9199 }
    }
}

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (first, last) = text.split_once('-')?;
            let range = Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
            (range.first > 0 && range.first <= range.last).then_some(range)
        };
        parse().ok_or_else(|| InvalidPortRange { given: text.chars().take(40).collect() })
    }
}

impl TryFrom<String> for PortRange {
    type Error = InvalidPortRange;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordered_ranges_of_real_ports_are_accepted() {
        for bad in ["", "9100", "9200-9100", "0-5", "1-65536", "a-b", "1-2-3"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("9100-9100".parse::<PortRange>().unwrap().range(), 9100..=9100);
    }
}
