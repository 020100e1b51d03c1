//! Capabilities, filters, domains and devices against one another.

use std::collections::BTreeSet;

use super::Findings;
use crate::explain::show;
use crate::file::{Gpus, LandlockMode};
use crate::plan::NetworkMode;

type Probe = (&'static str, [u32; 6]);

const fn call(name: &'static str) -> Probe {
    (name, [0; 6])
}

/// What each capability is for: where a filter refuses all of it, granting the capability changes nothing (capabilities(7)). Those that
/// also count for calls that everybody makes, such as CAP_DAC_OVERRIDE, are not listed.
const NEEDS: &[(&str, &[Probe])] = &[
    ("CAP_AUDIT_CONTROL", &[NETLINK_AUDIT]),
    ("CAP_AUDIT_READ", &[NETLINK_AUDIT]),
    ("CAP_AUDIT_WRITE", &[NETLINK_AUDIT]),
    ("CAP_BPF", &[call("bpf")]),
    ("CAP_MKNOD", &[("mknod", [0, 0x2000, 0, 0, 0, 0]), ("mknodat", [0, 0, 0x2000, 0, 0, 0])]),
    ("CAP_NET_RAW", &[("socket", [2, 3, 1, 0, 0, 0]), ("socket", [17, 3, 0, 0, 0, 0])]),
    ("CAP_PERFMON", &[call("perf_event_open"), call("bpf")]),
    ("CAP_SYS_ADMIN", &[call("mount"), call("setns"), call("unshare"), call("bpf"), call("fanotify_init"), call("quotactl")]),
    ("CAP_SYS_BOOT", &[call("reboot"), call("kexec_load"), call("kexec_file_load")]),
    ("CAP_SYS_CHROOT", &[call("chroot"), call("setns")]),
    ("CAP_SYS_MODULE", &[call("init_module"), call("finit_module"), call("delete_module")]),
    ("CAP_SYS_PACCT", &[call("acct")]),
    ("CAP_SYS_PTRACE", &[call("ptrace"), call("process_vm_readv"), call("process_vm_writev"), call("pidfd_getfd"), call("kcmp")]),
    ("CAP_SYS_RAWIO", &[call("iopl"), call("ioperm")]),
    ("CAP_SYS_TIME", &[call("settimeofday"), call("clock_settime"), call("adjtimex"), call("clock_adjtime")]),
    ("CAP_SYSLOG", &[call("syslog")]),
];
/// `socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)`.
const NETLINK_AUDIT: Probe = ("socket", [16, 3, 9, 0, 0, 0]);
/// Beginnings of the nodes of GPUs.
const GPU_NODES: [&str; 4] = ["/dev/nvidia", "/dev/dri/", "/dev/kfd", "/dev/dxg"];

pub(super) fn look(findings: &mut Findings<'_>) {
    capabilities(findings);
    layers(findings);
    devices(findings);
    reasons(findings);
}

fn capabilities(findings: &mut Findings<'_>) {
    let policy = findings.policy();
    let names: Vec<String> = policy.credentials.capabilities.iter().map(|c| c.name.clone()).collect();
    for (index, name) in names.iter().enumerate() {
        let at = format!("credentials.capabilities[{index}]");
        if names[..index].contains(name) {
            findings.warning(&at, format!("{name} is granted twice; remove one of the two"));
        }
        let (Some(profile), Some((_, probes))) = (&policy.seccomp.rules, NEEDS.iter().find(|(known, _)| known == name)) else { continue };
        if !probes.iter().any(|(call, args)| profile.permits(call, args, &names)) {
            let calls: BTreeSet<&str> = probes.iter().map(|(call, _)| *call).collect();
            let text = format!(
                "{name} is granted, but the profile {:?} refuses what it is for ({}); remove it, or name a profile that allows them",
                policy.seccomp.profile,
                show::words(calls)
            );
            findings.error(&at, text);
        }
    }
}

fn layers(findings: &mut Findings<'_>) {
    let policy = findings.policy();
    let (filter, domain) = (policy.seccomp.rules.is_some(), policy.landlock.enforce != LandlockMode::None);
    match (policy.network, filter, domain) {
        (NetworkMode::Host, false, false) => {
            findings.warning("network.mode", "with the host's network, no seccomp profile and no Landlock nothing but file permissions is between a worker and the host; take one of them back");
        }
        (NetworkMode::Host, _, false) => {
            findings.warning(
                "landlock.enforce",
                "on the host's network Landlock is all that keeps a worker to its own port; say if_available at least",
            );
        }
        (NetworkMode::Host, _, true) => {
            findings.note("network.mode", "a worker reaches whatever the host can; say private where it need not");
        }
        (_, false, false) => {
            findings.warning(
                "seccomp.profile",
                "with neither seccomp nor Landlock the whole kernel is open to a worker; take one of the two back",
            );
        }
        _ => {}
    }
}

fn devices(findings: &mut Findings<'_>) {
    let devices = &findings.policy().devices;
    for (index, node) in devices.nodes.iter().enumerate() {
        let at = format!("devices.nodes[{index}]");
        let shown = node.path.display();
        match devices.nodes[..index].iter().find(|other| other.path == node.path) {
            Some(other) if other.access == node.access => findings.warning(&at, format!("{shown} is granted twice; remove one of the two")),
            Some(other) => {
                let (now, before) = (show::access(node.access), show::access(other.access));
                findings.error(&at, format!("{shown} is granted with {before:?} and again with {now:?}; grant it once"));
            }
            None => {}
        }
        if devices.gpus == Gpus::Leased && GPU_NODES.iter().any(|gpu| node.path.to_string_lossy().starts_with(gpu)) {
            findings.warning(
                &at,
                format!("{shown} is open to every worker, whoever leases a GPU; remove it: a lease grants the nodes of its GPUs"),
            );
        }
    }
}

fn reasons(findings: &mut Findings<'_>) {
    let policy = findings.policy();
    if policy.seccomp.reason.is_some() && policy.seccomp.rules.is_some() {
        findings.warning("seccomp.reason", "a reason goes with profile = \"none\"; remove it");
    }
    if policy.landlock.reason.is_some() && policy.landlock.enforce != LandlockMode::None {
        findings.warning("landlock.reason", "a reason goes with enforce = \"none\"; remove it");
    }
}
