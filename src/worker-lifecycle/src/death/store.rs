//! `hive/explained.json`: the explanations of the last workers that ended, for who asks after they are off the list, or after a restart.
//!
//! Written whole, a moment after the last change, and at the hive's end. The hive's own file; the launcher never reads it.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, renameat};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::Explanation;
use crate::channel::lock;

const NAME: &str = "explained.json";
const NEW: &str = ".explained.json.new";
const BAD: &str = "explained.json.bad";
const VERSION: u32 = 1;
/// Workers whose explanation is kept.
const KEPT: usize = 128;
/// Longest file that is read, and about the longest that is written.
const MAX_BYTES: usize = 16 << 20;
/// Between a change and its writing: many workers end together.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    /// The newest first.
    explained: Vec<Value>,
}

#[derive(Serialize)]
struct Written {
    version: u32,
    explained: Vec<Box<RawValue>>,
}

/// Explanations of ended workers, the newest first.
#[derive(Debug)]
pub(crate) struct StoryStore {
    /// `None`: nothing outlives the hive.
    directory: Option<Arc<OwnedFd>>,
    kept: Mutex<VecDeque<Arc<Explanation>>>,
    changed: Notify,
    /// One writer at a time, or an older list would end over a newer one.
    writing: Mutex<()>,
}

impl StoryStore {
    /// With what an earlier hive has kept. A file that is not understood is set aside.
    pub(crate) fn open(directory: Option<Arc<OwnedFd>>) -> Self {
        let kept = directory.as_ref().map_or_else(VecDeque::new, |directory| match read(directory) {
            Ok(kept) => kept,
            Err(error) => {
                let aside = renameat(&**directory, NAME, &**directory, BAD);
                tracing::warn!(%error, aside = aside.is_ok(), "{NAME} is not understood: it is set aside as {BAD}");
                VecDeque::new()
            }
        });
        let store = Self { directory, kept: Mutex::new(kept), changed: Notify::new(), writing: Mutex::new(()) };
        // A directory that can't be written to is told of now, and not at the first death.
        store.write();
        store
    }

    /// Keeps how a worker ended. Of two of one worker the later one counts, unless its log was gone by then.
    pub(crate) fn keep(&self, explanation: Explanation) {
        let mut kept = lock(&self.kept);
        if let Some(at) = kept.iter().position(|k| k.is_of_the_same_life(&explanation)) {
            if explanation.story.log_tail.is_empty() && !kept[at].story.log_tail.is_empty() {
                return;
            }
            kept.remove(at);
        }
        kept.truncate(KEPT - 1);
        kept.push_front(Arc::new(explanation));
        drop(kept);
        self.changed.notify_one();
    }

    /// The last worker of this name.
    pub(crate) fn find(&self, worker_id: &str) -> Option<Arc<Explanation>> {
        lock(&self.kept).iter().find(|k| k.worker_id == worker_id).cloned()
    }

    /// Writes what changes, until nobody holds the store but this.
    pub(crate) async fn write_on(store: std::sync::Weak<Self>) {
        while let Some(this) = store.upgrade() {
            // Bounded, so that a store that nobody changes any more does not keep itself.
            let changed = tokio::time::timeout(PAUSE * 20, this.changed.notified()).await;
            if changed.is_ok() {
                sleep(PAUSE).await;
                // A panic in it was told.
                let _ = tokio::task::spawn_blocking(move || this.write()).await;
            }
        }
    }

    /// Writes what is kept. Blocks.
    pub(crate) fn write(&self) {
        let Some(directory) = &self.directory else { return };
        let _turn = lock(&self.writing);
        let kept: Vec<Arc<Explanation>> = lock(&self.kept).iter().cloned().collect();
        if let Err(error) = write(directory, &kept) {
            tracing::warn!(%error, "{NAME} can't be written: after a restart the last workers are not explained");
        }
    }
}

fn read(directory: &OwnedFd) -> io::Result<VecDeque<Arc<Explanation>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, NAME, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(VecDeque::new()),
        opened => opened?,
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    let Content { version, explained } = serde_json::from_slice(&text)?;
    if version != VERSION || text.len() > MAX_BYTES {
        return Err(io::Error::other(format!("version {version} with {} bytes is not understood", text.len())));
    }
    let all = explained.len();
    // One that another version has written otherwise costs no more than itself.
    let kept: VecDeque<_> = explained.into_iter().filter_map(|one| serde_json::from_value(one).ok()).map(Arc::new).take(KEPT).collect();
    if kept.len() < all {
        tracing::warn!(unread = all - kept.len(), "some workers of earlier hives are not explained any more");
    }
    Ok(kept)
}

/// A reader sees the old file or the new one, never a part (rename(2)).
fn write(directory: &OwnedFd, kept: &[Arc<Explanation>]) -> io::Result<()> {
    let mut left = MAX_BYTES / 2;
    let mut explained = vec![];
    for one in kept {
        let text = serde_json::value::to_raw_value(&**one)?;
        let Some(rest) = left.checked_sub(text.get().len()) else { break };
        left = rest;
        explained.push(text);
    }
    let text = serde_json::to_vec(&Written { version: VERSION, explained })?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, NEW, flags, Mode::from_raw_mode(0o600))?;
    std::fs::File::from(file).write_all(&text)?;
    Ok(renameat(directory, NEW, directory, NAME)?)
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::Verdict;

    use super::*;
    use crate::death::tests::explanation;

    fn store() -> (tempfile::TempDir, Arc<OwnedFd>) {
        let directory = tempfile::tempdir().unwrap();
        let opened = std::fs::File::open(directory.path()).unwrap();
        (directory, Arc::new(opened.into()))
    }

    #[test]
    fn the_last_workers_are_explained_after_a_restart() {
        let (_kept, directory) = store();
        let first = StoryStore::open(Some(Arc::clone(&directory)));
        for n in 0..KEPT + 3 {
            first.keep(explanation(&format!("w{n}"), Verdict::Exited { code: 3 }));
        }
        first.write();
        let second = StoryStore::open(Some(directory));
        assert!(second.find("w2").is_none(), "no more than {KEPT} are kept");
        for name in ["w3", &format!("w{}", KEPT + 2)] {
            assert_eq!(*second.find(name).unwrap(), explanation(name, Verdict::Exited { code: 3 }));
        }
    }

    #[test]
    fn of_one_life_the_later_explanation_counts_and_of_one_name_the_later_life() {
        let store = StoryStore::open(None);
        let with = |code, created: &str, tail: &str| {
            let mut explanation = explanation("w", Verdict::Exited { code });
            explanation.story.created_at = created.into();
            let line = crate::LogLine { time: "T".into(), stream: "stderr".into(), text: tail.into(), partial: false };
            explanation.story.log_tail = if tail.is_empty() { vec![] } else { vec![line] };
            explanation
        };
        store.keep(with(1, "a", "bye"));
        store.keep(with(2, "a", "good bye"));
        store.keep(with(3, "a", ""));
        assert_eq!(*store.find("w").unwrap(), with(2, "a", "good bye"), "the third one has lost the log");
        store.keep(with(4, "b", ""));
        assert_eq!(*store.find("w").unwrap(), with(4, "b", ""));
        assert_eq!(lock(&store.kept).len(), 2);
    }

    #[tokio::test]
    async fn a_change_is_written_without_being_asked_for() {
        let (kept, directory) = store();
        let store = Arc::new(StoryStore::open(Some(directory)));
        let writing = tokio::spawn(StoryStore::write_on(Arc::downgrade(&store)));
        store.keep(explanation("w", Verdict::Exited { code: 3 }));
        crate::tests::hive::eventually("it is not written", || {
            std::fs::read_to_string(kept.path().join(NAME)).is_ok_and(|text| text.contains("\"w\""))
        })
        .await;
        writing.abort();
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_set_aside_and_one_bad_entry_costs_itself() {
        for text in ["", "{}", "[]", "{\"version\":2,\"explained\":[]}", "{\"version\":1,\"explained\":[{"] {
            let (kept, directory) = store();
            std::fs::write(kept.path().join(NAME), text).unwrap();
            StoryStore::open(Some(directory)).write();
            assert_eq!(std::fs::read_to_string(kept.path().join(BAD)).unwrap(), text);
            assert!(kept.path().join(NAME).exists());
        }
        let (kept, directory) = store();
        std::os::unix::fs::symlink("/etc/hostname", kept.path().join(NAME)).unwrap();
        assert!(StoryStore::open(Some(Arc::clone(&directory))).find("w").is_none(), "a link is not followed");
        std::fs::remove_file(kept.path().join(NAME)).unwrap();
        nix::unistd::mkfifo(&kept.path().join(NAME), nix::sys::stat::Mode::S_IRWXU).unwrap();
        StoryStore::open(Some(directory)).write();
        assert!(std::fs::symlink_metadata(kept.path().join(NAME)).unwrap().is_file(), "a fifo does not block");
        let (kept, directory) = store();
        let good = serde_json::to_value(explanation("w", Verdict::Exited { code: 3 })).unwrap();
        let text = serde_json::json!({"version": 1, "explained": [{"worker_id": 5}, good]}).to_string();
        std::fs::write(kept.path().join(NAME), text).unwrap();
        assert!(StoryStore::open(Some(directory)).find("w").is_some());
    }
}
