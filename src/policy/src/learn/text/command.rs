//! The command line as a template.

use super::super::Watched;
use crate::compile::takes_no_part;

/// Words, and what is to be said about them.
pub(super) struct Command {
    pub(super) words: Vec<String>,
    pub(super) note: &'static str,
    /// Whether a word of it is the port.
    pub(super) port: bool,
}

impl Command {
    pub(super) fn of(watched: &Watched<'_>, port: Option<u16>) -> Self {
        let mut words = watched.command.to_vec();
        if words.iter().any(|word| !takes_no_part(word)) {
            let words = vec!["{binary}".to_owned(), "{args}".to_owned()];
            return Self { words, note: "its own words look like placeholders, so a request gives them", port: false };
        }
        let Some(port) = port else { return Self { words, note: "", port: false } };
        let number = port.to_string();
        let names = |word: &&mut String| **word == number || word.ends_with(&format!(":{number}")) || word.ends_with(&format!("={number}"));
        let mut found: Vec<&mut String> = words.iter_mut().filter(names).collect();
        let [one] = found.as_mut_slice() else { return Self { words, note: "", port: false } };
        let before = one.len() - number.len();
        one.replace_range(before.., "{port}");
        Self { words, note: "the port that it bound while learning is the hive's to choose", port: true }
    }
}
