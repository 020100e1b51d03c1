//! crun, with the configuration that an engine gives it by default: no capability, masked and read-only paths, limits, a device list.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{MEMORY_MAX, PIDS_MAX};

/// Those of podman and containerd.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];

/// It refuses a hybrid layout of cgroups unless the v2 part is out of its sight.
const SCRIPT: &str =
    "[ ! -d /sys/fs/cgroup/unified ] || umount /sys/fs/cgroup/unified; exec crun --root \"$0/state\" run --bundle \"$0\" \"$1\"";

pub(super) fn command(script: &str, shared: &Path, bundle: &Path) -> Command {
    let root = bundle.join("root");
    for directory in ["", "usr", "bin", "lib", "lib64", "proc", "dev", "sys", "tmp", "etc"] {
        fs::create_dir_all(root.join(directory)).expect("make a root");
    }
    fs::create_dir_all(root.join(shared.strip_prefix("/").unwrap_or(shared))).expect("make a root");
    fs::write(bundle.join("config.json"), configuration(script, shared).to_string()).expect("write its configuration");
    let id = bundle.file_name().expect("a name");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", SCRIPT]).arg(bundle).arg(id);
    command
}

fn configuration(script: &str, shared: &Path) -> Value {
    let bind = |path: &str| json!({"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro", "nosuid", "nodev"]});
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "size=64m"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]}),
        json!({"destination": shared, "source": shared, "type": "bind", "options": ["bind", "rw", "nosuid", "nodev"]}),
    ];
    mounts.extend(["/usr", "/bin", "/lib", "/lib64"].map(bind));
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "root", "readonly": true},
        "hostname": "inside",
        "process": {
            "terminal": false,
            "user": {"uid": 1000, "gid": 1000},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []},
            "noNewPrivileges": true
        },
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": PIDS_MAX}, "memory": {"limit": MEMORY_MAX}}
        }
    })
}
