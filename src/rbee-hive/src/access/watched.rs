//! Files that hold secrets or keys: checked, read before the privileges go, and read again when they change.
//!
//! A change is looked for on use, at most once a second. What can't be used then leaves what was good before, and is told. Must never know what
//! the files hold.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::libc::{O_CLOEXEC, O_NONBLOCK};

/// How long a look is good for.
const LOOK: Duration = Duration::from_secs(1);
/// Longest file read, bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Who may read a file besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Nobody.
    Owner,
    /// The hive's group, or root's.
    HiveGroup,
    /// Everybody; only writing is the owner's alone.
    Everybody,
}

/// Whose files are believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners {
    /// Who started the hive, and who it becomes.
    pub(crate) uids: [u32; 2],
    /// The group that the hive becomes, where root gives it one.
    pub(crate) gid: Option<u32>,
}

/// Files, with what they must be.
#[derive(Debug)]
struct Source {
    files: Vec<(PathBuf, Readers)>,
    owners: Owners,
}

/// What a set of files says, as far as it is good.
pub(crate) struct Watched<T> {
    source: Source,
    parse: fn(&[Vec<u8>]) -> anyhow::Result<T>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    look_at: Instant,
    /// Of what was read last, good or bad; empty where it has to be read again.
    stamps: Vec<Stamp>,
    problem: Option<String>,
}

/// What tells one state of a file from another: device, inode, length, and the times of its last changes.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files, each of which must be there and good.
    pub(crate) fn open(files: Vec<(PathBuf, Readers)>, owners: Owners, parse: fn(&[Vec<u8>]) -> anyhow::Result<T>) -> anyhow::Result<Self> {
        let files: std::io::Result<_> = files.into_iter().map(|(path, readers)| Ok((std::path::absolute(path)?, readers))).collect();
        let source = Source { files: files.context("resolve a path")?, owners };
        let (stamps, value) = source.read(parse)?;
        let seen = Seen { look_at: Instant::now() + LOOK, stamps, problem: None };
        Ok(Self { source, parse, current: RwLock::new(Arc::new(value)), seen: Mutex::new(seen) })
    }

    /// What has no file, and so never changes.
    #[cfg(test)]
    pub(crate) fn fixed(value: T) -> Self {
        let source = Source { files: vec![], owners: Owners { uids: [0; 2], gid: None } };
        let seen = Seen { look_at: Instant::now(), stamps: vec![], problem: None };
        Self { source, parse: |_| bail!("there is no file"), current: RwLock::new(Arc::new(value)), seen: Mutex::new(seen) }
    }

    /// What holds now. Looks for a change where the last look is a second ago, on a thread where it may block.
    pub(crate) async fn fresh(self: &Arc<Self>) -> Arc<T> {
        if self.is_due() {
            let this = Arc::clone(self);
            // A panic in it leaves what there was.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the files as they are now are not used.
    pub(crate) fn problem(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Of those who ask at one time, one is told so.
    fn is_due(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = now >= seen.look_at && !self.source.files.is_empty();
        if due {
            seen.look_at = now + LOOK;
        }
        due
    }

    fn look(&self) {
        let stamps = self.source.stamps();
        {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(&stamps, Ok(stamps) if *stamps == seen.stamps) {
                return;
            }
        }
        // Those of the files as they are even where they are bad: they are read once, not each second.
        let known = stamps.unwrap_or_default();
        let (stamps, problem) = match self.source.read(self.parse) {
            Ok((stamps, value)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(files = %self.source, "changed files were read again");
                (stamps, None)
            }
            Err(error) => (known, Some(format!("what was read before stays in force: {error:#}"))),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|new| seen.problem.as_ref() != Some(*new)) {
            tracing::warn!(files = %self.source, problem, "changed files can't be used");
        }
        (seen.stamps, seen.problem) = (stamps, problem);
    }
}

impl Source {
    fn read<T>(&self, parse: fn(&[Vec<u8>]) -> anyhow::Result<T>) -> anyhow::Result<(Vec<Stamp>, T)> {
        let (mut stamps, mut contents) = (vec![], vec![]);
        for (path, readers) in &self.files {
            let (stamp, bytes) = self.read_one(path, *readers).with_context(|| format!("read {path:?}"))?;
            stamps.push(stamp);
            contents.push(bytes);
        }
        let value = parse(&contents).with_context(|| format!("use {self}"))?;
        Ok((stamps, value))
    }

    fn read_one(&self, path: &Path, readers: Readers) -> anyhow::Result<(Stamp, Vec<u8>)> {
        // A FIFO in its place must not hold anybody up.
        let file: File = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_CLOEXEC).open(path)?;
        let meta = file.metadata()?;
        self.check(&meta, readers)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            bail!("it is longer than {MAX_FILE} bytes");
        }
        Ok((stamp(&meta), bytes))
    }

    fn check(&self, meta: &Metadata, readers: Readers) -> anyhow::Result<()> {
        let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
        if !meta.is_file() {
            bail!("it is no regular file");
        }
        if uid != 0 && !self.owners.uids.contains(&uid) {
            bail!("it belongs to uid {uid}, which is neither root nor the hive: chown it");
        }
        let hives = gid == 0 || self.owners.gid == Some(gid);
        match readers {
            Readers::Everybody if mode & 0o022 != 0 => bail!("others can write it (mode {mode:o}): chmod go-w it"),
            Readers::Owner if mode & 0o077 != 0 => bail!("others than its owner can use it (mode {mode:o}): chmod 600 it"),
            Readers::HiveGroup if mode & 0o037 != 0 || (mode & 0o040 != 0 && !hives) => {
                bail!("others can read it (mode {mode:o}, group {gid}): chmod 600 it, or 640 with the hive's own group")
            }
            _ => Ok(()),
        }
    }

    fn stamps(&self) -> std::io::Result<Vec<Stamp>> {
        self.files.iter().map(|(path, _)| path.metadata().map(|meta| stamp(&meta))).collect()
    }
}

fn stamp(meta: &Metadata) -> Stamp {
    (meta.dev(), meta.ino(), meta.len(), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()))
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<_> = self.files.iter().map(|(path, _)| path.display().to_string()).collect();
        f.write_str(&paths.join(", "))
    }
}

impl<T> std::fmt::Debug for Watched<T> {
    /// Without what the files hold.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn owners() -> Owners {
        Owners { uids: [nix::unistd::geteuid().as_raw(); 2], gid: None }
    }

    fn text(files: &[Vec<u8>]) -> anyhow::Result<String> {
        let text = String::from_utf8(files[0].clone())?;
        anyhow::ensure!(!text.contains("bad"), "it is bad");
        Ok(text)
    }

    fn put(path: &Path, text: &str, mode: u32) {
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::rename(&new, path).unwrap();
    }

    fn due(watched: &Watched<String>) {
        watched.seen.lock().unwrap().look_at = Instant::now();
    }

    #[tokio::test]
    async fn a_change_is_read_and_a_bad_one_leaves_what_was_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        put(&path, "one", 0o600);
        let watched = Arc::new(Watched::open(vec![(path.clone(), Readers::HiveGroup)], owners(), text).unwrap());
        put(&path, "two", 0o600);
        assert_eq!(*watched.fresh().await, "one", "not looked at before its time");
        due(&watched);
        assert_eq!(*watched.fresh().await, "two");
        for (content, mode, why) in [("bad", 0o600, "it is bad"), ("three", 0o644, "others can read it")] {
            put(&path, content, mode);
            due(&watched);
            assert_eq!(*watched.fresh().await, "two");
            assert!(watched.problem().unwrap().contains(why), "{:?}", watched.problem());
        }
        std::fs::remove_file(&path).unwrap();
        due(&watched);
        assert_eq!(*watched.fresh().await, "two");
        assert!(watched.problem().unwrap().contains("No such file"));
        put(&path, "four", 0o600);
        due(&watched);
        assert_eq!((watched.fresh().await.as_str(), watched.problem()), ("four", None));
    }

    #[test]
    fn what_others_can_read_or_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let open = |mode, readers| {
            put(&path, "x", mode);
            Watched::open(vec![(path.clone(), readers)], owners(), text).is_ok()
        };
        assert!(open(0o600, Readers::Owner) && open(0o400, Readers::HiveGroup) && open(0o644, Readers::Everybody));
        assert!(!open(0o640, Readers::Owner) && !open(0o604, Readers::HiveGroup) && !open(0o664, Readers::Everybody));
        assert!(!open(0o620, Readers::HiveGroup) && !open(0o602, Readers::Owner));
        let device = vec![(PathBuf::from("/dev/null"), Readers::Everybody)];
        assert!(Watched::open(device, owners(), text).unwrap_err().chain().any(|e| e.to_string().contains("regular")));
    }
}
