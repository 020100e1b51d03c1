//! JSON that comes from outside. Each name stands once in its object: RFC 8259 leaves open which of two counts, and serde takes the last one
//! without a word.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Longest part of a name that an error repeats, characters.
const SHOWN: usize = 64;

/// Why a text is no value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// It is not JSON.
    #[error("is not JSON: {0}")]
    Malformed(#[source] serde_json::Error),
    /// An object has two members of one name.
    #[error("{0}; leave one of them out")]
    Twice(String),
}

/// Reads one value.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let value = serde_json::from_slice(bytes).map_err(JsonError::Malformed)?;
    // What is JSON can fail only at a name that was there before.
    match serde_json::from_slice::<NamesOnce>(bytes) {
        Ok(NamesOnce) => Ok(value),
        Err(e) => Err(JsonError::Twice(e.to_string())),
    }
}

/// A value without two members of one name in any of its objects.
struct NamesOnce;

impl<'de> Deserialize<'de> for NamesOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = NamesOnce;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamesOnce, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<NamesOnce>()?;
            if let Some(name) = seen.replace(name) {
                let shown: String = name.chars().take(SHOWN).collect();
                return Err(A::Error::custom(format!("{shown:?} is given twice")));
            }
        }
        Ok(NamesOnce)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NamesOnce, A::Error> {
        while list.next_element::<NamesOnce>()?.is_some() {}
        Ok(NamesOnce)
    }

    fn visit_unit<E>(self) -> Result<NamesOnce, E> {
        Ok(NamesOnce)
    }

    fn visit_bool<E>(self, _: bool) -> Result<NamesOnce, E> {
        Ok(NamesOnce)
    }

    fn visit_i64<E>(self, _: i64) -> Result<NamesOnce, E> {
        Ok(NamesOnce)
    }

    fn visit_u64<E>(self, _: u64) -> Result<NamesOnce, E> {
        Ok(NamesOnce)
    }

    fn visit_f64<E>(self, _: f64) -> Result<NamesOnce, E> {
        Ok(NamesOnce)
    }

    fn visit_str<E>(self, _: &str) -> Result<NamesOnce, E> {
        Ok(NamesOnce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_given_twice_is_named() {
        for (text, name) in [
            (r#"{"limits": {"pids_max": 5, "cpus": 1.5, "pids_max": 50}}"#, "pids_max"),
            (r#"[{"a": 1}, {"a": [{"b": null, "b": null}]}]"#, "b"),
            (r#"{"a": 1, "\u0061": 2}"#, "a"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("\"{name}\" is given twice")), "{error}");
        }
        let fine = br#"{"a": {"a": [1, -2, 1.5, "x", true, null, {"a": 1}, {"a": 1}]}, "b": 1}"#;
        assert!(parse(fine).is_ok());
        assert!(matches!(parse(b"{"), Err(JsonError::Malformed(_))));
    }

    #[test]
    fn what_serde_reads_is_read_alike_and_no_part_of_a_text_panics() {
        let text = r#"{"a": [-1, 1.5e3, "\u00e4\"", {"b": {}}, [], false], "b": {"a": null}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        for end in 0..text.len() {
            assert!(matches!(parse(&text.as_bytes()[..end]), Err(JsonError::Malformed(_))), "{end}");
        }
    }
}
