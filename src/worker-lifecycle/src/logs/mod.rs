//! Reading what the init has logged: CRI lines in `log`, and in `log.1` what was there before the last rotation.

mod backward;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rbee_hive_policy::WorkerId;

use crate::{LogLine, LogPage};
use backward::Backward;

/// Most text of one answer, bytes.
const MAX_PAGE: usize = 16 * 1024 * 1024;
/// What a line costs beside its text.
const LINE_COST: usize = 128;

/// The last `tail` lines, oldest first; with `since` only later ones. Blocks: reads from the end of the files.
pub(crate) fn read(logs: &OwnedFd, id: &WorkerId, tail: usize, since: Option<jiff::Timestamp>) -> LogPage {
    let (mut lines, mut bytes, mut truncated) = (Vec::new(), 0, false);
    let written = files(logs, id).into_iter().filter_map(|f| Backward::new(f).ok()).flatten();
    for line in written.filter_map(|l| parse(&l)).filter(|l| later(l, since)) {
        bytes += line.text.len() + LINE_COST;
        truncated = lines.len() >= tail || bytes > MAX_PAGE;
        if truncated {
            break;
        }
        lines.push(line);
    }
    lines.reverse();
    LogPage { lines, truncated }
}

/// Bytes logged so far, as far as they are kept.
pub(crate) fn size(logs: &OwnedFd, id: &WorkerId) -> u64 {
    files(logs, id).iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// The newest first. Opened in this order: a rotation in between then shows one file twice, which can be seen, and not none.
fn files(logs: &OwnedFd, id: &WorkerId) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for file in ["log", "log.1"].iter().filter_map(|name| open(logs, id, name)) {
        let same = |other: &File| matches!((file.metadata(), other.metadata()), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()));
        if !files.iter().any(same) {
            files.push(file);
        }
    }
    files
}

/// A worker's name holds no slash and no dot, so it can't lead elsewhere.
fn open(logs: &OwnedFd, id: &WorkerId, name: &str) -> Option<File> {
    let directory =
        openat(logs.as_fd(), id.as_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
            .ok()?;
    let file = openat(&directory, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    Some(File::from(file))
}

fn later(line: &LogLine, since: Option<jiff::Timestamp>) -> bool {
    since.is_none_or(|since| line.time.parse::<jiff::Timestamp>().is_ok_and(|time| time > since))
}

/// `<rfc3339nano> stdout F text`
fn parse(line: &[u8]) -> Option<LogLine> {
    let text = String::from_utf8_lossy(line);
    let mut parts = text.splitn(4, ' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    matches!(stream, "stdout" | "stderr").then(|| LogLine {
        time: time.to_owned(),
        stream: stream.to_owned(),
        text: parts.next().unwrap_or_default().to_owned(),
        partial: tag == "P",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(old: &str, new: &str) -> (tempfile::TempDir, OwnedFd, WorkerId) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("w")).unwrap();
        std::fs::write(dir.path().join("w/log.1"), old).unwrap();
        std::fs::write(dir.path().join("w/log"), new).unwrap();
        let logs = File::open(dir.path()).unwrap().into();
        (dir, logs, WorkerId::parse("w").unwrap())
    }

    fn texts(page: &LogPage) -> Vec<&str> {
        page.lines.iter().map(|l| l.text.as_str()).collect()
    }

    #[test]
    fn the_tail_comes_oldest_first_across_both_files() {
        let old = "2026-01-01T00:00:00.000000001Z stdout F one\n2026-01-01T00:00:01Z stderr P two\n";
        let (_dir, logs, id) = logged(old, "2026-01-01T00:00:02Z stdout F three  x\nnonsense\n");
        let page = read(&logs, &id, 2, None);
        assert_eq!(texts(&page), ["two", "three  x"]);
        assert!(page.truncated && page.lines[0].partial && page.lines[0].stream == "stderr");
        let whole = read(&logs, &id, 3, None);
        assert!(!whole.truncated && texts(&whole) == ["one", "two", "three  x"]);
        assert_eq!(read(&logs, &id, 9, Some("2026-01-01T00:00:01Z".parse().unwrap())).lines.len(), 1);
        assert!(size(&logs, &id) > 0 && read(&logs, &WorkerId::parse("x").unwrap(), 9, None).lines.is_empty());
    }

    #[test]
    fn a_rotation_between_two_opens_shows_no_line_twice() {
        let line = "2026-01-01T00:00:00Z stdout F once\n";
        let (dir, logs, id) = logged("", line);
        // As if `log` had been renamed after it was opened: both names lead to one file.
        std::fs::remove_file(dir.path().join("w/log.1")).unwrap();
        std::fs::hard_link(dir.path().join("w/log"), dir.path().join("w/log.1")).unwrap();
        assert_eq!(texts(&read(&logs, &id, 9, None)), ["once"]);
    }

    #[test]
    fn an_answer_is_at_most_16_mib() {
        let line = format!("2026-01-01T00:00:00Z stdout F {}\n", "x".repeat(16 * 1024));
        let half = line.repeat(8 * 1024 * 1024 / line.len() + 1);
        let (_dir, logs, id) = logged(&half, &half);
        let page = read(&logs, &id, usize::MAX, None);
        let bytes: usize = page.lines.iter().map(|l| l.text.len()).sum();
        assert!(page.truncated && bytes <= MAX_PAGE && bytes > MAX_PAGE / 2, "{bytes}");
    }

    #[test]
    fn a_link_out_of_the_directory_is_not_followed() {
        let (dir, logs, id) = logged("", "2026-01-01T00:00:00Z stdout F mine\n");
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "2026-01-01T00:00:00Z stdout F secret\n").unwrap();
        std::fs::remove_file(dir.path().join("w/log")).unwrap();
        std::os::unix::fs::symlink(&secret, dir.path().join("w/log")).unwrap();
        assert!(read(&logs, &id, 9, None).lines.is_empty());
    }
}
