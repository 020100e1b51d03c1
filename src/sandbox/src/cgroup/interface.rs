//! One interface file at a time, with path and value in every error.
//!
//! Must never know: what a value means.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::CgroupError;

/// Longest content that is read, bytes: a `cgroup.procs` of 100,000 pids fits.
const MAX_CONTENT: usize = 1 << 20;

/// The file's content without the trailing newline.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    let failed = |source| CgroupError::Read { path: path.to_owned(), source };
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| failed(e.into()))?;
    drain(&fd).map_err(failed)
}

/// Writes `value` in one write, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let failed = |e: rustix::io::Errno| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source: e.into() };
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes())).map_err(failed)?;
    Ok(())
}

/// [`write`], given up where a signal comes: some writes go on in the kernel for as long as the worker keeps it busy.
pub(super) fn write_once(path: &Path, value: &str) -> Result<(), CgroupError> {
    let failed = |e: rustix::io::Errno| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source: e.into() };
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    rustix::io::write(&fd, value.as_bytes()).map_err(failed)?;
    Ok(())
}

/// [`write`], then reads the file and compares by `same`.
pub(super) fn write_checked(path: &Path, value: &str, same: impl FnOnce(&str) -> bool) -> Result<(), CgroupError> {
    write(path, value)?;
    expect(path, value, same)
}

/// Reads the file back; an error where `same` does not hold of it.
pub(super) fn expect(path: &Path, wanted: &str, same: impl FnOnce(&str) -> bool) -> Result<(), CgroupError> {
    let got = read(path)?;
    if same(&got) { Ok(()) } else { Err(CgroupError::ReadBack { path: path.to_owned(), wanted: wanted.to_owned(), got }) }
}

/// The content of `name` in an open cgroup directory; `None` where it cannot be had.
pub(super) fn read_at(dir: impl AsFd, name: &str) -> io::Result<String> {
    let fd = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    drain(&fd)
}

/// Writes `value` to `name` in an open cgroup directory.
pub(super) fn write_at(dir: impl AsFd, name: &str, value: &str) -> io::Result<()> {
    let fd = rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes()))?;
    Ok(())
}

/// Makes a cgroup; that it is there already is no error. Gives whether it was made now.
pub(super) fn make(path: &Path) -> Result<Made, CgroupError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(Made::Now),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Before),
        Err(source) => Err(CgroupError::Make { path: path.to_owned(), source }),
    }
}

/// Whether a cgroup was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Made by this call.
    Now,
    /// It was there.
    Before,
}

/// Opens a cgroup's directory.
pub(super) fn open_dir(path: &Path) -> Result<OwnedFd, CgroupError> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a file for writing only.
pub(super) fn open_write(path: &Path) -> Result<OwnedFd, CgroupError> {
    open(path, OFlags::WRONLY)
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, CgroupError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| CgroupError::Open { path: path.to_owned(), source: e.into() })
}

fn drain(fd: &OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 4096];
    while bytes.len() < MAX_CONTENT {
        match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut chunk))? {
            0 => break,
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches('\n').to_owned())
}
