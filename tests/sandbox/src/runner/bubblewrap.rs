//! bubblewrap as the ordinary user that it is made for, with every switch of its own that makes it stricter.

use std::path::Path;
use std::process::Command;

pub(super) fn command(script: &str, shared: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--keep-groups", "--", "bwrap"]);
    command.args(["--unshare-user", "--disable-userns", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]);
    command.args(["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]);
    command.args(["--setenv", "PATH", "/usr/bin:/bin", "--hostname", "inside"]);
    for path in ["/usr", "/bin", "/lib", "/lib64"] {
        command.args(["--ro-bind", path, path]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]).arg("--bind").arg(shared).arg(shared);
    command.args(["--", "/bin/sh", "-c", script]);
    command
}
