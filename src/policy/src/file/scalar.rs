//! Values with a grammar of their own: sizes, times, signals, limits.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::Setting;
use crate::units::{parse_duration_ms, parse_size};
use crate::{Enforce, LimitKey, LimitValue, PlannedLimit};

/// Bytes with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_size(&text).map(Self).map_err(de::Error::custom)
    }
}

/// Milliseconds, written with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Millis(pub(super) u64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration_ms(&text).map(Self).map_err(de::Error::custom)
    }
}

/// Nanoseconds of a short time, written with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nanos(pub(super) u64);

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const UNITS: [(&str, u64); 3] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000)];
        let text = String::deserialize(deserializer)?;
        let parse = |(unit, factor): &(&str, u64)| text.strip_suffix(unit)?.trim_end().parse::<u64>().ok()?.checked_mul(*factor);
        // 0 would mean "as before" to the kernel, and a second is a mistake.
        let known = UNITS.iter().find_map(parse).filter(|ns| (1..=1_000_000_000).contains(ns));
        known.map(Self).ok_or_else(|| de::Error::custom(format!("{text:?} is no time of 1ns to 1000ms, such as \"50us\"")))
    }
}

/// A value, or `{ value = …, enforce = "required" | "if_available" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum RawSetting<T> {
    Plain(T),
    Detailed(DetailedSetting<T>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DetailedSetting<T> {
    value: T,
    enforce: Enforce,
}

impl<T> From<RawSetting<T>> for Setting<T> {
    fn from(raw: RawSetting<T>) -> Self {
        match raw {
            RawSetting::Plain(value) => Self { value, enforce: Enforce::Required },
            RawSetting::Detailed(d) => Self { value: d.value, enforce: d.enforce },
        }
    }
}

/// A signal by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SignalNumber(pub(super) i32);

/// x86-64, AArch64 and RISC-V agree on these.
const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGABRT", 6),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGTERM", 15),
    ("SIGWINCH", 28),
];

/// The name of a signal that a policy can name.
pub(crate) fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(_, n)| *n == number).map(|(name, _)| *name)
}

impl<'de> Deserialize<'de> for SignalNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = SIGNALS.iter().find(|(name, _)| *name == text).map(|(_, number)| Self(*number));
        let names = || SIGNALS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        known.ok_or_else(|| de::Error::custom(format!("{text:?} is no signal to stop by; there are {}", names())))
    }
}

/// `[limits]`: each value, or `{ value = …, enforce = "required" | "if_available" }`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawLimits(pub(super) BTreeMap<LimitKey, PlannedLimit>);

#[derive(Deserialize)]
#[serde(untagged)]
enum RawLimit {
    Detailed(Detailed),
    Plain(serde_json::Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    value: serde_json::Value,
    enforce: Enforce,
}

impl<'de> Deserialize<'de> for RawLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LimitsVisitor)
    }
}

struct LimitsVisitor;

impl<'de> Visitor<'de> for LimitsVisitor {
    type Value = RawLimits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawLimits, A::Error> {
        let mut limits = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let key = LimitKey::from_name(&name).map_err(de::Error::custom)?;
            let (given, enforce) = match map.next_value::<RawLimit>()? {
                RawLimit::Detailed(d) => (d.value, d.enforce),
                RawLimit::Plain(value) => (value, Enforce::Required),
            };
            let value = in_policy(key, &given).map_err(de::Error::custom)?;
            limits.insert(key, PlannedLimit { value, enforce });
        }
        Ok(RawLimits(limits))
    }
}

/// `[request] max`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawMax(pub(super) BTreeMap<LimitKey, LimitValue>);

impl<'de> Deserialize<'de> for RawMax {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let each = given.iter().map(|(name, value)| {
            let key = LimitKey::from_name(name).map_err(de::Error::custom)?;
            Ok((key, in_policy(key, value).map_err(de::Error::custom)?))
        });
        each.collect::<Result<_, D::Error>>().map(Self)
    }
}

/// As in a request, but sizes carry their unit.
fn in_policy(key: LimitKey, value: &serde_json::Value) -> Result<LimitValue, String> {
    if key.has_unit() && value.as_u64().is_some_and(|n| n > 0) {
        let example = if key.is_bytes() { format!("\"{value}B\" or \"2GiB\"") } else { format!("\"{value}us\" or \"20ms\"") };
        return Err(format!("{} needs a unit, such as {example}", key.name()));
    }
    key.parse_value(value).map_err(|e| e.to_string())
}
