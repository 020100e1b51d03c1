//! Limits by name, of a spawn or an update.

use std::collections::BTreeMap;

use rbee_hive_policy::{LimitKey, LimitValue};
use serde_json::Value;

use super::{Fields, Refusal};

/// Schema of `limits`.
pub(crate) const LIMITS: &str = r#"{"type":"object","additionalProperties":{"type":["integer","number","string"]}}"#;

/// Takes `limits` out; every refusal names the limit.
pub(crate) fn parse_limits(fields: &mut Fields) -> Result<BTreeMap<LimitKey, LimitValue>, Refusal> {
    let given: BTreeMap<String, Value> = fields.take("limits")?.unwrap_or_default();
    let mut limits = BTreeMap::new();
    for (name, value) in given {
        let field = format!("limits.{name}");
        let key = LimitKey::from_name(&name).map_err(|e| Refusal::params(&field, e.to_string()))?;
        let value = key.parse_value(&value).map_err(|e| Refusal::params(&field, e.to_string()))?;
        limits.insert(key, value);
    }
    Ok(limits)
}
