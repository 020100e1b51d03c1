//! Where each word of a policy stands: the file and the line of every key and list entry, of the policy and of all that it includes.
//!
//! Owns the second reading of the texts, which keeps places. Must never know what a setting means: that is the first reading's.

mod scan;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Policy;

/// A place in a policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The file, as it was named when it was read.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One file's keys (`limits.memory_max`) and list entries (`filesystem.read_only[2]`) with their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layer {
    file: String,
    lines: BTreeMap<String, usize>,
}

impl Layer {
    fn at(&self, path: &str) -> Option<Origin> {
        self.lines.get(path).map(|line| Origin { file: self.file.clone(), line: *line })
    }
}

/// The places of everything that a policy says, its includes and its seccomp profile with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// What comes first wins, key by key.
    layers: Vec<Layer>,
    profile: Option<Layer>,
}

/// A policy and where each part of it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// The policy, as it is enforced.
    pub policy: Policy,
    /// Places.
    pub origins: Origins,
}

impl Origins {
    /// Adds a file below those that are there.
    pub(crate) fn add(&mut self, file: &str, text: &str) {
        self.layers.push(Layer { file: file.to_owned(), lines: scan::lines(text) });
    }

    /// Adds the seccomp profile.
    pub(crate) fn add_profile(&mut self, file: &str, text: &str) {
        self.profile = Some(Layer { file: file.to_owned(), lines: scan::lines(text) });
    }

    /// Where a setting's value comes from; `None` for a default.
    ///
    /// `path` is a key or an entry of a list. Files are put over one another by keys such as `limits.memory_max`: the first file that
    /// has the key has all of it.
    pub fn of(&self, path: &str) -> Option<Origin> {
        let layer = self.layers.iter().find(|layer| layer.lines.contains_key(unit(path)))?;
        parents(path).find_map(|path| layer.at(path))
    }

    /// The same in the policy's own file, whatever the files say that it includes.
    pub fn in_own_file(&self, path: &str) -> Option<Origin> {
        self.layers.first().and_then(|layer| layer.at(path))
    }

    /// Where a file that is included says a key that the policy's own file says, too.
    pub fn included(&self, path: &str) -> Option<Origin> {
        self.layers.iter().skip(1).find_map(|layer| layer.at(unit(path)))
    }

    /// An entry of the seccomp profile, such as `refuse[3]`.
    pub fn in_profile(&self, path: &str) -> Option<Origin> {
        self.profile.as_ref().and_then(|layer| layer.at(path))
    }

    /// Keys of the policy's own file that are replaced as a whole: `worker.command`, `limits.cpus`, and single entries of `include`.
    pub fn own_units(&self) -> impl Iterator<Item = &str> {
        let keys = self.layers.first().into_iter().flat_map(|layer| layer.lines.keys().map(String::as_str));
        keys.filter(|path| *path == unit(path) && (path.contains('.') || path.starts_with("include[") || *path == "description"))
    }

    /// Whether anything that this included file says is in force, and not said by a file before it.
    pub fn has_a_say(&self, file: &str) -> bool {
        let layers = self.layers.iter().skip(1).filter(|layer| layer.file == file);
        let mut keys = layers.flat_map(|layer| layer.lines.keys()).filter(|path| path.contains('.'));
        keys.any(|path| self.of(path).is_some_and(|origin| origin.file == file))
    }

    /// The name of the policy's own file.
    pub fn own_file(&self) -> &str {
        self.layers.first().map_or("", |layer| layer.file.as_str())
    }
}

/// The part of a path that an including file replaces as a whole: table and key.
fn unit(path: &str) -> &str {
    let second = path.match_indices('.').nth(1).map_or(path.len(), |(at, _)| at);
    let (unit, _) = path.split_at(second);
    match unit.find('[') {
        Some(at) if !unit.starts_with("include[") => &unit[..at],
        _ => unit,
    }
}

/// The path itself, then what it is part of, the nearest first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind(['.', '[']).map(|at| &path[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_has_a_key_has_all_of_it() {
        let mut origins = Origins::default();
        origins.add("a", "[environment]\nset = { A = \"1\" }\n[limits]\ncpus = 1.0\n");
        origins.add("b", "[environment]\nset = { B = \"2\" }\npass = [\"L\"]\n[limits]\ncpus = 2.0\npids_max = 3\n");
        let of = |path: &str| origins.of(path).map(|o| o.to_string());
        assert_eq!(of("environment.set.A").as_deref(), Some("a:2"));
        assert_eq!(of("environment.set.B").as_deref(), Some("a:2"), "it is not in force, and so not b's");
        assert_eq!(of("environment.pass[0]").as_deref(), Some("b:3"));
        assert_eq!(of("limits.cpus").as_deref(), Some("a:4"));
        assert_eq!(of("limits.pids_max").as_deref(), Some("b:6"));
        assert_eq!(of("limits.swap_max"), None);
        assert_eq!(origins.included("limits.cpus").map(|o| o.to_string()).as_deref(), Some("b:5"));
        assert_eq!(origins.own_units().collect::<Vec<_>>(), ["environment.set", "limits.cpus"]);
    }

    #[test]
    fn paths_know_what_they_are_part_of() {
        assert_eq!(unit("request.max.memory_max"), "request.max");
        assert_eq!(unit("filesystem.read_only[2]"), "filesystem.read_only");
        assert_eq!(unit("include[0]"), "include[0]");
        assert_eq!(parents("a.b[1]").collect::<Vec<_>>(), ["a.b[1]", "a.b", "a"]);
    }
}
