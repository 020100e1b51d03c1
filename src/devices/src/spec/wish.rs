//! `device` as an object: which GPUs, how much of them, and what if they are taken.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::DeviceSpec;
use crate::Vendor;
use crate::lease::{MAX_WAYS, Share};
use crate::simulation::size;

/// Most GPUs of one lease: more than any machine has.
pub(crate) const MAX_COUNT: u32 = 64;
/// Most GPUs that can be excluded, and bytes of a name.
const MAX_EXCLUDED: usize = 64;
const MAX_NAME: usize = 128;
/// Longest that a request waits: a day.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A GPU by one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuName {
    /// `GPU-<index>`.
    Index(u32),
    /// The driver's UUID, in any case.
    Uuid(String),
}

/// What becomes of a request whose devices are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenBusy {
    /// It is refused.
    #[default]
    Refuse,
    /// It waits in line.
    Queue {
        /// How long; `None`: until it is cancelled.
        timeout: Option<Duration>,
    },
}

/// Constraints on GPUs. What is absent constrains nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceWish {
    /// These, in this order; any where empty.
    pub gpus: Vec<GpuName>,
    /// How many; the policy's count where absent.
    pub count: Option<u32>,
    /// How much of each; the policy's share where absent.
    pub share: Option<Share>,
    /// Bytes that must be free on each.
    pub min_memory: Option<u64>,
    /// Maker.
    pub vendor: Option<Vendor>,
    /// Pattern of the product's name, any case: `*` stands for any text, `?` for one character, a pattern without either for a part.
    pub name: Option<String>,
    /// Nearest NUMA node.
    pub numa_node: Option<u32>,
    /// All at one NUMA node.
    pub same_numa: bool,
    /// Every pair with a fast link.
    pub linked: bool,
    /// None of these.
    pub exclude: Vec<GpuName>,
    /// What if they are taken.
    pub when_busy: WhenBusy,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    gpus: Option<Value>,
    count: Option<u32>,
    share: Option<RawShare>,
    min_memory: Option<Value>,
    vendor: Option<Vendor>,
    name: Option<String>,
    numa_node: Option<u32>,
    same_numa: Option<bool>,
    linked: Option<bool>,
    exclude: Option<Value>,
    when_busy: Option<Busy>,
    queue_timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawShare {
    Exclusive,
    Ways(u32),
    Memory(Value),
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Busy {
    Refuse,
    Queue,
}

/// A number of bytes above 0, as a number or with a unit.
fn bytes(field: &str, value: &Value) -> Result<u64, String> {
    let count = match value {
        Value::String(text) => size(text).map_err(|e| format!("{field}: {e}"))?,
        other => other.as_u64().ok_or_else(|| format!("{field}: {other} is no number of bytes, and no size such as \"80GiB\""))?,
    };
    if count == 0 { Err(format!("{field}: 0 bytes are no memory")) } else { Ok(count) }
}

impl DeviceWish {
    /// From the request's JSON object; a sentence where it can't be.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let raw = Raw::deserialize(value).map_err(|e| e.to_string())?;
        let wish = Self {
            gpus: raw.gpus.as_ref().map(|v| names("gpus", v)).transpose()?.unwrap_or_default(),
            count: raw.count,
            share: raw.share.map(share).transpose()?,
            min_memory: raw.min_memory.as_ref().map(|v| bytes("min_memory", v)).transpose()?,
            vendor: raw.vendor,
            name: raw.name,
            numa_node: raw.numa_node,
            same_numa: raw.same_numa.unwrap_or(false),
            linked: raw.linked.unwrap_or(false),
            exclude: raw.exclude.as_ref().map(|v| names("exclude", v)).transpose()?.unwrap_or_default(),
            when_busy: when_busy(raw.when_busy, raw.queue_timeout_ms)?,
        };
        wish.contradiction().map_or(Ok(wish), Err)
    }

    /// Two parts that no machine can satisfy together, as a sentence.
    fn contradiction(&self) -> Option<String> {
        let named = u32::try_from(self.gpus.len()).unwrap_or(u32::MAX);
        match (self.count, self.share, self.min_memory) {
            (Some(n), ..) if n == 0 || n > MAX_COUNT => Some(format!("count is {n}: it can be 1 to {MAX_COUNT}")),
            (Some(n), ..) if named > 0 && named != n => Some(format!("count is {n}, and gpus names {named}")),
            (_, Some(Share::Memory(bytes)), Some(min)) if bytes < min => {
                Some(format!("share takes {bytes} bytes of memory, and min_memory wants {min}"))
            }
            (Some(1), ..) if self.linked => Some("linked wants links between several GPUs, and count is 1".into()),
            _ if self.name.as_ref().is_some_and(|n| n.is_empty() || n.len() > MAX_NAME) => {
                Some(format!("name has 1 to {MAX_NAME} characters"))
            }
            _ => self.exclude.iter().find(|x| self.gpus.iter().any(|g| g.is(x))).map(|both| format!("{both} is in gpus and in exclude")),
        }
    }
}

impl GpuName {
    /// Whether both are one text. A UUID and an index may still be one GPU.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Index(a), Self::Index(b)) => a == b,
            (Self::Uuid(a), Self::Uuid(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        }
    }
}

impl std::fmt::Display for GpuName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(n) => write!(f, "GPU-{n}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

fn names(field: &str, value: &Value) -> Result<Vec<GpuName>, String> {
    let list = value.as_array().filter(|l| !l.is_empty() && l.len() <= MAX_EXCLUDED);
    let list = list.ok_or_else(|| format!("{field} is a list of 1 to {MAX_EXCLUDED} GPUs"))?;
    let mut found: Vec<GpuName> = Vec::new();
    for value in list {
        let name = match super::single(value) {
            Some(DeviceSpec::Gpus(list)) => list.first().copied().map(GpuName::Index),
            Some(DeviceSpec::GpuUuids(list)) => list.first().cloned().map(GpuName::Uuid),
            _ => None,
        };
        let name = name.ok_or_else(|| format!("{field}: {value} is no GPU"))?;
        if found.iter().any(|f| f.is(&name)) {
            return Err(format!("{field}: {name} is there twice"));
        }
        found.push(name);
    }
    Ok(found)
}

fn share(raw: RawShare) -> Result<Share, String> {
    let share = match raw {
        RawShare::Exclusive => Share::Exclusive,
        RawShare::Ways(n) => Share::Ways(n),
        RawShare::Memory(value) => Share::Memory(bytes("share: memory", &value)?),
    };
    if share.is_valid() { Ok(share) } else { Err(format!("share: a GPU is shared 2 to {MAX_WAYS} ways")) }
}

fn when_busy(busy: Option<Busy>, timeout_ms: Option<u64>) -> Result<WhenBusy, String> {
    let timeout = timeout_ms.map(Duration::from_millis);
    match (busy, timeout) {
        (Some(Busy::Queue), Some(t)) if t > MAX_WAIT => Err(format!("queue_timeout_ms is at most {}", MAX_WAIT.as_millis())),
        (Some(Busy::Queue), timeout) => Ok(WhenBusy::Queue { timeout }),
        (_, Some(_)) => Err("queue_timeout_ms needs when_busy \"queue\"".into()),
        (_, None) => Ok(WhenBusy::Refuse),
    }
}

impl WhenBusy {
    /// From a method's own parameters.
    ///
    /// Errors: a sentence for words and times that mean nothing.
    pub fn parse(word: Option<&str>, timeout_ms: Option<u64>) -> Result<Self, String> {
        let busy = match word {
            None => None,
            Some("refuse") => Some(Busy::Refuse),
            Some("queue") => Some(Busy::Queue),
            Some(other) => return Err(format!("{other:?} is not \"refuse\" or \"queue\"")),
        };
        when_busy(busy, timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<DeviceWish, String> {
        DeviceWish::parse(value)
    }

    #[test]
    fn every_key_is_understood() {
        let wish =
            parse(&json!({"gpus": ["GPU-3", "cuda:1"], "count": 2, "share": {"memory": "20GiB"}, "min_memory": 1024, "vendor": "nvidia",
            "name": "H100*", "numa_node": 0, "same_numa": true, "linked": true, "exclude": ["GPU-5c0e3b1a-0000", 0], "when_busy": "queue",
            "queue_timeout_ms": 500}));
        let want = DeviceWish {
            gpus: vec![GpuName::Index(3), GpuName::Index(1)],
            count: Some(2),
            share: Some(Share::Memory(20 << 30)),
            min_memory: Some(1024),
            vendor: Some(Vendor::Nvidia),
            name: Some("H100*".into()),
            numa_node: Some(0),
            same_numa: true,
            linked: true,
            exclude: vec![GpuName::Uuid("GPU-5c0e3b1a-0000".into()), GpuName::Index(0)],
            when_busy: WhenBusy::Queue { timeout: Some(Duration::from_millis(500)) },
        };
        assert_eq!(wish, Ok(want));
        assert_eq!(parse(&json!({"share": "exclusive"})).unwrap().share, Some(Share::Exclusive));
        assert_eq!(parse(&json!({"share": {"ways": 4}})).unwrap().share, Some(Share::Ways(4)));
        assert_eq!(parse(&json!({})), Ok(DeviceWish::default()));
    }

    #[test]
    fn contradictions_are_named() {
        for (value, said) in [
            (json!({"count": 0}), "count is 0"),
            (json!({"count": 65}), "count is 65"),
            (json!({"count": 3, "gpus": ["GPU-0"]}), "gpus names 1"),
            (json!({"share": {"memory": "1GiB"}, "min_memory": "2GiB"}), "min_memory wants"),
            (json!({"count": 1, "linked": true}), "count is 1"),
            (json!({"gpus": ["GPU-0"], "exclude": [0]}), "GPU-0 is in gpus and in exclude"),
            (json!({"queue_timeout_ms": 5}), "needs when_busy"),
            (json!({"queue_timeout_ms": 5, "when_busy": "refuse"}), "needs when_busy"),
            (json!({"queue_timeout_ms": u64::MAX, "when_busy": "queue"}), "at most 86400000"),
            (json!({"share": {"ways": 1}}), "2 to 64 ways"),
            (json!({"share": {"memory": 0}}), "0 bytes"),
            (json!({"min_memory": "20 GB"}), "min_memory: \"20 GB\" is no size"),
            (json!({"min_memory": -5}), "min_memory: -5 is no number of bytes"),
            (json!({"min_memory": 1.5}), "min_memory: 1.5 is no number of bytes"),
            (json!({"min_memory": 0}), "min_memory: 0 bytes"),
            (json!({"share": {"memory": -1}}), "share: memory: -1 is no number"),
            (json!({"exclude": []}), "list of 1 to 64"),
            (json!({"exclude": ["CPU-0"]}), "no GPU"),
            (json!({"exclude": [1, "GPU-1"]}), "twice"),
            (json!({"name": ""}), "name has 1 to"),
            (json!({"cuont": 1}), "unknown field"),
            (json!({"vendor": "matrox"}), "unknown variant"),
            (json!({"count": -1}), "invalid value"),
        ] {
            let error = parse(&value).unwrap_err();
            assert!(error.contains(said), "{value}: {error}");
        }
    }

    #[test]
    fn a_method_says_in_words_what_becomes_of_a_busy_device() {
        assert_eq!(WhenBusy::parse(None, None), Ok(WhenBusy::Refuse));
        assert_eq!(WhenBusy::parse(Some("queue"), None), Ok(WhenBusy::Queue { timeout: None }));
        assert!(WhenBusy::parse(Some("wait"), None).is_err() && WhenBusy::parse(Some("refuse"), Some(1)).is_err());
    }
}
