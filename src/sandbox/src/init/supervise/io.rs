//! What the sandbox's processes have read from and written to block devices, for a host whose cgroups do not count it.
//!
//! The kernel adds the figures of a reaped process to its parent's (wait4 in kernel/exit.c), so those of the ended ones are found in their
//! ancestors': in the end all are the init's, less what its own thread did for the logs.

use procfs::ProcError;
use procfs::process::{Io, Process, all_processes};

use super::Supervisor;
use super::as_worker::as_worker;
use crate::protocol::{FromInit, IoBytes, ProcessIo};

/// More processes than that are not asked one by one.
const MAX_PROCESSES: usize = 1024;

impl Supervisor {
    pub(super) fn tell_io(&mut self, seq: u64) {
        let bytes = ended().and_then(|ended| {
            // Those of the worker's uid are open to that uid alone (ptrace(2), "Ptrace access mode checking").
            let living = as_worker(&self.context.plan.credentials, living).ok()??;
            Some(IoBytes { read: ended.read + living.read, written: ended.written + living.written })
        });
        self.say(FromInit::Io { seq, bytes }, vec![]);
    }

    pub(super) fn tell_process_io(&mut self, seq: u64) {
        // Whoever the worker's uid cannot see is left out: nothing was measured of it.
        let processes = as_worker(&self.context.plan.credentials, by_process).unwrap_or_default();
        self.say(FromInit::ProcessIo { seq, processes }, vec![]);
    }
}

/// Of each that lives and can be seen, the init's own aside.
fn by_process() -> Vec<ProcessIo> {
    let all = all_processes().into_iter().flatten().flatten().filter(|p| p.pid() != 1).take(MAX_PROCESSES);
    all.filter_map(|p| Some(ProcessIo { pid: p.pid(), start_ticks: p.stat().ok()?.starttime, bytes: of(&p.io().ok()?) })).collect()
}

/// Of all that have ended and were reaped.
pub(super) fn ended() -> Option<IoBytes> {
    let own = Process::myself().ok()?;
    let all = of(&own.io().ok()?);
    let thread = of(&own.task_main_thread().ok()?.io().ok()?);
    Some(IoBytes { read: all.read.saturating_sub(thread.read), written: all.written.saturating_sub(thread.written) })
}

/// Of all that live; `None` where one keeps its figures to itself.
fn living() -> Option<IoBytes> {
    let mut sum = IoBytes::default();
    for (number, process) in all_processes().ok()?.enumerate() {
        let io = match process.and_then(|p| if p.pid() == 1 { Ok(IoBytes::default()) } else { p.io().map(|io| of(&io)) }) {
            Ok(_) if number >= MAX_PROCESSES => return None,
            Ok(io) => io,
            // It has ended meanwhile, and is counted where it was reaped.
            Err(ProcError::NotFound(_)) => continue,
            Err(_) => return None,
        };
        sum.read += io.read;
        sum.written += io.written;
    }
    Some(sum)
}

/// What was written and then truncated never went to a device.
fn of(io: &Io) -> IoBytes {
    IoBytes { read: io.read_bytes, written: io.write_bytes.saturating_sub(io.cancelled_write_bytes) }
}
