//! What files held before they were written.

use std::path::{Path, PathBuf};

use rbee_hive_policy::{LimitKey, LimitValue};

use super::super::detect::Version;
use super::super::error::CgroupError;
use super::super::{interface, named, protection};

#[derive(Debug)]
enum Before {
    Text { path: PathBuf, text: String },
    Named { key: LimitKey, version: Version, dir: PathBuf, text: String },
    Sum { dir: PathBuf },
}

/// Old texts, in the order in which they were overwritten.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<Before>);

impl Journal {
    /// Keeps what a file holds.
    pub(super) fn keep(&mut self, path: &Path) -> Result<(), CgroupError> {
        let text = interface::read(path)?;
        self.add(path, first_line(&text));
        Ok(())
    }

    /// A text to be put back, whatever the file holds now.
    pub(super) fn add(&mut self, path: &Path, text: &str) {
        self.0.push(Before::Text { path: path.to_owned(), text: text.to_owned() });
    }

    /// A group whose protection is the sum of its children's, some of which are other hives': it is added up again.
    pub(super) fn add_sum(&mut self, dir: PathBuf) {
        self.0.push(Before::Sum { dir });
    }

    /// Keeps the bounds of a limit by name.
    pub(super) fn keep_named(&mut self, key: LimitKey, version: Version, dir: &Path) -> Result<(), CgroupError> {
        let text = named::seen(key, version, dir)?;
        self.0.push(Before::Named { key, version, dir: dir.to_owned(), text });
        Ok(())
    }

    /// The text that a file held first.
    pub(super) fn first(&self, file: &Path) -> Option<&str> {
        self.0.iter().find_map(|before| match before {
            Before::Text { path, text } if path == file => Some(text.as_str()),
            _ => None,
        })
    }

    /// Writes every old text, the last one first: each state on the way back was one on the way here. A line for each that fails.
    pub(super) fn put_back(self) -> Vec<String> {
        let back = |before| match before {
            Before::Text { path, text } => put_text(&path, &text).map_err(|e| describe(&path, &e)),
            Before::Named { key, version, dir, text } => {
                let value = if text.is_empty() { LimitValue::max() } else { LimitValue::Text(text) };
                named::put(key, version, (&dir, &value)).map_err(|e| describe(&dir.join(key.name()), &e))
            }
            Before::Sum { dir } => protection::shared_sum(&dir).map_err(|e| describe(&dir.join(protection::LOW), &e)),
        };
        self.0.into_iter().rev().filter_map(|before| back(before).err()).collect()
    }
}

fn put_text(path: &Path, text: &str) -> Result<(), CgroupError> {
    // A cpuset that was never set holds nothing; a write without a byte would never reach the kernel.
    interface::write(path, if text.is_empty() { "\n" } else { text })
}

fn describe(path: &Path, error: &CgroupError) -> String {
    let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    format!("{} could not be put back: {why}", path.display())
}

/// Of a weight, the group's own; lines for single devices come after it and are not ours.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_text_comes_back_last_whatever_was_written_meanwhile() {
        let t = tempfile::tempdir().unwrap();
        let file = t.path().join("memory.max");
        fs::write(&file, "100").unwrap();
        let mut journal = Journal::default();
        journal.keep(&file).unwrap();
        fs::write(&file, "200").unwrap();
        journal.keep(&file).unwrap();
        fs::write(&file, "300").unwrap();
        assert_eq!(journal.first(&file), Some("100"));
        assert_eq!(journal.put_back(), Vec::<String>::new());
        assert_eq!(fs::read_to_string(&file).unwrap(), "100");
    }

    #[test]
    fn what_does_not_come_back_is_named() {
        let mut journal = Journal::default();
        journal.add(Path::new("/nowhere/pids.max"), "5");
        assert!(journal.put_back()[0].starts_with("/nowhere/pids.max could not be put back"));
    }
}
