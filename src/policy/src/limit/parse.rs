//! Limits' values as people and machines write them.

use serde_json::Value;

use super::{BlockLimits, Kind, LimitKey, LimitValue, PageLimits, RegionLimits};
use crate::units::{NumberList, parse_duration_ms, parse_size};

/// What as many CPUs as the kernel knows have in the longest period.
const MAX_BURST_US: u64 = 8192 * 1_000_000;

/// PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h): `pids.max` takes no more, but for "max".
const MAX_PIDS: u64 = 4 << 20;

/// A limit's value that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}{}{problem}", if problem.starts_with(char::is_alphabetic) { " " } else { ": " })]
pub struct InvalidLimit {
    /// The limit's name as given.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl LimitKey {
    /// A value from JSON: integers are bytes or counts, texts carry a unit, `"max"` is no limit. Negative values are refused, and 0
    /// where it would leave nothing to run with.
    pub fn parse_value(self, value: &Value) -> Result<LimitValue, InvalidLimit> {
        match value {
            Value::String(text) => self.parse_value_text(text),
            Value::Number(number) => self.parse_number(number.as_u64(), number.as_f64()),
            Value::Bool(on) if matches!(self, Self::OomGroup) => Ok(LimitValue::Count(u64::from(*on))),
            _ => Err(self.invalid("takes a number or a text with a unit")),
        }
    }

    /// A limit from the command line: `memory_max=64MiB`, `cpus=1.5`, `pids_max=64`.
    pub fn parse_assignment(text: &str) -> Result<(Self, LimitValue), InvalidLimit> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| InvalidLimit { key: text.chars().take(64).collect(), problem: "is not of the form KEY=VALUE".into() })?;
        let key = Self::from_name(name.trim())?;
        Ok((key, key.parse_value_text(value)?))
    }

    fn parse_value_text(self, text: &str) -> Result<LimitValue, InvalidLimit> {
        let text = text.trim();
        if text == "max" && self.may_be_max() {
            return Ok(LimitValue::max());
        }
        if let Kind::List = self.kind() {
            let list = text.parse::<NumberList>().map_err(|e| self.invalid(e.to_string()))?;
            return Ok(LimitValue::Text(list.to_string()));
        }
        if self.is_named() {
            return self.parse_named(text);
        }
        if let Ok(number) = text.parse::<u64>() {
            return self.parse_number(Some(number), Some(number as f64));
        }
        match self.kind() {
            Kind::Bytes => {
                let bytes = parse_size(text).map_err(|e| self.invalid(e.to_string()))?;
                self.parse_number(Some(bytes), None)
            }
            Kind::Seconds => {
                let ms = parse_duration_ms(text).map_err(|e| self.invalid(e.to_string()))?;
                self.parse_number(Some(ms.div_ceil(1000)), None)
            }
            Kind::Micros => {
                let micros =
                    parse_micros(text).ok_or_else(|| self.invalid(format!("{text:?} is no time such as \"20ms\" or \"500us\"")))?;
                self.parse_number(Some(micros), None)
            }
            Kind::Cpus => {
                let number = text.parse::<f64>().map_err(|_| self.invalid("is a number of CPUs, such as 1.5"))?;
                self.parse_number(None, Some(number))
            }
            _ => Err(self.invalid("is a whole number")),
        }
    }

    fn parse_number(self, whole: Option<u64>, decimal: Option<f64>) -> Result<LimitValue, InvalidLimit> {
        match self.kind() {
            Kind::Cpus => match decimal {
                // 0.01 CPU is the kernel's smallest quota: 1 ms in a period of 100 ms.
                Some(n) if (0.01..=8192.0).contains(&n) => Ok(LimitValue::Decimal(n)),
                _ => Err(self.invalid("is a number of CPUs between 0.01 and 8192")),
            },
            Kind::List => Err(self.invalid("is a list such as \"0-3,8\"")),
            Kind::Blocks => Err(self.invalid("is a text such as \"8:0 rbps=10MiB wbps=max riops=100; /dev/vda wbps=1MiB\"")),
            Kind::Pages => Err(self.invalid("is a text such as \"2MiB=1GiB; 1GiB=0\"")),
            Kind::Regions => Err(self.invalid("is a text such as \"drm/0000:03:00.0/vram0=8GiB\"")),
            Kind::Switch => whole.filter(|n| *n <= 1).map(LimitValue::Count).ok_or_else(|| self.invalid("is 0 or 1")),
            Kind::Bytes | Kind::Count | Kind::Seconds | Kind::Micros => {
                let whole =
                    whole.filter(|n| *n <= i64::MAX as u64).ok_or_else(|| self.invalid("is a whole number that is not negative"))?;
                self.check_range(whole).map(LimitValue::Count)
            }
        }
    }

    fn check_range(self, value: u64) -> Result<u64, InvalidLimit> {
        match (self, value) {
            (Self::CpuWeight | Self::IoWeight, 1..=10_000) => Ok(value),
            (Self::CpuWeight | Self::IoWeight, _) => Err(self.invalid("is between 1 and 10000")),
            (Self::CpuBurst, _) if value > MAX_BURST_US => Err(self.invalid("is at most 8192s, what 8192 CPUs have in a second")),
            (Self::PidsMax, _) if value > MAX_PIDS => Err(self.invalid(format!("is at most {MAX_PIDS}, as many as the kernel can number"))),
            (Self::CgroupDescendants | Self::CgroupDepth, _) if value > i32::MAX as u64 => Err(self.invalid("is at most 2147483647")),
            // None at all is a bound, too.
            (Self::CpuBurst | Self::CgroupDescendants | Self::CgroupDepth, _) => Ok(value),
            (Self::MemoryLow, _) => Ok(value),
            (Self::SwapMax | Self::CoreSize | Self::LockedMemory | Self::MessageQueues | Self::PendingSignals, _) => Ok(value),
            (_, 0) => Err(self.invalid("must not be 0")),
            _ => Ok(value),
        }
    }

    fn may_be_max(self) -> bool {
        // Of protection "max" would be the most, and not "no limit".
        let most = matches!(self, Self::CpuWeight | Self::IoWeight | Self::MemoryLow);
        !most && !matches!(self.kind(), Kind::Switch | Kind::List | Kind::Micros)
    }

    /// Bounds by name, in their shortest form; with none left it is no limit.
    fn parse_named(self, text: &str) -> Result<LimitValue, InvalidLimit> {
        let bounds = match self.kind() {
            Kind::Blocks => text.parse::<BlockLimits>().map(|bounds| bounds.to_string()),
            Kind::Pages => text.parse::<PageLimits>().map(|bounds| bounds.to_string()),
            _ => text.parse::<RegionLimits>().map(|bounds| bounds.to_string()),
        };
        let bounds = bounds.map_err(|e| self.invalid(e.problem))?;
        Ok(if bounds.is_empty() { LimitValue::max() } else { LimitValue::Text(bounds) })
    }

    fn invalid(self, problem: impl Into<String>) -> InvalidLimit {
        InvalidLimit { key: self.name().into(), problem: problem.into() }
    }
}

/// Microseconds of `"20ms"` or `"500us"`.
fn parse_micros(text: &str) -> Option<u64> {
    match text.strip_suffix("us") {
        Some(number) => number.trim_end().parse().ok(),
        None => parse_duration_ms(text).ok()?.checked_mul(1000),
    }
}
