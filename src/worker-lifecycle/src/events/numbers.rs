//! `hive/events.json`: which numbers were given to events, so that none is given again by the next hive.
//!
//! Numbers are reserved ahead in blocks, because telling an event waits for no disk. A hive that ends as it should writes the last one;
//! after any other end the rest of its block is a gap, and how many events lie in it nobody knows. The hive's own file.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, renameat};
use serde::{Deserialize, Serialize};

use super::EventHub;

const NAME: &str = "events.json";
const NEW: &str = ".events.json.new";
const BAD: &str = "events.json.bad";
const VERSION: u32 = 1;
const MAX_BYTES: u64 = 4096;
/// Numbers that are reserved at a time: more than a hive tells while one write is under way.
const BLOCK: u64 = 1 << 20;

/// Where a hive's numbers begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbering {
    /// The highest number that an earlier hive may have given; 0: none.
    pub(crate) given: u64,
    /// From here on every number is an event's.
    pub(crate) gapless_from: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    /// No number above this one was given.
    reserved: u64,
    gapless_from: u64,
    /// Whether `reserved` is the last one that was given.
    ended: bool,
}

/// The file in the hive's own directory.
#[derive(Debug)]
pub(crate) struct NumberFile {
    directory: Arc<OwnedFd>,
    numbering: Numbering,
}

impl NumberFile {
    /// Reads where the numbers begin, and reserves the first block of them. A file that is not understood is set aside, and the numbers go
    /// on with the clock's milliseconds, which are more than any hive has told.
    pub(crate) fn open(directory: Arc<OwnedFd>) -> (Self, Numbering) {
        let numbering = match read(&directory) {
            Ok(None) => Numbering::default(),
            Ok(Some(Content { reserved: given, gapless_from, ended: true, .. })) => Numbering { given, gapless_from },
            Ok(Some(Content { reserved: given, .. })) => Numbering { given, gapless_from: given },
            Err(error) => {
                let aside = renameat(&*directory, NAME, &*directory, BAD);
                tracing::warn!(%error, aside = aside.is_ok(), "{NAME} is not understood: it is set aside as {BAD}, and events get new numbers");
                let millis = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
                Numbering { given: millis, gapless_from: millis }
            }
        };
        let file = Self { directory, numbering };
        file.reserve(numbering.given + BLOCK);
        (file, numbering)
    }

    /// Reserves on as numbers are given, until the hub is gone.
    pub(crate) async fn keep(self: Arc<Self>, hub: Arc<EventHub>) {
        let mut numbers = hub.numbers();
        drop(hub);
        let mut reserved = self.numbering.given + BLOCK;
        while let Ok(last) = numbers.wait_for(|last| *last + BLOCK / 2 > reserved).await.map(|last| *last) {
            reserved = last + BLOCK;
            let file = Arc::clone(&self);
            // A panic in it was told; the numbers go on.
            let _ = tokio::task::spawn_blocking(move || file.reserve(reserved)).await;
        }
    }

    fn reserve(&self, reserved: u64) {
        self.write_or_warn(reserved, false);
    }

    /// Writes the last number that is given. Blocks.
    pub(crate) fn end(&self, last: u64) {
        self.write_or_warn(last, true);
    }

    fn write_or_warn(&self, reserved: u64, ended: bool) {
        let content = Content { version: VERSION, reserved, gapless_from: self.numbering.gapless_from, ended };
        if let Err(error) = write(&self.directory, &content) {
            tracing::warn!(%error, "{NAME} can't be written: after a restart numbers of events may be given again");
        }
    }
}

fn read(directory: &OwnedFd) -> io::Result<Option<Content>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, NAME, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(MAX_BYTES).read_to_end(&mut text)?;
    let content: Content = serde_json::from_slice(&text)?;
    // Far above what can be counted to; a number in JSON is exact up to 2⁵³.
    if content.version != VERSION || content.reserved > 1 << 53 || content.gapless_from > content.reserved {
        return Err(io::Error::other(format!("version {} with number {} is not understood", content.version, content.reserved)));
    }
    Ok(Some(content))
}

/// A reader sees the old file or the new one, never a part (rename(2)).
fn write(directory: &OwnedFd, content: &Content) -> io::Result<()> {
    let text = serde_json::to_vec(content)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, NEW, flags, Mode::from_raw_mode(0o600))?;
    std::fs::File::from(file).write_all(&text)?;
    Ok(renameat(directory, NEW, directory, NAME)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{About, EventKind};

    fn directory() -> (tempfile::TempDir, Arc<OwnedFd>) {
        let directory = tempfile::tempdir().unwrap();
        let opened = std::fs::File::open(directory.path()).unwrap();
        (directory, Arc::new(opened.into()))
    }

    #[test]
    fn numbers_go_on_behind_the_last_one_and_after_a_crash_behind_all_that_may_have_been_given() {
        let (_kept, directory) = directory();
        let (first, numbering) = NumberFile::open(Arc::clone(&directory));
        assert_eq!(numbering, Numbering::default());
        first.end(70);
        let (_crashes, numbering) = NumberFile::open(Arc::clone(&directory));
        assert_eq!(numbering, Numbering { given: 70, gapless_from: 0 });
        let (third, numbering) = NumberFile::open(Arc::clone(&directory));
        assert_eq!(numbering, Numbering { given: 70 + BLOCK, gapless_from: 70 + BLOCK });
        third.end(80 + BLOCK);
        assert_eq!(NumberFile::open(directory).1, Numbering { given: 80 + BLOCK, gapless_from: 70 + BLOCK });
    }

    #[tokio::test]
    async fn more_are_reserved_before_they_are_given() {
        let (_kept, directory) = directory();
        let (file, numbering) = NumberFile::open(Arc::clone(&directory));
        let hub = Arc::new(EventHub::numbered(numbering));
        let keeping = tokio::spawn(Arc::new(file).keep(Arc::clone(&hub)));
        for _ in 0..=BLOCK / 2 {
            hub.tell(EventKind::State, About::default(), json!({}));
        }
        crate::tests::hive::eventually("nothing more is reserved", || read(&directory).unwrap().unwrap().reserved > BLOCK).await;
        let reserved = read(&directory).unwrap().unwrap();
        assert!(reserved.reserved >= hub.last() + BLOCK / 2 && !reserved.ended, "{reserved:?}");
        drop(hub);
        keeping.await.unwrap();
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_set_aside_and_no_number_is_given_again() {
        let content = |version, reserved| json!({"version": version, "reserved": reserved, "gapless_from": 0, "ended": true}).to_string();
        for text in [String::new(), "{}".into(), content(2, 5), content(1, u64::MAX), "x".repeat(10_000)] {
            let (kept, directory) = directory();
            std::fs::write(kept.path().join(NAME), &text).unwrap();
            assert!(NumberFile::open(directory).1.given > 1 << 40, "{text}");
            assert_eq!(std::fs::read_to_string(kept.path().join(BAD)).unwrap(), text);
        }
        let (kept, directory) = directory();
        std::os::unix::fs::symlink("/etc/hostname", kept.path().join(NAME)).unwrap();
        assert!(NumberFile::open(directory).1.given > 0, "a link is not followed");
        assert!(std::fs::symlink_metadata(kept.path().join(NAME)).unwrap().is_file());
    }
}
