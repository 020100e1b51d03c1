//! A request's parameters by name, checked against the list of known ones.
//!
//! Every refusal names the parameter. `null` counts as absent.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use rbee_hive_policy::WorkerId;

use super::Refusal;

/// Whether a parameter may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Must be given.
    Required,
    /// May be absent.
    Optional,
}

/// One parameter of a method, in its position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether it may be absent.
    pub(crate) need: Need,
    /// JSON Schema, as text.
    pub(crate) schema: &'static str,
}

impl Param {
    /// A parameter that must be given.
    pub(crate) const fn required(name: &'static str, schema: &'static str) -> Self {
        Self { name, need: Need::Required, schema }
    }

    /// A parameter that may be absent.
    pub(crate) const fn optional(name: &'static str, schema: &'static str) -> Self {
        Self { name, need: Need::Optional, schema }
    }
}

/// Parameters that are all known and of which none that is required is missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    values: Map<String, Value>,
}

impl Fields {
    /// Checks `given` (an object, an array in the order of `known`, or nothing) against `known`.
    pub(crate) fn check(given: Option<Value>, known: &[Param]) -> Result<Self, Refusal> {
        let mut values = match given {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(values)) => values,
            Some(Value::Array(list)) => by_position(list, known)?,
            Some(other) => return Err(Refusal::params("params", format!("must be an object or an array, not {other}"))),
        };
        values.retain(|_, value| !value.is_null());
        if let Some(name) = values.keys().find(|name| known.iter().all(|p| p.name != **name)) {
            let names: Vec<_> = known.iter().map(|p| p.name).collect();
            return Err(Refusal::params(name, format!("unknown field, known are: {}", names.join(", "))));
        }
        if let Some(missing) = known.iter().find(|p| p.need == Need::Required && !values.contains_key(p.name)) {
            return Err(Refusal::params(missing.name, "missing"));
        }
        Ok(Self { values })
    }

    /// Takes a parameter out, if it was given.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(value) = self.values.remove(name) else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|e| Refusal::params(name, e.to_string()))
    }

    /// Takes a parameter out that must be there.
    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Refusal> {
        self.take(name)?.ok_or_else(|| Refusal::params(name, "missing"))
    }

    /// The worker's name from `name`.
    pub(crate) fn worker_id(&mut self, name: &str) -> Result<WorkerId, Refusal> {
        let text: String = self.need(name)?;
        WorkerId::parse(&text).map_err(|e| Refusal::params(name, e.to_string()))
    }

    /// The worker's name from `name`, if it was given.
    pub(crate) fn optional_worker_id(&mut self, name: &str) -> Result<Option<WorkerId>, Refusal> {
        let text: Option<String> = self.take(name)?;
        text.map(|t| WorkerId::parse(&t).map_err(|e| Refusal::params(name, e.to_string()))).transpose()
    }
}

fn by_position(list: Vec<Value>, known: &[Param]) -> Result<Map<String, Value>, Refusal> {
    if list.len() > known.len() {
        return Err(Refusal::params("params", format!("{} given by position, at most {} known", list.len(), known.len())));
    }
    Ok(known.iter().map(|p| p.name.to_owned()).zip(list).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KNOWN: &[Param] = &[Param::required("worker_id", "{}"), Param::optional("grace_ms", "{}")];

    fn message(given: Value) -> String {
        Fields::check(Some(given), KNOWN).unwrap_err().to_string()
    }

    #[test]
    fn parameters_come_by_name_or_by_position() {
        for given in [json!({"worker_id": "a", "grace_ms": 5}), json!(["a", 5])] {
            let mut fields = Fields::check(Some(given), KNOWN).unwrap();
            assert_eq!(fields.worker_id("worker_id").unwrap().as_str(), "a");
            assert_eq!(fields.take::<u64>("grace_ms").unwrap(), Some(5));
        }
    }

    #[test]
    fn every_refusal_names_its_field() {
        assert!(message(json!({"worker_id": "a", "grace": 1})).starts_with("grace: unknown field"));
        assert!(message(json!({})).starts_with("worker_id: missing"));
        assert!(message(json!(["a", 1, 2])).starts_with("params: "));
        assert!(message(json!("text")).starts_with("params: "));
        let mut fields = Fields::check(Some(json!(["a/b", -1])), KNOWN).unwrap();
        assert!(fields.worker_id("worker_id").unwrap_err().to_string().starts_with("worker_id: "));
        assert!(fields.take::<u64>("grace_ms").unwrap_err().to_string().starts_with("grace_ms: "));
    }

    #[test]
    fn null_counts_as_absent() {
        let mut fields = Fields::check(Some(json!({"worker_id": "a", "grace_ms": null})), KNOWN).unwrap();
        assert_eq!(fields.take::<u64>("grace_ms").unwrap(), None);
        assert!(message(json!({"worker_id": null})).starts_with("worker_id: missing"));
    }
}
