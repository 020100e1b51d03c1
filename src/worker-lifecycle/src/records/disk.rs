//! The directory of records: names, reading without trust, writing whole.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use rbee_hive_policy::WorkerId;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, fstat, mkdirat, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;
use serde::Deserialize;

use super::DELETED_KEPT;
use super::record::{VERSION, WorkerRecord};

const FOLDER: &str = "workers";
/// Largest record, bytes: arguments and environment are bounded by a message to the launcher, the rest is small.
const MAX_BYTES: u64 = 1 << 20;
/// Most entries that are looked at.
const MAX_ENTRIES: usize = 65_536;
/// Most records that are set aside, and most of one name.
const MAX_BAD: usize = 64;
const MAX_BAD_OF_ONE: usize = 8;

/// A record's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// Of a worker that is listed. A worker's name holds no dot.
    pub(super) fn listed(id: &str) -> Self {
        Self(format!("{id}.json"))
    }

    /// Of a deleted one.
    pub(super) fn deleted(id: &str) -> Self {
        Self(format!("{id}.deleted.json"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a name in the directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Listed(WorkerId),
    Deleted(WorkerId),
    /// A record that was not finished.
    Unfinished,
    /// One that was set aside before.
    Bad,
    /// None of ours.
    Other,
}

impl Entry {
    fn of(name: &str) -> Self {
        let id = |text: &str| WorkerId::parse(text).ok();
        match name.strip_suffix(".json") {
            Some(stem) => match stem.strip_suffix(".deleted") {
                Some(stem) => id(stem).map_or(Self::Other, Self::Deleted),
                None => id(stem).map_or(Self::Other, Self::Listed),
            },
            None if name.starts_with('.') && name.ends_with(".json.new") => Self::Unfinished,
            None if name.contains(".json.bad-") => Self::Bad,
            None => Self::Other,
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) listed: Vec<WorkerRecord>,
    /// The last ones first.
    pub(super) deleted: Vec<WorkerRecord>,
    /// What was set aside, one sentence each.
    pub(super) bad: Vec<String>,
}

/// `hive/workers/`, opened.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

/// The version alone, which decides whether the rest is understood.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Directory {
    /// Opens or makes it below the hive's own directory. What is there under that name and is no directory of ours is set aside.
    pub(super) fn open(hive: &OwnedFd) -> io::Result<Self> {
        match Self::make(hive) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                tracing::warn!("hive/workers is no directory: it is set aside");
                set_aside(hive, FOLDER, MAX_BAD_OF_ONE)?;
                Ok(Self(Self::make(hive)?))
            }
            made => Ok(Self(made?)),
        }
    }

    fn make(hive: &OwnedFd) -> Result<OwnedFd, Errno> {
        match mkdirat(hive, FOLDER, Mode::from_raw_mode(0o700)) {
            // On a disk that takes nothing what is there can be read all the same.
            Ok(()) | Err(Errno::EXIST | Errno::ROFS | Errno::NOSPC) => {}
            Err(e) => return Err(e),
        }
        openat(hive, FOLDER, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// Writes a record whole: a reader sees the one before or this one.
    pub(super) fn write(&self, name: &Name, record: &WorkerRecord) -> io::Result<()> {
        let (text, new) = (serde_json::to_vec(record)?, format!(".{}.new", name.0));
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it takes {} bytes, and a record has {MAX_BYTES} at most", text.len())));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let written = openat(&self.0, &new, flags, Mode::from_raw_mode(0o600))
            .map_err(io::Error::from)
            .and_then(|file| File::from(file).write_all(&text))
            .and_then(|()| Ok(renameat(&self.0, &new, &self.0, name.as_str())?));
        // A part of a record on a full disk takes the place of the next one.
        if written.is_err() {
            let _ = unlinkat(&self.0, &new, AtFlags::empty());
        }
        written
    }

    /// Removes a record, if it is there.
    pub(super) fn remove(&self, name: &Name) -> io::Result<()> {
        match unlinkat(&self.0, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads every record; sets aside what is none.
    pub(super) fn read_all(&self) -> Read {
        let mut read = Read::default();
        let names = self.names(&mut read);
        let mut bad_already = names.iter().filter(|name| Entry::of(name) == Entry::Bad).count();
        for name in names {
            let (into, id) = match Entry::of(&name) {
                Entry::Listed(id) => (&mut read.listed, id),
                Entry::Deleted(id) => (&mut read.deleted, id),
                Entry::Unfinished => {
                    let _ = unlinkat(&self.0, &name, AtFlags::empty());
                    continue;
                }
                Entry::Bad => continue,
                Entry::Other => {
                    tracing::warn!(name, "hive/workers holds something that is no record: it is left alone");
                    continue;
                }
            };
            match self.read(&name, &id) {
                Ok(record) => into.push(record),
                Err(why) => {
                    bad_already += 1;
                    let room = MAX_BAD.saturating_sub(bad_already).min(MAX_BAD_OF_ONE);
                    let becomes = self.put_aside(&name, room);
                    tracing::warn!(record = name, why, becomes, "a worker's record can't be used");
                    read.bad.push(format!("the record hive/workers/{name} can't be used: {why}; {becomes}"));
                }
            }
        }
        read.deleted.sort_by(|a, b| b.deleted_at.cmp(&a.deleted_at));
        for old in read.deleted.drain(read.deleted.len().min(DELETED_KEPT)..) {
            let _ = self.remove(&Name::deleted(&old.worker.worker_id));
        }
        read
    }

    fn names(&self, read: &mut Read) -> Vec<String> {
        let listing = Dir::read_from(&self.0).map(|entries| entries.take(MAX_ENTRIES + 2).flatten().collect::<Vec<_>>());
        match listing {
            Ok(entries) => {
                if entries.len() > MAX_ENTRIES {
                    read.bad.push(format!("hive/workers holds more than {MAX_ENTRIES} entries: the rest was not read"));
                }
                let names = entries.iter().filter_map(|entry| entry.file_name().to_str().ok());
                let mut names: Vec<String> = names.filter(|name| !matches!(*name, "." | "..")).map(str::to_owned).collect();
                names.sort_unstable();
                names
            }
            Err(error) => {
                tracing::error!(%error, "records of workers can't be read");
                read.bad.push(format!("records of workers can't be read: list hive/workers: {error}"));
                vec![]
            }
        }
    }

    /// Errors: why it is no record of this worker's, one clause.
    fn read(&self, name: &str, id: &WorkerId) -> Result<WorkerRecord, String> {
        // Without blocking: a pipe has no writer to wait for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty()).map_err(|e| match e {
            Errno::LOOP => "it is a symbolic link".to_owned(),
            other => format!("open: {}", io::Error::from(other)),
        })?;
        let there = fstat(&file).map_err(|e| format!("fstat: {}", io::Error::from(e)))?;
        let own = rustix::process::geteuid().as_raw();
        if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile {
            return Err("it is no regular file".into());
        }
        if there.st_uid != own {
            return Err(format!("it belongs to uid {}, not to {own}", there.st_uid));
        }
        if there.st_size.unsigned_abs() > MAX_BYTES {
            return Err(format!("it has {} bytes, and a record {MAX_BYTES} at most", there.st_size));
        }
        let mut text = Vec::new();
        File::from(file).take(MAX_BYTES).read_to_end(&mut text).map_err(|e| format!("read: {e}"))?;
        let no_record = |e: serde_json::Error| if text.is_empty() { "it is empty".to_owned() } else { format!("it is no record: {e}") };
        let Version { version } = serde_json::from_slice(&text).map_err(no_record)?;
        if version != VERSION {
            return Err(format!("its version is {version}, and this hive knows {VERSION}"));
        }
        let record: WorkerRecord = serde_json::from_slice(&text).map_err(no_record)?;
        match record.worker.worker_id == id.as_str() {
            true => Ok(record),
            false => Err(format!("it is the record of worker {:?}", record.worker.worker_id)),
        }
    }

    /// What has become of it, one clause.
    fn put_aside(&self, name: &str, room: usize) -> String {
        match set_aside(&self.0, name, room) {
            Ok(Some(new)) => format!("it was set aside as {new}"),
            // What is known of a worker elsewhere must not be hidden behind it at the next start.
            Ok(None) => match unlinkat(&self.0, name, AtFlags::empty()) {
                Ok(()) => "it was removed, for too many were set aside already".into(),
                Err(e) => format!("it stays, for it can't be removed: {}", io::Error::from(e)),
            },
            Err(e) => format!("it stays, for it can't be set aside: {e}"),
        }
    }
}

/// Gives it another name, which is returned; `None` where there are `most` such already.
fn set_aside(directory: &OwnedFd, name: &str, most: usize) -> io::Result<Option<String>> {
    for n in 1..=most {
        let new = format!("{name}.bad-{n}");
        match renameat_with(directory, name, directory, &new, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(new)),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(None)
}

/// What identifies this run of the machine.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
