//! What was seen so far, within bounds.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rbee_hive_policy::SandboxPlan;
use rbee_hive_policy::learn::{Gap, Kind, Observations, Programs, SeenFile, Target, Use};
use rbee_hive_sys::seccomp::Notified;

use super::walk::{Found, Walked};
use super::words;

/// Most paths that are kept, and bytes of them.
const MAX_PATHS: usize = 4096;
const MAX_BYTES: usize = 1 << 20;
/// Most paths of those that were asked for in vain: they are only told.
const MAX_VAIN: usize = 256;
/// Longest of them, bytes.
const MAX_VAIN_LENGTH: usize = 256;
/// Most ports and targets.
const MAX_ADDRESSES: usize = 64;
/// Most of what is remembered only to be quicker; forgotten when it is full.
const MAX_REMEMBERED: usize = 8192;

/// The notes of one worker.
pub(super) struct Notes {
    seen: Observations,
    bytes: usize,
    /// What is shown of the host: only that can be left out.
    shown: Vec<PathBuf>,
    names: HashMap<u32, String>,
    calls: HashSet<(i32, u32)>,
    paths: HashSet<(PathBuf, Use, bool, String)>,
}

impl Notes {
    pub(super) fn new(plan: &SandboxPlan) -> Self {
        let shown =
            plan.binds.iter().map(|b| b.target.clone()).chain(plan.symlinks.keys().cloned()).chain([PathBuf::from("/dev")]).collect();
        Self { seen: Observations::default(), bytes: 0, shown, names: HashMap::new(), calls: HashSet::new(), paths: HashSet::new() }
    }

    /// The name of the program that makes a call.
    pub(super) fn program(&mut self, notified: &Notified, name: Option<&str>) -> String {
        let tid = notified.tid;
        let by = match self.names.get(&tid) {
            Some(name) => name.clone(),
            None => {
                let name = words::program_name(tid).unwrap_or_default();
                if self.names.len() >= MAX_REMEMBERED {
                    self.names.clear();
                }
                self.names.insert(tid, name.clone());
                name
            }
        };
        // These change the name, or end who has the number.
        if let Some("execve" | "execveat" | "exit" | "exit_group" | "prctl") = name {
            self.names.remove(&tid);
            self.calls.retain(|(_, other)| *other != tid);
        }
        by
    }

    pub(super) fn call(&mut self, notified: &Notified, name: Option<&str>, by: &str) {
        if self.calls.len() >= MAX_REMEMBERED {
            self.calls.clear();
        }
        if self.calls.insert((notified.number, notified.tid)) {
            let name = name.map_or_else(|| notified.number.to_string(), str::to_owned);
            self.seen.calls.entry(name).or_default().add(by);
        }
    }

    /// Whether the same was found there before.
    pub(super) fn knows(&self, path: &Path, (what, follow): (Use, bool), by: &str) -> bool {
        self.paths.contains(&(path.to_owned(), what, follow, by.to_owned()))
    }

    /// Remembers that it was found: what is not there now may be there later.
    pub(super) fn remember(&mut self, path: PathBuf, (what, follow): (Use, bool), by: &str) {
        if self.paths.len() >= MAX_REMEMBERED {
            self.paths.clear();
        }
        self.paths.insert((path, what, follow, by.to_owned()));
    }

    pub(super) fn walked(&mut self, walked: Walked, what: Use, by: &str) {
        for link in &walked.links {
            self.file(link, Kind::Link, Use::Look, by);
        }
        match walked.found {
            Found::There { path, kind } => self.file(&path, kind, what, by),
            Found::Absent { directory, .. } if what == Use::Write && !directory.as_os_str().is_empty() => {
                self.file(&directory, Kind::Directory, what, by);
            }
            Found::Absent { path, .. } => self.vain(path, |seen| &mut seen.missing),
            Found::Refused { path } => self.vain(path, |seen| &mut seen.refused),
            Found::Nowhere => {}
        }
    }

    fn vain(&mut self, path: PathBuf, list: fn(&mut Observations) -> &mut std::collections::BTreeSet<PathBuf>) {
        let list = list(&mut self.seen);
        if path.as_os_str().len() > MAX_VAIN_LENGTH {
            return;
        }
        let made_here = ["/proc", "/sys", "/tmp", "/dev/shm", "/run/worker"].iter().any(|p| path.starts_with(p));
        if !made_here && path.to_str().is_some() && list.len() < MAX_VAIN {
            list.insert(path);
        }
    }

    fn file(&mut self, path: &Path, kind: Kind, what: Use, by: &str) {
        if path.starts_with("/dev/shm") || !self.shown.iter().any(|s| path.starts_with(s)) {
            return;
        }
        // A policy is text: what has no name in it is shown with its directory.
        let (path, kind, what) = match path.ancestors().find(|p| p.to_str().is_some()) {
            Some(whole) if whole == path => (path, kind, what),
            Some(above) => (above, Kind::Directory, Use::List),
            None => return,
        };
        let Some(file) = self.seen.files.get_mut(path) else {
            let length = path.as_os_str().len();
            if self.seen.files.len() >= MAX_PATHS || self.bytes + length > MAX_BYTES {
                return self.gap(Gap::Paths);
            }
            self.bytes += length;
            self.seen.files.insert(path.to_owned(), SeenFile { kind, uses: [what].into(), by: Programs::of(by) });
            return;
        };
        file.uses.insert(what);
        file.by.add(by);
    }

    pub(super) fn executed(&mut self, program: PathBuf) {
        self.seen.program = Some(program);
    }

    pub(super) fn tasks(&mut self, tasks: Option<u64>) {
        self.seen.tasks = self.seen.tasks.max(tasks);
    }

    pub(super) fn descriptors(&mut self, table: Option<u64>) {
        self.seen.descriptors = self.seen.descriptors.max(table);
    }

    pub(super) fn bound(&mut self, port: u16) {
        if self.seen.network.ports.len() >= MAX_ADDRESSES {
            return self.gap(Gap::Addresses);
        }
        self.seen.network.ports.insert(port);
    }

    pub(super) fn listened(&mut self) {
        self.seen.network.listens = true;
    }

    pub(super) fn datagrams(&mut self) {
        self.seen.network.datagrams = true;
    }

    pub(super) fn target(&mut self, target: Target) {
        if self.seen.network.targets.len() >= MAX_ADDRESSES {
            return self.gap(Gap::Addresses);
        }
        self.seen.network.targets.insert(target);
    }

    pub(super) fn gap(&mut self, gap: Gap) {
        self.seen.gaps.insert(gap);
    }

    pub(super) fn into_observations(self) -> Observations {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Notes {
        Notes {
            seen: Observations::default(),
            bytes: 0,
            shown: vec!["/usr".into(), "/dev".into()],
            names: HashMap::new(),
            calls: HashSet::new(),
            paths: HashSet::new(),
        }
    }

    fn there(path: &str) -> Walked {
        Walked { links: vec![], found: Found::There { path: path.into(), kind: Kind::File } }
    }

    #[test]
    fn only_what_the_base_shows_is_noted() {
        let mut notes = notes();
        for path in ["/usr/a", "/tmp/b", "/proc/1/status", "/etc/passwd", "/dev/shm/x", "/"] {
            notes.walked(there(path), Use::Read, "p");
        }
        assert_eq!(notes.seen.files.keys().collect::<Vec<_>>(), [Path::new("/usr/a")]);
    }

    #[test]
    fn more_than_is_kept_is_told_as_a_gap() {
        let mut notes = notes();
        for n in 0..=MAX_PATHS {
            notes.walked(there(&format!("/usr/{n}")), Use::Read, "p");
        }
        for port in 0..100 {
            notes.bound(port);
        }
        assert_eq!((notes.seen.files.len(), notes.seen.network.ports.len()), (MAX_PATHS, MAX_ADDRESSES));
        assert_eq!(notes.seen.gaps.into_iter().collect::<Vec<_>>(), [Gap::Paths, Gap::Addresses]);
    }

    #[test]
    fn what_was_asked_for_in_vain_is_no_need() {
        let mut notes = notes();
        let absent =
            |path: &str, directory: &str| Walked { links: vec![], found: Found::Absent { path: path.into(), directory: directory.into() } };
        notes.walked(absent("/usr/gone", "/usr"), Use::Read, "p");
        notes.walked(absent("/usr/new", "/usr"), Use::Write, "p");
        notes.walked(Walked { links: vec![], found: Found::Refused { path: "/usr/secret".into() } }, Use::Read, "p");
        assert_eq!(notes.seen.files.keys().collect::<Vec<_>>(), [Path::new("/usr")], "where something was made");
        assert!(notes.seen.missing.contains(Path::new("/usr/gone")) && notes.seen.refused.contains(Path::new("/usr/secret")));
    }

    #[test]
    fn a_name_that_is_no_text_is_shown_with_its_directory() {
        use std::os::unix::ffi::OsStrExt;
        let mut notes = notes();
        let path = Path::new("/usr/d").join(std::ffi::OsStr::from_bytes(b"\xff")).join("f");
        notes.walked(Walked { links: vec![], found: Found::There { path, kind: Kind::File } }, Use::Read, "p");
        let file = &notes.seen.files[Path::new("/usr/d")];
        assert!(file.kind == Kind::Directory && file.uses.contains(&Use::List), "{file:?}");
    }
}
