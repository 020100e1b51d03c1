//! From a profile's text to a [`SeccompProfile`], strictly: unknown calls, doubled entries and contradictions are errors.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Allow, Condition, Refuse, SeccompProfile, calls};
use crate::PolicyError;

/// What the launcher's own code does once the filter is loaded.
const NEEDED: [&str; 3] = ["execve", "exit_group", "sendmsg"];
/// Most values of one condition: each becomes some instructions of a filter, which has 4096 in all (BPF_MAXINSNS).
const MAX_VALUES: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    #[serde(default)]
    description: String,
    #[serde(default)]
    allow: Vec<Allow>,
    #[serde(default)]
    refuse: Vec<Refuse>,
}

impl SeccompProfile {
    /// Parses `text`, the file `source` of the profile `name`.
    ///
    /// Errors name file, line and key.
    pub fn parse(name: &str, source: &str, text: &str) -> Result<Self, PolicyError> {
        let raw: RawProfile = toml::from_str(text).map_err(|e| PolicyError::of_toml(source, text, &e))?;
        let profile = Self { name: name.to_owned(), description: raw.description, allow: raw.allow, refuse: raw.refuse };
        let wrong = |key: &str, word: &str, message: String| PolicyError::at_word(source, text, key, word, message);
        profile.check(&wrong)?;
        Ok(profile)
    }

    fn check(&self, wrong: &dyn Fn(&str, &str, String) -> PolicyError) -> Result<(), PolicyError> {
        let mut allowed = BTreeMap::new();
        for entry in &self.allow {
            check_entry("allow", &entry.calls, &entry.reason, wrong)?;
            for call in &entry.calls {
                if allowed.insert(call.as_str(), ()).is_some() {
                    return Err(wrong("allow", &quoted(call), format!("{call} is allowed twice")));
                }
            }
        }
        let mut refused = BTreeMap::new();
        for entry in &self.refuse {
            check_entry("refuse", &entry.calls, &entry.reason, wrong)?;
            for call in &entry.calls {
                let at = |message: String| wrong("refuse", &quoted(call), message);
                entry.when.iter().try_for_each(|c| c.check().map_err(at))?;
                match (entry.when.is_empty(), allowed.contains_key(call.as_str())) {
                    (true, true) => return Err(at(format!("{call} is allowed and refused; give `when`, or leave it out of one list"))),
                    (false, false) => return Err(at(format!("{call} is refused for some arguments, but not allowed for the others"))),
                    (true, false) if refused.insert(call.as_str(), ()).is_some() => return Err(at(format!("{call} is refused twice"))),
                    _ => {}
                }
            }
        }
        match NEEDED.iter().find(|call| !allowed.contains_key(**call)) {
            Some(call) => Err(wrong("allow", "[[allow]]", format!("{call} is missing: without it nothing can be started"))),
            None => Ok(()),
        }
    }
}

fn check_entry(key: &str, calls: &[String], reason: &str, wrong: &dyn Fn(&str, &str, String) -> PolicyError) -> Result<(), PolicyError> {
    let first = calls.first().map_or_else(|| format!("[[{key}]]"), |call| quoted(call));
    if calls.is_empty() {
        return Err(wrong(key, &first, "an entry without calls".into()));
    }
    if reason.trim().is_empty() {
        return Err(wrong(key, &first, "every entry has a reason".into()));
    }
    match calls.iter().find(|call| !calls::is_known(call)) {
        Some(call) => Err(wrong(key, &quoted(call), format!("{call:?} is no system call"))),
        None => Ok(()),
    }
}

fn quoted(call: &str) -> String {
    format!("\"{call}\"")
}

impl Condition {
    fn check(&self) -> Result<(), String> {
        if self.arg > 5 {
            return Err(format!("there is no argument {}: a call has the arguments 0 to 5", self.arg));
        }
        let forms = [!self.is.is_empty(), !self.is_not.is_empty(), self.any_bit.is_some()];
        if forms.iter().filter(|given| **given).count() != 1 {
            return Err("a condition has exactly one of is, is_not and any_bit".into());
        }
        if self.any_bit == Some(0) {
            return Err("any_bit is 0, and never met".into());
        }
        if self.mask.is_some() && self.is.is_empty() {
            return Err("a mask goes with `is`".into());
        }
        let values = self.is.len() + self.is_not.len();
        if values > MAX_VALUES {
            return Err(format!("{values} values in one condition, at most {MAX_VALUES} are taken"));
        }
        let outside = self.is.iter().find(|v| self.mask.is_some_and(|mask| **v & !mask != 0));
        match outside {
            Some(value) => Err(format!("{value:#x} has bits outside of its mask, and is never met")),
            None => Ok(()),
        }
    }
}
