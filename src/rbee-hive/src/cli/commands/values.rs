//! Values on the command line that become JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::error::CliError;

/// A text that is no pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not of the form KEY=VALUE")]
pub(super) struct NoPair;

/// Splits `KEY=VALUE` at the first `=`.
pub(super) fn pair(text: &str) -> Result<(String, String), NoPair> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(NoPair),
    }
}

/// Limits by name, each once.
///
/// Errors: `Usage`.
pub(super) fn limits(pairs: &[(String, String)]) -> Result<BTreeMap<String, Value>, CliError> {
    let mut limits = BTreeMap::new();
    for (key, value) in pairs {
        if limits.insert(key.clone(), limit(value)).is_some() {
            return Err(CliError::Usage(format!("--limit {key} is given twice")));
        }
    }
    Ok(limits)
}

/// A limit's value: a number where it is one, else the text with its unit. Which limits there are is the hive's to say.
fn limit(text: &str) -> Value {
    let text = text.trim();
    if let Ok(whole) = text.parse::<u64>() {
        return json!(whole);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => json!(number),
        _ => json!(text),
    }
}

/// A device: `0` is an index, `GPU-0,GPU-1` a list, what begins with a brace an object, anything else a name.
pub(super) fn device(text: &str) -> Value {
    // One that can't be read is a name that the hive refuses, with its own words.
    if let Some(object) = text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten() {
        return object;
    }
    if let Ok(index) = text.parse::<u32>() {
        return json!(index);
    }
    if text.contains(',') { json!(text.split(',').map(str::trim).collect::<Vec<_>>()) } else { json!(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_split_at_its_first_sign() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert_eq!((pair("A"), pair("=b")), (Err(NoPair), Err(NoPair)));
    }

    #[test]
    fn limits_are_numbers_or_texts_with_units() {
        assert_eq!(limit("64"), json!(64));
        assert_eq!(limit("1.5"), json!(1.5));
        for text in ["64MiB", "max", "0-3,8", "-1x", "inf"] {
            assert_eq!(limit(text), json!(text));
        }
    }

    #[test]
    fn a_limit_is_given_once() {
        let pairs = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect::<Vec<_>>();
        assert_eq!(limits(&pairs(&["cpus", "pids_max"])).unwrap().len(), 2);
        let refused = limits(&pairs(&["pids_max", "cpus", "pids_max"])).unwrap_err();
        assert!(matches!(refused, CliError::Usage(text) if text == "--limit pids_max is given twice"));
    }

    #[test]
    fn devices_are_spelled_as_the_contract_has_them() {
        assert_eq!(device("0"), json!(0));
        assert_eq!(device("cuda:0"), json!("cuda:0"));
        assert_eq!(device("GPU-0, GPU-1"), json!(["GPU-0", "GPU-1"]));
    }
}
