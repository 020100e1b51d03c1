//! `share` and `gpu_memory_max` as they are written.

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;

use super::GpuShare;
use crate::file::Setting;
use crate::plan::Enforce;
use crate::units::parse_size;

/// `share`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::file) struct RawShare(pub(super) GpuShare);

impl<'de> Deserialize<'de> for RawShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        share(&Value::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

fn share(given: &Value) -> Result<GpuShare, String> {
    let table = given.as_object().filter(|table| table.len() == 1);
    match (given.as_str(), table.and_then(|table| table.iter().next())) {
        (Some("exclusive"), _) => Ok(GpuShare::Exclusive),
        (_, Some((key, value))) if key == "ways" => {
            let ways = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (2..=64).contains(n));
            ways.map(GpuShare::Ways).ok_or_else(|| format!("share = {{ ways = {value} }}: 2 to 64 workers can share a GPU"))
        }
        (_, Some((key, value))) if key == "memory" => memory("share", value).map(GpuShare::Memory),
        _ => Err("share is \"exclusive\", { ways = 4 } or { memory = \"20GiB\" }".to_owned()),
    }
}

/// `gpu_memory_max`: a size, or `{ value = …, enforce = … }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::file) struct RawMemory(pub(super) Setting<u64>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    value: Value,
    enforce: Enforce,
}

impl<'de> Deserialize<'de> for RawMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const KEY: &str = "gpu_memory_max";
        let given = Value::deserialize(deserializer)?;
        let (value, enforce) = match given.is_object() {
            true => {
                let detailed: Detailed = serde_json::from_value(given).map_err(|e| de::Error::custom(format!("{KEY}: {e}")))?;
                (detailed.value, detailed.enforce)
            }
            false => (given, Enforce::Required),
        };
        memory(KEY, &value).map(|value| Self(Setting { value, enforce })).map_err(de::Error::custom)
    }
}

fn memory(key: &str, value: &Value) -> Result<u64, String> {
    let text = value.as_str().ok_or_else(|| format!("{key}: {value} is not a size: write a number with a unit, such as \"20GiB\""))?;
    match parse_size(text).map_err(|e| format!("{key}: {e}"))? {
        0 => Err(format!("{key} must not be 0: say gpus = \"none\" for a worker that is to have no GPU memory")),
        bytes => Ok(bytes),
    }
}
