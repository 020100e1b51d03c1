//! Pressure stall information: of the v2 tree alone, but of that also where the controllers are on v1.

use super::{Home, Read, count};
use crate::protocol::{Percent, Pressure, Resources, Stall, Stalls};

pub(super) fn collect(read: &mut Read<'_>, to: &mut Resources) {
    let mut stalls = |file| read(Home::V2, file).map_or_else(Stalls::default, |text| parse(&text));
    to.pressure = Pressure { cpu: stalls("cpu.pressure"), memory: stalls("memory.pressure"), io: stalls("io.pressure") };
}

fn parse(text: &str) -> Stalls {
    let line = |key: &str| text.lines().find_map(|line| stall(line.strip_prefix(key)?));
    Stalls { some: line("some "), full: line("full ") }
}

/// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`; `None` where any of them is missing.
fn stall(line: &str) -> Option<Stall> {
    let value = |key: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
    Some(Stall {
        avg10: percent(value("avg10=")?)?,
        avg60: percent(value("avg60=")?)?,
        avg300: percent(value("avg300=")?)?,
        total_usec: count(value("total=")?)?,
    })
}

/// `12.34`: whole and two digits, as the kernel prints a load.
fn percent(text: &str) -> Option<Percent> {
    let (whole, hundredths) = text.split_once('.').filter(|(_, digits)| digits.len() == 2)?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    Some(Percent(digits(whole)?.checked_mul(100)?.checked_add(digits(hundredths)?)?))
}
