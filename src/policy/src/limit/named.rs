//! Bounds of several things by name: of block devices, of huge pages by their size, of regions of device memory.
//!
//! What has no bound is left out, so that the same bounds are the same text. Must never know: which devices, sizes and regions a host has.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::explain::show;
use crate::units::parse_size;

/// Most things that one limit names.
const MAX_NAMED: usize = 64;
/// Longest name, bytes: a path below /dev.
const MAX_NAME: usize = 255;
/// Smallest huge page: more than a page of any machine's that has 4 KiB or 16 KiB ones.
const MIN_HUGE_PAGE: u64 = 64 << 10;
const IO_KEYS: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

/// A text that holds no such bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidNamed {
    /// What is wrong, naming the part of the text.
    pub problem: String,
}

/// What may be read from and written to one block device, in bytes and operations a second; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoBounds {
    /// Bytes read (`rbps`), bytes written (`wbps`), reads (`riops`), writes (`wiops`).
    pub bounds: [Option<u64>; 4],
}

/// Bounds of block devices: `8:0 rbps=10MiB wbps=max riops=100; /dev/vda wbps=1MiB`. A device is named by its number or by a path below /dev.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits(pub BTreeMap<String, IoBounds>);

/// Bytes of huge pages by the size of a page: `2MiB=1GiB; 1GiB=0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageLimits(pub BTreeMap<u64, u64>);

/// Bytes of device memory by region: `drm/0000:03:00.0/vram0=8GiB`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionLimits(pub BTreeMap<String, u64>);

impl IoBounds {
    /// Each bound with the kernel's word for it.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        IO_KEYS.into_iter().zip(self.bounds)
    }
}

impl FromStr for BlockLimits {
    type Err = InvalidNamed;

    fn from_str(text: &str) -> Result<Self, InvalidNamed> {
        let mut devices = BTreeMap::new();
        for part in parts(text)? {
            let mut words = part.split_ascii_whitespace();
            let name = words
                .next()
                .filter(|name| is_device(name))
                .ok_or_else(|| wrong(part, "does not begin with a block device, such as \"8:0\" or \"/dev/vda\""))?;
            let mut bounds = IoBounds::default();
            let mut seen = [false; 4];
            for word in words {
                let (at, bound) = io_bound(word)?;
                if std::mem::replace(&mut seen[at], true) {
                    return Err(wrong(word, "is given twice for one device"));
                }
                bounds.bounds[at] = bound;
            }
            if seen == [false; 4] {
                return Err(wrong(part, "bounds nothing: add rbps=, wbps=, riops= or wiops="));
            }
            if devices.insert(name.to_owned(), bounds).is_some() {
                return Err(wrong(name, "is named twice"));
            }
        }
        devices.retain(|_, bounds| *bounds != IoBounds::default());
        Ok(Self(devices))
    }
}

fn io_bound(word: &str) -> Result<(usize, Option<u64>), InvalidNamed> {
    let unknown = || wrong(word, "is none of rbps=, wbps=, riops= and wiops=");
    let (key, value) = word.split_once('=').ok_or_else(unknown)?;
    let at = IO_KEYS.iter().position(|known| *known == key).ok_or_else(unknown)?;
    if value == "max" {
        return Ok((at, None));
    }
    let number = match key.ends_with("bps") {
        true => parse_size(value).map_err(|e| wrong(word, &format!("holds no bytes a second: {e}")))?,
        // The kernel counts them in 32 bits, and takes the largest for no bound.
        false => value
            .parse::<u32>()
            .ok()
            .filter(|n| *n < u32::MAX)
            .map(u64::from)
            .ok_or_else(|| wrong(word, "holds no whole number of operations a second below 4294967295"))?,
    };
    match number {
        0 => Err(wrong(word, "is 0: a worker that reads or writes nothing gets no device, not a bound of 0")),
        n if n > i64::MAX as u64 => Err(wrong(word, "is too large")),
        n => Ok((at, Some(n))),
    }
}

fn is_device(name: &str) -> bool {
    let number = |text: &str, most: u32| text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|n| n <= most);
    let numbered = name.split_once(':').is_some_and(|(major, minor)| number(major, 0xfff) && number(minor, 0xf_ffff));
    let path = name.strip_prefix("/dev/").is_some_and(|rest| {
        name.len() <= MAX_NAME && !name.contains(['=', '\0']) && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
    });
    numbered || path
}

impl FromStr for PageLimits {
    type Err = InvalidNamed;

    fn from_str(text: &str) -> Result<Self, InvalidNamed> {
        let mut pages = BTreeMap::new();
        for part in parts(text)? {
            let (size, bytes) = part.split_once('=').ok_or_else(|| wrong(part, "is not of the form SIZE=BYTES, such as \"2MiB=1GiB\""))?;
            let size = parse_size(size).map_err(|e| wrong(part, &e.to_string()))?;
            if !size.is_power_of_two() || size < MIN_HUGE_PAGE {
                return Err(wrong(part, "does not begin with the size of a huge page, such as 2MiB or 1GiB"));
            }
            let bound = bytes_or_max(part, bytes)?;
            if bound.is_some_and(|bytes| !bytes.is_multiple_of(size)) {
                return Err(wrong(part, "is no whole number of pages"));
            }
            if pages.insert(size, bound).is_some() {
                return Err(wrong(part, "names a size twice"));
            }
        }
        Ok(Self(pages.into_iter().filter_map(|(size, bound)| Some((size, bound?))).collect()))
    }
}

impl FromStr for RegionLimits {
    type Err = InvalidNamed;

    fn from_str(text: &str) -> Result<Self, InvalidNamed> {
        let mut regions = BTreeMap::new();
        for part in parts(text)? {
            let (name, bytes) = part.split_once('=').ok_or_else(|| wrong(part, "is not of the form REGION=BYTES"))?;
            let name = name.trim();
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(wrong(part, "does not begin with a region's name, as dmem.capacity has it"));
            }
            if regions.insert(name.to_owned(), bytes_or_max(part, bytes)?).is_some() {
                return Err(wrong(part, "names a region twice"));
            }
        }
        Ok(Self(regions.into_iter().filter_map(|(name, bound)| Some((name, bound?))).collect()))
    }
}

fn parts(text: &str) -> Result<Vec<&str>, InvalidNamed> {
    let parts: Vec<&str> = text.split(';').map(str::trim).collect();
    if parts.len() > MAX_NAMED {
        return Err(wrong(text, &format!("names more than {MAX_NAMED} things")));
    }
    match parts.iter().any(|part| part.is_empty()) {
        true => Err(wrong(text, "has an empty part: several are separated by one semicolon")),
        false => Ok(parts),
    }
}

fn bytes_or_max(part: &str, text: &str) -> Result<Option<u64>, InvalidNamed> {
    match text.trim() {
        "max" => Ok(None),
        text => parse_size(text)
            .ok()
            .filter(|n| *n <= i64::MAX as u64)
            .map(Some)
            .ok_or_else(|| wrong(part, "holds no size: write a number with a unit, such as \"1GiB\", or \"max\"")),
    }
}

fn wrong(part: &str, problem: &str) -> InvalidNamed {
    let shown: String = part.chars().take(80).collect();
    InvalidNamed { problem: format!("{shown:?} {problem}") }
}

impl fmt::Display for BlockLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = |(name, bounds): (&String, &IoBounds)| {
            let set = bounds.named().filter_map(|(key, bound)| Some((key, bound?)));
            let shown = set.map(|(key, n)| format!(" {key}={}", if key.ends_with("bps") { show::size(n) } else { n.to_string() }));
            format!("{name}{}", shown.collect::<String>())
        };
        f.write_str(&self.0.iter().map(device).collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Display for PageLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = |(size, bytes): (&u64, &u64)| format!("{}={}", show::size(*size), show::size(*bytes));
        f.write_str(&self.0.iter().map(page).collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Display for RegionLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = |(name, bytes): (&String, &u64)| format!("{name}={}", show::size(*bytes));
        f.write_str(&self.0.iter().map(region).collect::<Vec<_>>().join("; "))
    }
}

/// Whether what `a` bounds is all that `b` bounds, and by no more. False where either is no such text.
pub(super) fn within(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (every_bound(a), every_bound(b)) else { return false };
    b.iter().all(|(name, most)| a.get(name).is_some_and(|bound| bound <= most))
}

/// Each bound of a text, whichever of the three kinds it is.
fn every_bound(text: &str) -> Option<BTreeMap<String, u64>> {
    if let Ok(BlockLimits(devices)) = text.parse() {
        let of = |(name, bounds): (&String, &IoBounds)| {
            bounds.named().filter_map(|(key, bound)| Some((format!("{name} {key}"), bound?))).collect::<Vec<_>>()
        };
        return Some(devices.iter().flat_map(of).collect());
    }
    if let Ok(PageLimits(pages)) = text.parse() {
        return Some(pages.into_iter().map(|(size, bytes)| (size.to_string(), bytes)).collect());
    }
    text.parse::<RegionLimits>().ok().map(|RegionLimits(regions)| regions)
}
