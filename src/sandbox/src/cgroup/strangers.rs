//! Who is in a worker's group and is none of ours: a process that no init of ours is an ancestor of.
//!
//! Everything that a sandbox starts has its init, which is number 1 of its own pid namespace and sits in `<group>/init`, among its ancestors:
//! orphans are given to it (pid_namespaces(7)). Whoever else is in there was put there by somebody who may, and has a life of its own.
//! Must never know: whose worker it is.

use std::path::Path;
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::event::{Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::detect::Hierarchy;
use super::leaf::WorkerLeaf;

/// A sandbox that ends is ended by the kernel, process by process: whoever is still there after this was never of it.
const SETTLED_AFTER: Duration = Duration::from_millis(300);
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// Longest line of ancestors that is followed.
const MAX_ANCESTORS: usize = 256;
/// PF_EXITING of include/linux/sched.h.
const EXITING: u32 = 4;
/// Most that are named.
const MAX_NAMED: usize = 8;

/// The strangers in `group`, one line each for a person; none where all in there are ours, or nobody is.
pub(super) fn among(hierarchies: &[Hierarchy], group: &str) -> Vec<String> {
    let until = Instant::now() + SETTLED_AFTER;
    loop {
        let found = look(hierarchies, group);
        if found.is_empty() || Instant::now() >= until {
            let more = found.len().saturating_sub(MAX_NAMED);
            let lines = found
                .iter()
                .take(MAX_NAMED)
                .map(|(pid, name)| format!("{}: process {pid} ({name}) is none of ours, and is left alone", at(hierarchies, group)));
            let rest = (more > 0).then(|| format!("{}: and {more} more", at(hierarchies, group)));
            return lines.chain(rest).collect();
        }
        let _ = poll(&mut [], Some(&LOOK_AGAIN));
    }
}

/// Kills the inits of ours in `group`, and so all that is theirs, and nobody else.
pub(super) fn kill_ours(hierarchies: &[Hierarchy], group: &str) {
    for pid in inits(hierarchies, group) {
        let Some(fd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
        // Still an init in there: so the descriptor is of the one that was seen.
        if inits(hierarchies, group).contains(&pid) {
            let _ = pidfd_send_signal(&fd, Signal::KILL);
        }
    }
}

fn at(hierarchies: &[Hierarchy], group: &str) -> String {
    hierarchies.first().map_or_else(|| group.to_owned(), |h| h.dir(group).display().to_string())
}

fn look(hierarchies: &[Hierarchy], group: &str) -> Vec<(i32, String)> {
    let inits = inits(hierarchies, group);
    let all = listed(hierarchies, group);
    all.into_iter().filter_map(|pid| Some((pid, stranger(pid, &inits)?))).collect()
}

fn listed(hierarchies: &[Hierarchy], group: &str) -> Vec<i32> {
    WorkerLeaf::open(hierarchies, group).map(|leaf| leaf.pids()).unwrap_or_default()
}

fn inits(hierarchies: &[Hierarchy], group: &str) -> Vec<i32> {
    let path = Path::new(group).join("init");
    let mut inits = listed(hierarchies, &path.to_string_lossy());
    inits.retain(|pid| {
        Process::new(*pid).and_then(|p| p.status()).is_ok_and(|status| is_first(status.nspid.as_deref().unwrap_or_default()))
    });
    inits
}

/// Whether these numbers, from the outer namespace to the inner one, are those of the first process of a namespace within.
fn is_first(numbers: &[i32]) -> bool {
    matches!(numbers, [_, .., 1])
}

/// The name of a process that is none of ours; `None` for one that is, or is on its way out, or is gone.
fn stranger(pid: i32, inits: &[i32]) -> Option<String> {
    let first = Process::new(pid).and_then(|p| p.stat()).ok()?;
    if first.flags & EXITING != 0 || is_killed(pid) {
        return None;
    }
    let mut next = (pid, first.ppid);
    for _ in 0..MAX_ANCESTORS {
        if inits.contains(&next.0) {
            return None;
        }
        if next.1 <= 1 {
            break;
        }
        let parent = Process::new(next.1).and_then(|p| p.stat()).ok()?;
        next = (parent.pid, parent.ppid);
    }
    Some(first.comm)
}

/// Whether SIGKILL waits for it, as it does while a call in the kernel does not return.
fn is_killed(pid: i32) -> bool {
    let bit = 1_u64 << (libc::SIGKILL - 1);
    Process::new(pid).and_then(|p| p.status()).is_ok_and(|status| (status.sigpnd | status.shdpnd) & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_of_a_namespace_within_is_told_by_its_numbers() {
        assert!(is_first(&[4711, 1]) && is_first(&[4711, 17, 1]));
        assert!(!is_first(&[1]), "that of this namespace is no init of ours");
        assert!(!is_first(&[4711]) && !is_first(&[4711, 2]) && !is_first(&[]));
    }

    #[test]
    fn a_descendant_is_ours_and_everybody_else_is_not() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let (own, pid) = (std::process::id() as i32, child.id() as i32);
        assert_eq!(stranger(pid, &[own]), None);
        assert_eq!(stranger(pid, &[pid]), None);
        assert!(stranger(pid, &[]).is_some() && stranger(own, &[pid]).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(stranger(pid, &[]), None, "it is gone");
    }
}
