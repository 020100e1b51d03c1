//! From single paths to a short list of what is shown: a file by itself, a directory where much of it was used or its entries were listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::observations::{Gap, Kind, Programs, SeenFile, Use};
use super::{WatchPlan, Watched};
use crate::file::ListedPath;

/// From so many entries on a directory is shown as a whole.
const MANY: usize = 12;
/// Longest list: each entry is a mount of every start.
const LONGEST: usize = 64;

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) paths: Vec<ShownPath>,
    /// Of the base's `binary_dirs`.
    pub(super) binary_dirs: Vec<PathBuf>,
    /// Of the base's `library_dirs`.
    pub(super) library_dirs: Vec<PathBuf>,
}

/// One path of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShownPath {
    pub(super) listed: ListedPath,
    pub(super) writable: bool,
    pub(super) reason: String,
}

/// What the base shows of the host.
struct Base {
    /// Binds, and whether they are writable.
    roots: BTreeMap<PathBuf, bool>,
    links: BTreeSet<PathBuf>,
    optional: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    acts: BTreeSet<&'static str>,
    by: Programs,
    whole: bool,
}

pub(super) fn shown(watched: &Watched<'_>, watch: &WatchPlan) -> Shown {
    let base = Base::of(watched, watch);
    let worker = &watch.base.worker;
    let used = |dirs: &[PathBuf]| -> Vec<PathBuf> {
        dirs.iter().filter(|d| watched.seen.files.keys().any(|f| f.starts_with(d))).cloned().collect()
    };
    let (binary_dirs, library_dirs) = (used(&worker.binary_dirs), used(&worker.library_dirs));
    if watch.base.filesystem.root.is_some() {
        let reason = "beside a root of its own, so this is the base's";
        return Shown {
            paths: everything(watch, reason),
            binary_dirs: worker.binary_dirs.clone(),
            library_dirs: worker.library_dirs.clone(),
        };
    }
    if [Gap::Words, Gap::Ways, Gap::Paths].iter().any(|gap| watched.seen.gaps.contains(gap)) {
        let reason = "not every path could be seen while learning, so this is the base's own";
        return Shown {
            paths: everything(watch, reason),
            binary_dirs: worker.binary_dirs.clone(),
            library_dirs: worker.library_dirs.clone(),
        };
    }
    let mut entries = BTreeMap::new();
    let mut looked_at = Vec::new();
    for (path, file) in watched.seen.files.iter().filter(|(path, _)| is_plain(path)) {
        if binary_dirs.iter().chain(&library_dirs).any(|d| path.starts_with(d)) {
            continue;
        }
        match base.root_of(path) {
            // A rename between two mounts fails, so what is written in is shown as it was.
            Some((root, true)) if base.is_written(root, &watched.seen.files) => add(&mut entries, root, file),
            Some(_) if file.kind == Kind::Directory && !file.uses.contains(&Use::List) => looked_at.push((path, file)),
            Some(_) => add(&mut entries, path, file),
            None if base.links.contains(path) => add(&mut entries, path, file),
            None => {}
        }
    }
    // A directory that was only looked at must be there; it is, where something below it is shown.
    for (path, file) in looked_at {
        let next = entries.range(path.clone()..).next();
        if next.is_none_or(|(other, _)| !other.starts_with(path)) {
            add(&mut entries, path, file);
        }
    }
    drop_covered(&mut entries);
    gather(&mut entries, &base);
    let paths = entries.iter().map(|(path, entry)| base.show(path, entry, &watched.seen.files)).collect();
    Shown { paths, binary_dirs, library_dirs }
}

/// As whoever watches writes them. Another would be found below a bind and lead out of it.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

fn everything(watch: &WatchPlan, reason: &str) -> Vec<ShownPath> {
    let files = &watch.base.filesystem;
    let all = files.read_only.iter().map(|p| (p, false)).chain(files.read_write.iter().map(|p| (p, true)));
    all.map(|(listed, writable)| ShownPath { listed: listed.clone(), writable, reason: reason.into() }).collect()
}

fn add(entries: &mut BTreeMap<PathBuf, Entry>, path: &Path, file: &SeenFile) {
    let entry = entries.entry(path.to_owned()).or_default();
    entry.whole |= file.kind == Kind::Directory;
    entry.acts.extend(file.uses.iter().map(|u| act(*u)));
    entry.by.extend(&file.by);
}

fn act(what: Use) -> &'static str {
    match what {
        Use::Look => "looked at",
        Use::Read => "opened",
        Use::Write => "written",
        Use::Execute => "executed",
        Use::List => "listed",
    }
}

/// What lies below a directory that is shown as a whole is shown with it.
fn drop_covered(entries: &mut BTreeMap<PathBuf, Entry>) {
    let whole: Vec<PathBuf> = entries.iter().filter(|(_, e)| e.whole).map(|(p, _)| p.clone()).collect();
    for directory in whole {
        swallow(entries, &directory);
    }
}

/// Shows `directory` instead of all that is below it.
fn swallow(entries: &mut BTreeMap<PathBuf, Entry>, directory: &Path) {
    // Paths are in order by their parts: what is below a directory follows it.
    let rest = entries.range(directory.to_owned()..);
    let below: Vec<PathBuf> = rest.map(|(path, _)| path).take_while(|p| p.starts_with(directory)).cloned().collect();
    let mut all = Entry { whole: true, ..Entry::default() };
    for entry in below.iter().filter_map(|path| entries.remove(path)) {
        all.acts.extend(entry.acts);
        all.by.extend(&entry.by);
    }
    if !below.is_empty() {
        entries.insert(directory.to_owned(), all);
    }
}

/// Shows directories as wholes while one has many entries, or the list is too long.
fn gather(entries: &mut BTreeMap<PathBuf, Entry>, base: &Base) {
    loop {
        let mut full: BTreeMap<&Path, usize> = BTreeMap::new();
        for parent in entries.keys().filter_map(|p| p.parent()).filter(|p| base.root_of(p).is_some()) {
            *full.entry(parent).or_default() += 1;
        }
        let rank = |(path, count): (&Path, usize)| (count, path.components().count());
        let Some(highest) = full.iter().map(|(path, count)| rank((path, *count))).max() else { return };
        if highest.0 < MANY && entries.len() <= LONGEST {
            return;
        }
        let fullest: Vec<PathBuf> = full.iter().filter(|(p, c)| rank((p, **c)) == highest).map(|(p, _)| p.to_path_buf()).collect();
        for directory in fullest {
            swallow(entries, &directory);
        }
    }
}

impl Base {
    fn of(watched: &Watched<'_>, watch: &WatchPlan) -> Self {
        let files = &watch.base.filesystem;
        let optional = files.read_only.iter().chain(&files.read_write).filter(|p| p.optional).map(|p| p.path.clone()).collect();
        let roots = watched.plan.binds.iter().map(|b| (b.target.clone(), b.writable)).collect();
        Self { roots, links: watched.plan.symlinks.keys().cloned().collect(), optional }
    }

    /// The bind that `path` is in.
    fn root_of(&self, path: &Path) -> Option<(&Path, bool)> {
        path.ancestors().find_map(|above| self.roots.get_key_value(above)).map(|(root, writable)| (root.as_path(), *writable))
    }

    fn is_written(&self, root: &Path, files: &BTreeMap<PathBuf, SeenFile>) -> bool {
        let inside = |path: &Path| self.root_of(path).is_some_and(|(r, _)| r == root);
        files.iter().any(|(path, file)| file.uses.contains(&Use::Write) && inside(path))
    }

    fn show(&self, path: &Path, entry: &Entry, files: &BTreeMap<PathBuf, SeenFile>) -> ShownPath {
        let writable = self.roots.get(path) == Some(&true) && self.is_written(path, files);
        let acts: Vec<&str> = entry.acts.iter().copied().collect();
        ShownPath {
            listed: ListedPath { path: path.to_owned(), optional: self.optional.contains(path) },
            writable,
            reason: format!("{} by {} while learning", acts.join(", "), entry.by),
        }
    }
}
