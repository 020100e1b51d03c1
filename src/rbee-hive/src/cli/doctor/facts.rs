//! What is read off the host, as text: nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::cgroups::mounts;

/// Kinds of namespaces, as `/proc/self/ns` names them, each with its file of limits in `/proc/sys/user`.
pub(super) const NAMESPACES: [(&str, &str); 7] = [
    ("mnt", "max_mnt_namespaces"),
    ("pid", "max_pid_namespaces"),
    ("ipc", "max_ipc_namespaces"),
    ("uts", "max_uts_namespaces"),
    ("net", "max_net_namespaces"),
    ("cgroup", "max_cgroup_namespaces"),
    ("user", "max_user_namespaces"),
];

/// The texts. `None` is a file that is not there or can't be read.
#[derive(Clone, Debug, Default)]
pub(super) struct HostTexts {
    /// `/proc/sys/kernel/osrelease`
    pub(super) kernel: String,
    /// `/proc/self/mountinfo`
    pub(super) mountinfo: String,
    /// `cgroup.controllers` at the v2 mount.
    pub(super) v2_controllers: Option<String>,
    /// Cgroup mount points that this process may write.
    pub(super) writable: BTreeSet<String>,
    /// Whether v1's memory controller counts swap.
    pub(super) v1_memsw: bool,
    /// `/sys/kernel/security/lsm`
    pub(super) lsm: Option<String>,
    /// `/proc/sys/kernel/seccomp/actions_avail`
    pub(super) seccomp_actions: Option<String>,
    /// Kinds found in `/proc/self/ns`.
    pub(super) namespaces: BTreeSet<String>,
    /// Limits by the names of [`NAMESPACES`].
    pub(super) namespace_limits: BTreeMap<String, String>,
    /// `/proc/sys/kernel/unprivileged_userns_clone` (Debian).
    pub(super) userns_clone: Option<String>,
    /// `/proc/sys/kernel/apparmor_restrict_unprivileged_userns` (Ubuntu).
    pub(super) userns_apparmor: Option<String>,
    /// `/proc/self/status`
    pub(super) status: String,
    /// `/proc/swaps`
    pub(super) swaps: Option<String>,
    /// `/proc/pressure/memory`
    pub(super) pressure: Option<String>,
}

impl HostTexts {
    /// Reads them.
    pub(super) fn read() -> Self {
        let mountinfo = text("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts(&mountinfo);
        let writable = mounts.all().filter(|path| access(*path, AccessFlags::W_OK).is_ok()).map(str::to_owned).collect();
        let v2_controllers = mounts.v2.as_ref().and_then(|mount| text(&format!("{mount}/cgroup.controllers")));
        let v1_memsw = mounts.v1.get("memory").is_some_and(|mount| Path::new(&format!("{mount}/memory.memsw.limit_in_bytes")).exists());
        let exists = |kind: &str| Path::new("/proc/self/ns").join(kind).symlink_metadata().is_ok();
        let limit = |(kind, file): (&str, &str)| text(&format!("/proc/sys/user/{file}")).map(|limit| (kind.to_owned(), limit));
        Self {
            kernel: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
            v2_controllers,
            writable,
            v1_memsw,
            lsm: text("/sys/kernel/security/lsm"),
            seccomp_actions: text("/proc/sys/kernel/seccomp/actions_avail"),
            namespaces: NAMESPACES.iter().filter(|(kind, _)| exists(kind)).map(|(kind, _)| (*kind).to_owned()).collect(),
            namespace_limits: NAMESPACES.into_iter().filter_map(limit).collect(),
            userns_clone: text("/proc/sys/kernel/unprivileged_userns_clone"),
            userns_apparmor: text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            status: text("/proc/self/status").unwrap_or_default(),
            swaps: text("/proc/swaps"),
            pressure: text("/proc/pressure/memory"),
            mountinfo,
        }
    }
}

fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
