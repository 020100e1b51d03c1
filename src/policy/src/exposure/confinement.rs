//! What stands between a worker and the kernel: its filter, its capabilities, its uid, its domain.

use super::Measured;
use crate::explain::show;
use crate::file::{LandlockMode, MaySet, Policy};

/// What a filter is for: each of these has been a way out of a sandbox, or changes the host.
const DANGEROUS: [&str; 18] = [
    "bpf",
    "finit_module",
    "init_module",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mount",
    "move_mount",
    "open_by_handle_at",
    "perf_event_open",
    "pidfd_getfd",
    "process_vm_writev",
    "ptrace",
    "reboot",
    "setns",
    "unshare",
    "userfaultfd",
];
/// Capabilities that amount to the host's root, or to reading all of its files (capabilities(7)).
const ROOT_LIKE: [&str; 17] = [
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYSLOG",
];

pub(super) fn seccomp(policy: &Policy) -> Measured {
    let openness = if policy.seccomp.rules.is_some() { 0.0 } else { 1.0 };
    let remedy = "name a profile, such as profile = \"inference\", instead of \"none\"";
    Measured { value: policy.seccomp.profile.clone(), openness, remedy }
}

pub(super) fn dangerous_calls(policy: &Policy) -> Measured {
    let remedy = "take calls that no worker needs out of the profile's [[allow]]";
    let Some(profile) = &policy.seccomp.rules else {
        return Measured { value: "every call".into(), openness: 1.0, remedy };
    };
    let open = DANGEROUS.iter().filter(|call| profile.allow.iter().any(|entry| entry.calls.iter().any(|c| c == *call)));
    let open: Vec<&str> = open.copied().collect();
    let value = match open.as_slice() {
        [] => format!("none of {} dangerous calls", DANGEROUS.len()),
        open => show::words(open),
    };
    // The first one opens most.
    Measured { value, openness: (open.len() as f64).min(4.0) / 4.0, remedy }
}

pub(super) fn capabilities(policy: &Policy) -> Measured {
    let names: Vec<&str> = policy.credentials.capabilities.iter().map(|c| c.name.as_str()).collect();
    let openness = match names.iter().any(|name| ROOT_LIKE.contains(name)) {
        true => 1.0,
        false => (names.len() as f64 * 0.3).min(0.9),
    };
    Measured { value: show::words(&names), openness, remedy: "grant no capability: what needs one belongs outside of the worker" }
}

pub(super) fn user(policy: &Policy) -> Measured {
    let user = policy.credentials.user.clone();
    let openness = match user.as_str() {
        "per-worker" => 0.0,
        "user-namespace" => 0.4,
        _ => 0.8,
    };
    Measured { value: user, openness, remedy: "let each worker have a uid of its own: user = \"per-worker\"" }
}

pub(super) fn landlock(policy: &Policy) -> Measured {
    let (value, openness, remedy) = match policy.landlock.enforce {
        LandlockMode::Required => ("required", 0.0, ""),
        LandlockMode::IfAvailable => ("if_available", 0.1, "say enforce = \"required\" where every host has Landlock ABI 6"),
        LandlockMode::None => ("none", 1.0, "say enforce = \"if_available\" at least"),
    };
    Measured { value: value.into(), openness, remedy }
}

pub(super) fn may_set(policy: &Policy) -> Measured {
    let request = &policy.request;
    let each = request.may_set.iter().map(|what| match what {
        MaySet::Args => ("args", 0.3),
        MaySet::Env => ("env", 0.4),
        // Downwards only, unless there is a maximum to go up to.
        MaySet::Limits if request.max.is_empty() => ("limits", 0.0),
        MaySet::Limits if request.max.values().any(crate::LimitValue::is_max) => ("limits up to no limit", 0.3),
        MaySet::Limits => ("limits up to [request.max]", 0.1),
    });
    let (words, openness): (Vec<&str>, Vec<f64>) = each.unzip();
    let remedy = "list in may_set only what callers need";
    Measured { value: show::words(words), openness: openness.iter().sum(), remedy }
}

pub(super) fn umask(policy: &Policy) -> Measured {
    let umask = policy.process.umask;
    let openness = match (umask & 0o002, umask & 0o020) {
        (0, _) => 1.0,
        (_, 0) => 0.5,
        _ => 0.0,
    };
    Measured { value: format!("{umask:04o}"), openness, remedy: "say umask = \"0022\": nobody else writes the worker's files" }
}
