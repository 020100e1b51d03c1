//! Load on memory, CPU, process table and output.
//!
//! Owns: how each is made. Must never know: who asked (flag or query).

use std::hint::black_box;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::options::Role;

const PAGE: usize = 4096;
const SLICE: u64 = 1 << 20;
/// What was allocated stays so until the process ends.
static HELD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Children are kept, so that none is reaped before the sandbox ends.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Allocates `bytes` and touches each page, a MiB at a time so that a memory limit strikes in the middle.
pub(crate) fn hold_memory(bytes: u64) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut left = bytes;
    while left > 0 {
        let size = left.min(SLICE);
        let mut slice = vec![0_u8; usize::try_from(size).unwrap_or(PAGE)];
        for page in slice.chunks_mut(PAGE) {
            if let Some(first) = page.first_mut() {
                *first = 1;
            }
        }
        held.push(black_box(slice));
        left -= size;
    }
}

/// Burns CPU on this thread for `duration`.
pub(crate) fn spin(duration: Duration) {
    let end = Instant::now() + duration;
    let mut rounds = 0_u64;
    while Instant::now() < end {
        rounds = black_box(rounds.wrapping_add(1));
    }
}

/// Starts `count` threads that burn CPU until the process ends.
pub(crate) fn spin_for_ever(count: u32) {
    for _ in 0..count {
        thread::spawn(|| {
            let mut rounds = 0_u64;
            loop {
                rounds = black_box(rounds.wrapping_add(1));
            }
        });
    }
}

/// Starts up to `count` idle children; tells how many there are, and the error that ended the series early.
pub(crate) fn start_children(count: u32) -> (u32, Option<io::Error>) {
    for started in 0..count {
        match start_self(Role::Idle) {
            Ok(child) => CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).push(child),
            Err(error) => return (started, Some(error)),
        }
    }
    (count, None)
}

/// Starts an idle child that touches `bytes` of memory first.
pub(crate) fn start_hog(bytes: u64) -> io::Result<()> {
    let hog = start(Role::Idle, &["--alloc", &bytes.to_string()])?;
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).push(hog);
    Ok(())
}

/// Starts this program once more in another role, with nothing of the parent's standard streams.
pub(crate) fn start_self(role: Role) -> io::Result<Child> {
    start(role, &[])
}

fn start(role: Role, more: &[&str]) -> io::Result<Child> {
    let role = match role {
        Role::Worker => "worker",
        Role::Idle => "idle",
        Role::SessionLeader => "session-leader",
    };
    let mut command = Command::new("/proc/self/exe");
    command.args(["--role", role]).args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Leaves a grandchild in a session of its own, whose parent is gone.
pub(crate) fn daemonize() -> io::Result<()> {
    start_self(Role::SessionLeader)?.wait().map(drop)
}

/// Prints `bytes` bytes of numbered lines to standard output.
pub(crate) fn print(bytes: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut left = bytes;
    let mut number = 0_u64;
    while left > 0 {
        let line = format!("{number:012} the quick brown fox jumps over the lazy dog, again and again\n");
        let take = line.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.write_all(&line.as_bytes()[..take])?;
        left -= take as u64;
        number += 1;
    }
    out.flush()
}

/// A call that no worker has business with, and that does nothing on any machine: there is no module of that name.
pub(crate) fn remove_a_module_that_is_not_there() -> io::Result<()> {
    let answer = nix::kmod::delete_module(c"rbee_hive_no_such_module", nix::kmod::DeleteModuleFlags::O_NONBLOCK);
    writeln!(io::stdout(), "delete_module: {answer:?}")
}
