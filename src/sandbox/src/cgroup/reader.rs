//! The counters of one leaf, read again and again: descriptors are kept, because opening a file costs more than reading it.
//!
//! Must never know: what a figure means, when it is read.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::counters::{Home, collect};
use super::nested;
use crate::protocol::{CgroupFacts, Resources};

/// A block of a file's content; most files fit into one.
const BLOCK: usize = 8192;
/// Longest content that is read, bytes.
const MAX_CONTENT: usize = 1 << 20;

/// How many descriptors all readers together may still keep. Who gets none opens its files each time.
#[derive(Debug)]
pub struct Descriptors(AtomicUsize);

impl Descriptors {
    /// With this many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(most)))
    }

    /// The `part`-th part of what this process may have open, and not more than `most`.
    pub fn share(part: usize, most: usize) -> Arc<Self> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Self::new((limit / part.max(1)).min(most))
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn give(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads one leaf.
#[derive(Debug)]
pub struct LeafReader {
    facts: Arc<CgroupFacts>,
    leaf: String,
    files: Vec<File>,
    budget: Arc<Descriptors>,
}

#[derive(Debug)]
struct File {
    home: Home,
    name: &'static str,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Open(OwnedFd),
    /// The kernel does not have it, which does not change while the leaf is there.
    Absent,
}

impl LeafReader {
    /// For `leaf`, relative to each hierarchy's mount; it may not be there yet, or any more.
    pub fn new(facts: Arc<CgroupFacts>, leaf: &str, budget: Arc<Descriptors>) -> Self {
        Self { facts, leaf: leaf.to_owned(), files: Vec::new(), budget }
    }

    /// The leaf that it reads.
    pub fn leaf(&self) -> &str {
        &self.leaf
    }

    /// The counters now.
    pub fn read(&mut self) -> Resources {
        if self.leaf.split('/').any(|part| part == "..") {
            return Resources::default();
        }
        let own = collect(&mut |home, name| self.file(home, name));
        let resources = nested::with_kills_below(own, || {
            let mount = self.facts.mounts.get(Home::V1("memory").key())?;
            nested::look_below_path(&Path::new(mount).join(self.leaf.trim_start_matches('/')))
        });
        if resources == Resources::default() {
            // The leaf is gone: another one of its name may have what this one has not.
            self.close();
        }
        resources
    }

    /// Gives the descriptors back.
    pub fn close(&mut self) {
        for file in self.files.drain(..) {
            if matches!(file.kept, Kept::Open(_)) {
                self.budget.give();
            }
        }
    }

    fn file(&mut self, home: Home, name: &'static str) -> Option<String> {
        if let Some(index) = self.files.iter().position(|f| f.home == home && f.name == name) {
            match &self.files[index].kept {
                Kept::Absent => return None,
                Kept::Open(fd) => {
                    if let Ok(text) = content(fd) {
                        return Some(text);
                    }
                }
            }
            // ENODEV: the leaf was removed; there may be a new one.
            self.files.swap_remove(index);
            self.budget.give();
        }
        let mut keep = |kept| self.files.push(File { home, name, kept });
        let path = path(&self.facts, &self.leaf, (home, name))?;
        let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        match opened.and_then(|fd| content(&fd).map(|text| (fd, text))) {
            Ok((fd, text)) => {
                if self.budget.take() {
                    keep(Kept::Open(fd));
                }
                Some(text)
            }
            // EOPNOTSUPP: PSI is switched off.
            Err(Errno::NOENT | Errno::OPNOTSUPP) => {
                keep(Kept::Absent);
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for LeafReader {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where a leaf's file lies; `None` without such a hierarchy.
fn path(facts: &CgroupFacts, leaf: &str, (home, name): (Home, &str)) -> Option<PathBuf> {
    Some(Path::new(facts.mounts.get(home.key())?).join(leaf.trim_start_matches('/')).join(name))
}

/// The content from its beginning, whatever was read before.
fn content(fd: &OwnedFd) -> Result<String, Errno> {
    let mut block = [0u8; BLOCK];
    let mut text = String::new();
    loop {
        let len = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut block, text.len() as u64))?;
        text.push_str(std::str::from_utf8(&block[..len]).map_err(|_| Errno::ILSEQ)?);
        // A cgroup's file comes in one piece: less than asked for is all there is (seq_read_iter in fs/seq_file.c).
        if len < BLOCK || text.len() >= MAX_CONTENT {
            return Ok(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::protocol::CgroupMode;

    fn leaf(dir: &Path) -> (Arc<CgroupFacts>, PathBuf) {
        let mounts = BTreeMap::from([("unified".to_owned(), dir.to_string_lossy().into_owned())]);
        let path = dir.join("r/w");
        fs::create_dir_all(&path).unwrap();
        (Arc::new(CgroupFacts { mode: CgroupMode::Unified, root: "/r".into(), mounts, notes: vec![] }), path)
    }

    #[test]
    fn kept_descriptors_read_what_is_there_now_and_stay_within_the_budget() {
        let t = tempfile::tempdir().unwrap();
        let (facts, path) = leaf(t.path());
        fs::write(path.join("memory.current"), "4096\n").unwrap();
        fs::write(path.join("pids.current"), "1\n").unwrap();
        for budget in [0, 1, 9] {
            fs::write(path.join("pids.current"), "1\n").unwrap();
            let descriptors = Descriptors::new(budget);
            let mut reader = LeafReader::new(Arc::clone(&facts), "/r/w", Arc::clone(&descriptors));
            assert_eq!(reader.read().pids_current, Some(1));
            assert_eq!(descriptors.left(), budget.saturating_sub(2));
            fs::write(path.join("pids.current"), "12\n").unwrap();
            let again = reader.read();
            assert_eq!((again.pids_current, again.memory_current), (Some(12), Some(4096)));
            drop(reader);
            assert_eq!(descriptors.left(), budget, "all are given back");
        }
    }

    #[test]
    fn a_leaf_that_went_has_no_figures_and_its_successor_is_read() {
        let t = tempfile::tempdir().unwrap();
        let (facts, path) = leaf(t.path());
        let mut reader = LeafReader::new(facts, "/r/w", Descriptors::new(9));
        assert_eq!(reader.read(), Resources::default());
        fs::write(path.join("memory.peak"), "1\n").unwrap();
        assert_eq!(reader.read().memory_peak, Some(1));
        assert_eq!(LeafReader::new(Arc::clone(&reader.facts), "/x/../r/w", Descriptors::new(9)).read(), Resources::default());
    }

    #[test]
    fn a_long_file_is_read_to_its_end() {
        let t = tempfile::tempdir().unwrap();
        let (facts, path) = leaf(t.path());
        let line = "254:0 rbytes=1 wbytes=0 rios=1 wios=0\n";
        fs::write(path.join("io.stat"), line.repeat(1000)).unwrap();
        assert_eq!(LeafReader::new(facts, "/r/w", Descriptors::new(9)).read().io_read_bytes, Some(1000));
    }
}
