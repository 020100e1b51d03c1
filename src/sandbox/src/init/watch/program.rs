//! The interpreter that the kernel opens by itself when a program is executed: of `#!`, or an ELF file's loader.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Scripts of scripts, as the kernel has it (binfmt, 5), and a loader.
pub(super) const MAX_DEPTH: usize = 6;
/// How much of a first line the kernel reads (BINPRM_BUF_SIZE).
const FIRST_LINE: usize = 256;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Most program headers looked at; usual programs have about a dozen.
const MAX_HEADERS: u16 = 128;
const PT_INTERP: u32 = 3;
const PATH_MAX: usize = 4096;

/// What runs `program`, by the path that it names; `None` where nothing does, or it can't be read.
pub(super) fn interpreter(program: &Path) -> Option<PathBuf> {
    // Without waiting: the path may have become a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(program).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut start = [0u8; FIRST_LINE];
    let length = file.read_at(&mut start, 0).ok()?;
    let start = &start[..length];
    let path = match start {
        [b'#', b'!', line @ ..] => of_script(line).map(<[u8]>::to_vec),
        [0x7f, b'E', b'L', b'F', ..] => of_elf(&file, start.first_chunk::<HEADER>()?),
        _ => None,
    }?;
    let path = PathBuf::from(OsStr::from_bytes(&path));
    path.is_absolute().then_some(path)
}

fn of_script(line: &[u8]) -> Option<&[u8]> {
    let line = line.split(|b| *b == b'\n').next()?;
    line.split(|b| b" \t\0".contains(b)).find(|word| !word.is_empty())
}

/// For 64 bits in this machine's byte order, as everything that runs here has it (elf(5)). By hand, because each read has its bound.
fn of_elf(file: &File, header: &[u8; HEADER]) -> Option<Vec<u8>> {
    let table = u64::from_ne_bytes(*header.get(32..)?.first_chunk()?);
    let count = u16::from_ne_bytes(*header.get(56..)?.first_chunk()?).min(MAX_HEADERS);
    for n in 0..u64::from(count) {
        let mut entry = [0u8; PROGRAM_HEADER];
        file.read_exact_at(&mut entry, table.checked_add(n * PROGRAM_HEADER as u64)?).ok()?;
        if u32::from_ne_bytes(*entry.first_chunk()?) != PT_INTERP {
            continue;
        }
        let offset = u64::from_ne_bytes(*entry.get(8..)?.first_chunk()?);
        let length = usize::try_from(u64::from_ne_bytes(*entry.get(32..)?.first_chunk()?)).ok().filter(|n| *n <= PATH_MAX)?;
        let mut path = vec![0; length];
        file.read_exact_at(&mut path, offset).ok()?;
        path.truncate(path.iter().position(|b| *b == 0).unwrap_or(length));
        return Some(path);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8]) -> Option<PathBuf> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        interpreter(file.path())
    }

    #[test]
    fn a_script_names_its_interpreter_and_a_program_its_loader() {
        assert_eq!(of(b"#!/bin/sh\nx"), Some("/bin/sh".into()));
        assert_eq!(of(b"#! \t/usr/bin/env python3\n"), Some("/usr/bin/env".into()));
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        let loader = interpreter(&shell).expect("a dynamic program");
        assert!(loader.to_string_lossy().contains("ld-"), "{loader:?}");
    }

    #[test]
    fn nothing_is_read_from_what_is_cut_short_or_wrong() {
        for content in [&b""[..], b"#!", b"#!\n", b"#!relative\n", b"\x7fELF", &[0x7f, b'E', b'L', b'F', 2], b"text"] {
            assert_eq!(of(content), None, "{content:?}");
        }
        let mut wrong = [0xffu8; 256];
        wrong[..4].copy_from_slice(b"\x7fELF");
        assert_eq!(of(&wrong), None);
        assert_eq!(interpreter(Path::new("/dev/null")), None);
    }
}
