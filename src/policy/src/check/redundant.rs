//! Keys that change nothing: the policy is the same without them, because an included file says it, or because it is the default.
//!
//! Found by parsing the text once more without each key, so that there is no second list of defaults.

use toml::{Table, Value};

use super::{Findings, Level};
use crate::{Policy, PolicyError};

/// Most keys that are tried: each is a parse, and a policy has far fewer.
const MAX_KEYS: usize = 256;

pub(super) fn look(findings: &mut Findings<'_>, text: &str, parse: &dyn Fn(&str) -> Result<Policy, PolicyError>) {
    let Ok(table) = text.parse::<Table>() else { return };
    let origins = &findings.traced.origins;
    let keys: Vec<String> = origins.own_units().take(MAX_KEYS).map(str::to_owned).collect();
    for key in keys {
        let Some(without) = remove(&table, &key) else { continue };
        let same = toml::to_string(&without).ok().and_then(|text| parse(&text).ok()).is_some_and(|policy| policy == *findings.policy());
        if !same {
            continue;
        }
        let (level, message) = match (included_file(&table, &key), findings.traced.origins.included(&key)) {
            (Some(file), _) if findings.traced.origins.has_a_say(&file) => {
                (Level::Note, format!("all that is in force of {file} is what a policy has without it"))
            }
            (Some(file), _) => (Level::Warning, format!("nothing of {file} is in force: this file says all of it, too; remove it")),
            (None, Some(place)) => (Level::Warning, format!("{place} says the same; remove one of the two")),
            (None, None) => (Level::Note, "is what a policy without the key has, too".to_owned()),
        };
        let Some(origin) = findings.traced.origins.in_own_file(&key) else { continue };
        let key = key.split('[').next().unwrap_or_default().to_owned();
        findings.found.push(super::Finding { level, file: origin.file, line: Some(origin.line), key, message });
    }
}

fn include_index(path: &str) -> Option<usize> {
    path.strip_prefix("include[")?.strip_suffix(']')?.parse().ok()
}

/// The file that an entry of `include` names.
fn included_file(table: &Table, path: &str) -> Option<String> {
    let name = table.get("include")?.get(include_index(path)?)?.as_str()?;
    Some(format!("{name}.toml"))
}

/// The table without one key, or without one entry of `include`.
fn remove(table: &Table, path: &str) -> Option<Table> {
    let mut table = table.clone();
    if let Some(index) = include_index(path) {
        match table.get_mut("include")? {
            Value::Array(list) if index < list.len() => drop(list.remove(index)),
            _ => return None,
        }
        return Some(table);
    }
    match path.split_once('.') {
        None => table.remove(path).map(|_| table),
        Some((section, key)) => match table.get_mut(section)? {
            Value::Table(inner) => inner.remove(key).map(|_| table),
            _ => None,
        },
    }
}
