//! The system calls that were made, and what of the base's refusals still has a meaning beside them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Observations, WatchPlan};
use crate::seccomp::{Allow, Refuse, SeccompProfile, known_call};

/// What starts and ends every worker: the launcher's own code needs it once the filter is loaded.
const STARTING: [&str; 3] = ["execve", "exit_group", "sendmsg"];
/// Calls that a program makes or not by timing, once it makes the first: how threads meet, what an interrupted wait goes on with,
/// how much an allocator has at hand. One run that went without says nothing about the next.
const COMPANIONS: &[(&str, &[&str])] = &[
    ("execve", &["restart_syscall"]),
    ("rt_sigaction", &["rt_sigreturn"]),
    ("clone", &["futex", "exit", "set_robust_list", "rseq", "sched_yield"]),
    ("clone3", &["futex", "exit", "set_robust_list", "rseq", "sched_yield"]),
    ("brk", &["mmap", "munmap"]),
    ("mmap", &["munmap", "mremap", "madvise"]),
    ("exit_group", &["exit"]),
];

/// What is allowed, for each reason one entry. Never more than `profile` allows.
pub(super) fn allowed(seen: &Observations, profile: Option<&SeccompProfile>) -> Vec<Allow> {
    let ceiling: Option<BTreeSet<&str>> = profile.map(|p| p.allow.iter().flat_map(|a| &a.calls).map(String::as_str).collect());
    let may = |call: &str| known_call(call) && ceiling.as_ref().is_none_or(|c| c.contains(call));
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut given: BTreeSet<&str> = STARTING.into_iter().collect();
    for (call, by) in seen.calls.iter().filter(|(call, _)| may(call)) {
        if given.insert(call) {
            reasons.entry(format!("made by {by} while learning")).or_default().push(call.clone());
        }
    }
    let made = given.clone();
    let mut companions = Vec::new();
    for (_, others) in COMPANIONS.iter().filter(|(call, _)| made.contains(call)) {
        companions.extend(others.iter().filter(|call| may(call) && given.insert(call)).map(|call| (*call).to_owned()));
    }
    let entry = |reason: &str, calls: Vec<String>| Allow { calls, reason: reason.to_owned() };
    let mut list =
        vec![entry("to start and to end; sendmsg is the launcher's own last word before it", STARTING.map(str::to_owned).to_vec())];
    list.extend(reasons.into_iter().map(|(reason, calls)| entry(&reason, calls)));
    if !companions.is_empty() {
        companions.sort_unstable();
        list.push(entry("made or not by timing, with others that were made while learning", companions));
    }
    list
}

/// The base's refusals: of whole calls all, since they grant nothing and programs ask for them; of some uses those of calls that are allowed.
pub(super) fn refused(allowed: &[Allow], watch: &WatchPlan) -> Vec<Refuse> {
    let capabilities: Vec<String> = watch.base.credentials.capabilities.iter().map(|c| c.name.clone()).collect();
    let given: BTreeSet<&str> = allowed.iter().flat_map(|a| &a.calls).map(String::as_str).collect();
    let mut list = Vec::new();
    for entry in watch.profile.iter().flat_map(|p| p.refused(&capabilities)) {
        let mut kept = entry.clone();
        kept.calls.retain(|call| given.contains(call.as_str()) != entry.when.is_empty());
        if !kept.calls.is_empty() {
            list.push(kept);
        }
    }
    list
}
