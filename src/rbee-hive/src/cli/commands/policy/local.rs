//! Policies without a hive: files of the caller's, and those that are built in.
//!
//! Answers have the shape of a hive's. Must never know how they look.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rbee_hive_policy::check::{self, Level};
use rbee_hive_policy::exposure::exposure;
use rbee_hive_policy::{Policy, PolicyError, Traced, embedded, explain};
use serde_json::{Value, json};

use crate::cli::error::CliError;

/// Longest policy file read, bytes: the launcher's own bound.
const MAX_POLICY: u64 = 256 * 1024;
/// Where built-in policies say they come from.
const EMBEDDED: &str = "embedded";

/// A policy that was read here.
pub(super) struct Read {
    name: String,
    source: String,
    text: String,
    traced: Traced,
}

impl Read {
    /// As `policy_show` answers.
    pub(super) fn shown(&self) -> Result<Value, CliError> {
        Ok(json!({"name": self.name, "source": self.source, "text": self.text, "policy": self.traced.policy}))
    }

    /// As `policy_explain` answers.
    pub(super) fn explained(&self) -> Result<Value, CliError> {
        let (settings, score) = (explain::explain(&self.traced), exposure(&self.traced.policy, &[]));
        Ok(json!({"name": self.name, "source": self.source, "settings": settings, "exposure": score}))
    }

    /// As `policy_score` answers.
    pub(super) fn scored(&self) -> Result<Value, CliError> {
        let score = exposure(&self.traced.policy, &[]);
        Ok(json!({"name": self.name, "source": self.source, "score": score.score, "rating": score.rating, "points": score.points}))
    }
}

/// What a check found, and what was read for it.
pub(super) struct LocalCheck {
    /// The file's text.
    pub(super) text: String,
    /// What it includes that lies beside it, by name.
    pub(super) fragments: BTreeMap<String, String>,
    /// As `policy_check` answers.
    pub(super) answer: Result<Value, PolicyError>,
}

fn read_text(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::ReadFile { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_POLICY + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() as u64 > MAX_POLICY {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("a policy has at most {MAX_POLICY} bytes"))));
    }
    Ok(text)
}

/// Fragments are looked for beside the file, then among the built-in ones, as a hive does with its `--policies`.
fn fragment(path: &Path, name: &str) -> Option<String> {
    let directory = path.parent().unwrap_or(Path::new(""));
    read_text(&directory.join(format!("{name}.toml"))).ok()
}

fn built_in_fragment(name: &str) -> Option<String> {
    embedded::fragment(name).map(str::to_owned)
}

fn name_of(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reads a file.
pub(super) fn file(path: &Path) -> Result<Read, CliError> {
    let (text, name, source) = (read_text(path)?, name_of(path), path.display().to_string());
    let traced = Policy::trace(&name, &source, &text, &|name| fragment(path, name).or_else(|| built_in_fragment(name)))?;
    Ok(Read { name, source, text, traced })
}

/// Reads a built-in policy.
pub(super) fn built_in(name: &str) -> Result<Read, CliError> {
    let text =
        embedded::policy(name).ok_or_else(|| CliError::UnknownPolicy { name: name.to_owned(), known: embedded::names().collect() })?;
    let traced = Policy::trace(name, &format!("{name}.toml"), text, &built_in_fragment)?;
    Ok(Read { name: name.to_owned(), source: EMBEDDED.to_owned(), text: text.to_owned(), traced })
}

/// Checks a file.
pub(super) fn check(path: &Path) -> Result<LocalCheck, CliError> {
    let text = read_text(path)?;
    let beside = RefCell::new(BTreeMap::new());
    let fragment = |name: &str| match fragment(path, name) {
        Some(text) => {
            beside.borrow_mut().insert(name.to_owned(), text.clone());
            Some(text)
        }
        None => built_in_fragment(name),
    };
    let checked = check::check(&name_of(path), &path.display().to_string(), &text, &fragment);
    let answer = checked.map(|checked| {
        let valid = checked.is_clean_of(Level::Error);
        json!({"valid": valid, "findings": checked.findings, "resolved": checked.traced.policy})
    });
    Ok(LocalCheck { text, fragments: beside.into_inner(), answer })
}

/// As `policy_list` answers.
pub(super) fn built_in_list() -> Value {
    let infos = embedded::names().map(|name| {
        let (description, error) = match built_in(name) {
            Ok(read) => (read.traced.policy.description, None),
            Err(error) => (String::new(), Some(error.to_string())),
        };
        json!({"name": name, "description": description, "source": EMBEDDED, "error": error})
    });
    infos.collect()
}

#[cfg(test)]
mod tests {
    use rbee_hive_api::{PolicyExplanation, PolicyInfo, PolicyScore, PolicyText};

    use super::*;

    fn parse_file(path: &Path, text: &str) -> Result<Policy, CliError> {
        std::fs::write(path, text).unwrap();
        file(path).map(|read| read.traced.policy)
    }

    #[test]
    fn every_built_in_policy_is_valid_and_can_be_shown() {
        let list: Vec<PolicyInfo> = serde_json::from_value(built_in_list()).unwrap();
        assert!(list.iter().any(|p| p.name == "default"));
        for info in list {
            assert_eq!(info.error, None, "{}", info.name);
            let read = built_in(&info.name).unwrap();
            let shown: PolicyText = serde_json::from_value(read.shown().unwrap()).unwrap();
            assert!(shown.text.contains("[worker]") && shown.policy.is_object(), "{}", info.name);
            let explained: PolicyExplanation = serde_json::from_value(read.explained().unwrap()).unwrap();
            assert!(explained.settings.iter().any(|s| s.from.starts_with(&format!("{}.toml:", info.name))), "{explained:#?}");
            let scored: PolicyScore = serde_json::from_value(read.scored().unwrap()).unwrap();
            assert_eq!(scored.exposure, explained.exposure);
        }
    }

    #[test]
    fn an_unknown_policy_names_the_known_ones() {
        assert!(built_in("nope").err().unwrap().to_string().contains("default"));
    }

    #[test]
    fn a_typo_is_told_with_file_line_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let text = "[worker]\nbinary = \"x\"\n\n[limits]\nmemroy_max = \"2GiB\"\n";
        let error = parse_file(&path, text).unwrap_err().to_string();
        assert!(error.contains("mine.toml:5") && error.contains("memroy_max"), "{error}");
        assert_eq!(check(&path).unwrap().answer.unwrap_err().to_string(), error);
    }

    #[test]
    fn fragments_lie_beside_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("fragments")).unwrap();
        std::fs::write(dir.path().join("fragments/own.toml"), "[limits]\npids_max = 7\n").unwrap();
        let path = dir.path().join("mine.toml");
        let text = "include = [\"fragments/own\"]\n[worker]\nbinary = \"x\"\n";
        let policy = parse_file(&path, text).unwrap();
        assert_eq!(policy.limits[&rbee_hive_policy::LimitKey::PidsMax].value.count(), Some(7));
        let checked = check(&path).unwrap();
        assert_eq!(checked.fragments.keys().collect::<Vec<_>>(), ["fragments/own"], "the seccomp profile is built in");
        std::fs::remove_file(dir.path().join("fragments/own.toml")).unwrap();
        assert!(parse_file(&path, text).is_err());
    }

    #[test]
    fn a_file_beyond_the_bound_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#".repeat(MAX_POLICY as usize + 1)).unwrap();
        assert!(matches!(read_text(file.path()), Err(CliError::ReadFile { .. })));
    }
}
