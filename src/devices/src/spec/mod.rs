//! The spellings of `device` in a request.
//!
//! Must never know what the host has: a spelling is right or wrong on every machine.

mod wish;

use std::collections::BTreeSet;

use serde_json::Value;

pub(crate) use wish::MAX_COUNT;
pub use wish::{DeviceWish, GpuName, WhenBusy};

/// Highest index that is believed.
pub(crate) const MAX_INDEX: u32 = 4095;

/// What a client wishes to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSpec {
    /// One free GPU, or the CPU where the host has none or the policy leases none; also when `device` is absent.
    Auto,
    /// Every CPU that the policy allows (`"cpu"`).
    AnyCpu,
    /// NUMA node n (`"CPU-n"`).
    Cpu(u32),
    /// These GPUs by index (`0`, `"GPU-0"`, `"cuda:0"`, a list of them), no duplicates, never empty.
    Gpus(Vec<u32>),
    /// These GPUs by UUID (`"GPU-5c0e…"` with more than digits after the dash, `"MIG-…"`), in any case; no duplicates, never empty.
    GpuUuids(Vec<String>),
    /// GPUs that answer to constraints (an object).
    Wish(Box<DeviceWish>),
}

/// A `device` that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {given} is not valid: {why}")]
pub struct InvalidDevice {
    /// What was given, as JSON, cut to 120 characters.
    pub given: String,
    /// What is wrong with it, or what can be given.
    pub why: String,
}

/// What there is beside objects.
const SPELLINGS: &str = "use 0, \"GPU-0\", \"cuda:0\", \"CPU-0\", \"cpu\", \"auto\", a list of GPUs, or an object such as {\"count\": 2}";

impl DeviceSpec {
    /// From the request's JSON; `null` is [`DeviceSpec::Auto`].
    pub fn parse(value: &Value) -> Result<Self, InvalidDevice> {
        let invalid = |why: String| InvalidDevice { given: value.to_string().chars().take(120).collect(), why };
        let parsed = match value {
            Value::Null => Some(Self::Auto),
            Value::Array(list) => gpus(list),
            Value::Object(_) => return DeviceWish::parse(value).map(|wish| Self::Wish(Box::new(wish))).map_err(invalid),
            one => single(one),
        };
        parsed.ok_or_else(|| invalid(SPELLINGS.into()))
    }

    /// The same with this for a device that is taken. CPUs never are.
    #[must_use]
    pub fn when_busy(self, when_busy: WhenBusy) -> Self {
        match self.wish() {
            Some(wish) if when_busy != WhenBusy::Refuse => Self::Wish(Box::new(DeviceWish { when_busy, ..wish })),
            _ => self,
        }
    }

    /// What it does where a device is taken; `None` for CPUs, which never are.
    pub fn on_busy(&self) -> Option<WhenBusy> {
        self.wish().map(|wish| wish.when_busy)
    }

    /// How long it may wait in line, where it may and says so.
    pub fn queue_timeout(&self) -> Option<std::time::Duration> {
        match self.wish()?.when_busy {
            WhenBusy::Queue { timeout } => timeout,
            WhenBusy::Refuse => None,
        }
    }

    /// As constraints on GPUs; `None` for CPUs.
    pub(crate) fn wish(&self) -> Option<DeviceWish> {
        let gpus = match self {
            Self::AnyCpu | Self::Cpu(_) => return None,
            Self::Auto => vec![],
            Self::Gpus(list) => list.iter().copied().map(GpuName::Index).collect(),
            Self::GpuUuids(list) => list.iter().cloned().map(GpuName::Uuid).collect(),
            Self::Wish(wish) => return Some((**wish).clone()),
        };
        Some(DeviceWish { gpus, ..DeviceWish::default() })
    }

    /// From the command line: one name, several GPUs with commas between, or an object in JSON.
    pub fn parse_text(text: &str) -> Result<Self, InvalidDevice> {
        if text.trim_start().starts_with('{') {
            let invalid = |e: serde_json::Error| InvalidDevice { given: text.chars().take(120).collect(), why: e.to_string() };
            return Self::parse(&serde_json::from_str(text).map_err(invalid)?);
        }
        let parts: Vec<Value> = text.split(',').map(|p| Value::String(p.trim().to_owned())).collect();
        match parts.as_slice() {
            [one] => Self::parse(one),
            list => Self::parse(&Value::Array(list.to_vec())),
        }
    }
}

fn single(value: &Value) -> Option<DeviceSpec> {
    if let Some(number) = value.as_u64() {
        return index(&number.to_string()).map(|n| DeviceSpec::Gpus(vec![n]));
    }
    let text = value.as_str()?;
    match text {
        "auto" => return Some(DeviceSpec::Auto),
        "cpu" | "CPU" => return Some(DeviceSpec::AnyCpu),
        _ => {}
    }
    if let Some(node) = text.strip_prefix("CPU-") {
        return index(node).map(DeviceSpec::Cpu);
    }
    let name = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("cuda:")).unwrap_or(text);
    if let Some(n) = index(name) {
        return Some(DeviceSpec::Gpus(vec![n]));
    }
    let uuid = (text.starts_with("GPU-") && is_uuid(name)) || text.strip_prefix("MIG-").is_some_and(is_mig);
    uuid.then(|| DeviceSpec::GpuUuids(vec![text.to_owned()]))
}

/// A UUID of its own, or as drivers before 470 had it: `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`.
fn is_mig(name: &str) -> bool {
    let Some(old) = name.strip_prefix("GPU-") else { return is_uuid(name) };
    let parts: Vec<&str> = old.split('/').collect();
    matches!(parts.as_slice(), [uuid, gpu, compute] if is_uuid(uuid) && index(gpu).is_some() && index(compute).is_some())
}

/// Digits alone are an index, and one that is too large stays one.
fn is_uuid(name: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = name.as_bytes();
    (8..=76).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-')
        && bytes.iter().any(|b| !b.is_ascii_digit())
        && ends(bytes.first())
        && ends(bytes.last())
}

fn index(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().filter(|n| *n <= MAX_INDEX)
}

fn gpus(list: &[Value]) -> Option<DeviceSpec> {
    let (mut indices, mut uuids) = (Vec::new(), Vec::new());
    for value in list {
        match single(value)? {
            DeviceSpec::Gpus(one) => indices.extend(one),
            DeviceSpec::GpuUuids(one) => uuids.extend(one),
            // A list of one CPU says the same as the CPU itself.
            cpu @ (DeviceSpec::Cpu(_) | DeviceSpec::AnyCpu) if list.len() == 1 => return Some(cpu),
            _ => return None,
        }
    }
    let distinct =
        indices.iter().collect::<BTreeSet<_>>().len() + uuids.iter().map(|u| u.to_ascii_lowercase()).collect::<BTreeSet<_>>().len();
    match (indices.is_empty(), uuids.is_empty(), distinct == list.len()) {
        (false, true, true) => Some(DeviceSpec::Gpus(indices)),
        (true, false, true) => Some(DeviceSpec::GpuUuids(uuids)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_documented_spelling_is_understood() {
        let gpu = |n| Ok(DeviceSpec::Gpus(vec![n]));
        for value in [json!(0), json!("0"), json!("GPU-0"), json!("cuda:0"), json!([0]), json!(["GPU-0"]), json!(["cuda:0"])] {
            assert_eq!(DeviceSpec::parse(&value), gpu(0), "{value}");
        }
        assert_eq!(DeviceSpec::parse(&json!(["GPU-0", "GPU-1"])), Ok(DeviceSpec::Gpus(vec![0, 1])));
        assert_eq!(DeviceSpec::parse(&json!([1, 0])), Ok(DeviceSpec::Gpus(vec![1, 0])));
        assert_eq!(DeviceSpec::parse(&json!("CPU-0")), Ok(DeviceSpec::Cpu(0)));
        assert_eq!(DeviceSpec::parse(&json!("auto")), Ok(DeviceSpec::Auto));
        for (text, spec) in
            [("0", DeviceSpec::Gpus(vec![0])), ("cpu", DeviceSpec::AnyCpu), ("CPU-1", DeviceSpec::Cpu(1)), ("auto", DeviceSpec::Auto)]
        {
            assert_eq!(DeviceSpec::parse_text(text), Ok(spec));
        }
        assert_eq!(DeviceSpec::parse(&json!("cpu")), Ok(DeviceSpec::AnyCpu));
        assert_eq!(DeviceSpec::parse(&json!(null)), Ok(DeviceSpec::Auto));
        assert_eq!(DeviceSpec::parse_text("GPU-0,GPU-1"), Ok(DeviceSpec::Gpus(vec![0, 1])));
        let uuid = "GPU-5c0e3b1a-0000-4000-8000-000000000000";
        for uuid in [uuid, "MIG-5c0e3b1a-0000-4000-8000-00000000000a", "MIG-GPU-5c0e3b1a-0000-4000-8000-000000000000/1/0"] {
            assert_eq!(DeviceSpec::parse(&json!(uuid)), Ok(DeviceSpec::GpuUuids(vec![uuid.into()])));
        }
        let DeviceSpec::Wish(wish) = DeviceSpec::parse_text("{\"count\": 2}").unwrap() else { panic!("no constraints") };
        assert_eq!(wish.count, Some(2));
        assert!(DeviceSpec::parse_text("{\"count\": ").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for value in [
            json!(-1),
            json!(1.5),
            json!(99999),
            json!([]),
            json!([0, 0]),
            json!(["GPU-0", "CPU-0"]),
            json!("gpu"),
            json!("GPU-"),
            json!(true),
            json!({"gpu": 0}),
            json!({"count": 0}),
            json!("MIG-"),
            json!("MIG-GPU-5c0e3b1a-0000/1"),
            json!(["auto", 0]),
            json!(""),
            json!("CPU--1"),
            json!(4096),
            json!("GPU-99999999"),
            json!("GPU--------"),
            json!(u64::MAX),
            json!("cuda:-1"),
            json!([null]),
            json!([[0]]),
            json!([0, "GPU-00"]),
            json!([0, "GPU-5c0e3b1a-0000"]),
            json!("GPU-0,GPU-1"),
            json!("cuda:5c0e3b1a-0000"),
            json!(["GPU-5c0e3b1a-000a", "GPU-5C0E3B1A-000A"]),
            json!("GPU-+1"),
            json!("GPU- 1"),
            json!("\u{ff10}"),
            json!(["CPU-0", "CPU-1"]),
        ] {
            assert!(DeviceSpec::parse(&value).is_err(), "{value} was accepted");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..6).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "(GPU-|CPU-|cuda:|)([0-3]|[0-9a-f-]{0,40})|auto|cpu".prop_map(Value::from),
        ];
        let key = "count|share|ways|memory|gpus|exclude|min_memory|when_busy|linked|name";
        leaf.prop_recursive(2, 12, 4, move |inner| {
            let object = proptest::collection::btree_map(key, inner.clone(), 0..4).prop_map(|m| Value::Object(m.into_iter().collect()));
            prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::from), object]
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}|(GPU-|CPU-|cuda:|,|-|[0-9a-f]){0,20}") {
            let _ = DeviceSpec::parse_text(&text);
        }

        #[test]
        fn no_json_makes_it_panic_and_what_it_takes_has_no_duplicates(value in json_value()) {
            match DeviceSpec::parse(&value) {
                Ok(DeviceSpec::Gpus(list)) => {
                    prop_assert!(!list.is_empty() && list.iter().all(|n| *n <= MAX_INDEX));
                    prop_assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len());
                }
                Ok(DeviceSpec::GpuUuids(list)) => prop_assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len()),
                Ok(_) => {}
                Err(e) => prop_assert!(e.given.chars().count() <= 120),
            }
        }
    }
}
