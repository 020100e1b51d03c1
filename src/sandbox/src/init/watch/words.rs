//! What a call's arguments point to, read from the memory of the thread that waits in it.
//!
//! The thread's number may have changed hands: what was read counts only if the notification is still valid afterwards.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::rights::Rights;

/// Longest path (limits.h, PATH_MAX).
const PATH_MAX: usize = 4096;
const PAGE: u64 = 4096;
/// Largest address of a socket (`struct sockaddr_storage`).
pub(super) const ADDRESS_MAX: usize = 128;

/// A thread whose memory is opened once it is needed.
pub(super) struct Thread {
    tid: u32,
    rights: Rights,
    memory: Option<File>,
}

/// Its memory can't be opened: it is not known what was asked for.
pub(super) struct Unreadable;

impl Thread {
    pub(super) fn of(tid: u32, rights: Rights) -> Self {
        Self { tid, rights, memory: None }
    }

    /// The path at `address`; `None` where the kernel would find none there either.
    pub(super) fn path(&mut self, address: u64) -> Result<Option<PathBuf>, Unreadable> {
        let memory = self.memory()?;
        let mut text = Vec::new();
        let mut buffer = [0u8; PAGE as usize];
        while text.len() < PATH_MAX {
            let at = address.wrapping_add(text.len() as u64);
            // Up to the end of a page: the next one may not be there.
            let room = (PAGE - at % PAGE) as usize;
            let Ok(length) = memory.read_at(&mut buffer[..room], at) else { return Ok(None) };
            if let Some(end) = buffer[..length].iter().position(|b| *b == 0) {
                text.extend_from_slice(&buffer[..end]);
                return Ok((!text.is_empty()).then(|| OsString::from_vec(text).into()));
            }
            if length == 0 {
                return Ok(None);
            }
            text.extend_from_slice(&buffer[..length]);
        }
        Ok(None) // ENAMETOOLONG
    }

    /// Bytes at `address`, as many as are there of `length`.
    pub(super) fn bytes(&mut self, address: u64, length: usize) -> Result<Vec<u8>, Unreadable> {
        let memory = self.memory()?;
        let mut buffer = [0u8; ADDRESS_MAX];
        let wanted = length.min(ADDRESS_MAX);
        let got = memory.read_at(&mut buffer[..wanted], address).unwrap_or(0);
        Ok(buffer[..got].to_vec())
    }

    /// Where a relative path begins: a descriptor's directory, or the working directory.
    pub(super) fn start(&self, descriptor: Option<u64>) -> Option<PathBuf> {
        let tid = self.tid;
        let link = match descriptor.map(|d| d as u32 as i32) {
            None | Some(libc::AT_FDCWD) => format!("/proc/{tid}/cwd"),
            Some(number) => format!("/proc/{tid}/fd/{number}"),
        };
        self.rights.as_either(|| std::fs::read_link(&link).ok()).filter(|path| path.is_absolute())
    }

    fn memory(&mut self) -> Result<&File, Unreadable> {
        if self.memory.is_none() {
            let path = format!("/proc/{}/mem", self.tid);
            self.memory = Some(self.rights.as_either(|| File::open(&path).ok()).ok_or(Unreadable)?);
        }
        self.memory.as_ref().ok_or(Unreadable)
    }
}

/// The name of the program that a thread runs.
pub(super) fn program_name(tid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

/// Size of a process's table of descriptors (proc(5), FDSize).
pub(super) fn descriptor_table(tid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("FDSize:")?.trim().parse().ok())
}
