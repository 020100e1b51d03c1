//! What an init leaves on disk: `verdict.json`, written whole.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use serde::Serialize;

use super::InitContext;
use crate::Verdict;
use crate::protocol::Resources;

/// Format of the records in the state directory.
pub(crate) const RECORD_VERSION: u32 = 1;

#[derive(Serialize)]
struct VerdictRecord<'a> {
    version: u32,
    worker_id: &'a str,
    verdict: &'a Verdict,
    resources: &'a Resources,
}

/// Writes `verdict.json` into the worker's state directory.
pub(super) fn write_verdict(context: &InitContext, verdict: &Verdict, resources: &Resources) -> io::Result<()> {
    let record = VerdictRecord { version: RECORD_VERSION, worker_id: context.plan.worker_id.as_str(), verdict, resources };
    write_whole(context.state.as_fd(), "verdict.json", &record)
}

/// Writes `value` as JSON to `name` in `directory`: a reader sees the old file or the new one, never a part (rename(2)).
pub(crate) fn write_whole(directory: BorrowedFd<'_>, name: &str, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    let temporary = format!(".{name}.new");
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, temporary.as_str(), flags, Mode::from_bits_truncate(0o644))?;
    std::fs::File::from(file).write_all(&text)?;
    renameat(directory, temporary.as_str(), directory, name)?;
    Ok(())
}
