//! The same sandbox on kernels without the new mount calls, and below filters that deny them.

use sandbox_tests::{Ended, Sandboxed, is_root};

const FIXTURE: &str = env!("CARGO_BIN_EXE_deny-calls");
const CALLS: &str = "open_tree,move_mount,mount_setattr,fsopen,fsmount,fspick,fsconfig";
const ENOSYS: &str = "38";
const EPERM: &str = "1";

/// What can be seen of mounts from inside: kinds, places and options of all, and what writing to them gives.
const LOOK: &str = "cut -d' ' -f5,6 /proc/self/mountinfo | sed 's/,relatime//' | sort; \
    for f in /x /usr/x /bin/x /sys/x /etc/x /tmp/x /dev/shm/x /proc/sys/kernel/core_pattern; do touch $f 2>/dev/null && echo wrote $f; done; \
    wc -c < /proc/kallsyms; ls /dev | tr '\\n' ' '; echo";

fn sandboxed(extra: &str) -> Sandboxed {
    Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n{extra}"))
}

fn below(errno: &str, calls: &str, extra: &str) -> Ended {
    sandboxed(extra).below(&[FIXTURE, errno, calls]).sh(LOOK)
}

#[test]
fn the_classic_way_makes_the_same_mounts() {
    if !is_root() {
        return;
    }
    let new = sandboxed("").sh(LOOK);
    assert!(new.stdout.contains("/usr ro,nosuid,nodev") && new.stdout.contains("/proc/sys ro,nosuid,nodev,noexec"), "{new:?}");
    assert!(new.stdout.contains("wrote /tmp/x") && !new.stdout.contains("wrote /usr"), "{new:?}");
    for (errno, calls) in [(ENOSYS, CALLS), (EPERM, CALLS), (ENOSYS, "mount_setattr"), (EPERM, "mount_setattr"), (EPERM, "move_mount")] {
        let classic = below(errno, calls, "");
        assert_eq!((classic.status, &classic.stdout), (new.status, &new.stdout), "{errno} from {calls}: {}", classic.stderr);
    }
}

#[test]
fn what_the_host_has_mounted_below_a_bind_is_confined_like_the_bind() {
    if !is_root() {
        return;
    }
    // A mount namespace of the test's own: /run/m with a file system below it that may be written and executed.
    let directory = tempfile::tempdir_in("/run").expect("a directory");
    let path = directory.path().display().to_string();
    let outer = format!("mkdir {path}/sub && mount -t tmpfs none {path}/sub && exec \"$@\"");
    let policy = format!("[filesystem]\nread_only = [\"/usr\", \"/bin\", \"/lib\", \"/lib64\", \"{path}\"]");
    let look = format!("grep -c ' {path}' /proc/self/mountinfo; touch {path}/sub/x && echo wrote");
    let unshare = ["unshare", "-m", "sh", "-c", &outer, "sh"];
    let host = std::process::Command::new("unshare").args(&unshare[1..]).args(["touch", &format!("{path}/sub/x")]).status();
    assert!(host.is_ok_and(|s| s.success()), "outside it can be written");
    std::fs::remove_dir(directory.path().join("sub")).expect("the mount point");
    for classic in [&[][..], &[FIXTURE, ENOSYS, CALLS]] {
        let prefix: Vec<&str> = unshare.iter().chain(classic).copied().collect();
        let ended = sandboxed(&policy).below(&prefix).sh(&look);
        assert_eq!(ended.stdout, "2\n", "{ended:?}");
        assert!(ended.stderr.contains("Read-only file system"), "{ended:?}");
        std::fs::remove_dir(directory.path().join("sub")).expect("the mount point");
    }
}

#[test]
fn a_mount_that_the_host_makes_later_is_not_seen_inside() {
    if !is_root() {
        return;
    }
    let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir_in("/run");
    let directory = directory.expect("a directory");
    let path = directory.path().display().to_string();
    // Shared, as everything is under systemd; another process mounts something there while the worker looks.
    let outer = format!(
        "mount -t tmpfs none {path} && mount --make-shared {path} && mkdir {path}/sub && \
         (until [ -e {path}/go ]; do sleep 0.05; done; mount -t tmpfs none {path}/sub && touch {path}/sub/new; touch {path}/done) & exec \"$@\""
    );
    let policy = format!("[filesystem]\nread_write = [\"{path}\"]");
    let look =
        format!("touch {path}/go; until [ -e {path}/done ]; do sleep 0.05; done; ls {path}/sub; grep -c ' {path}' /proc/self/mountinfo");
    for classic in [&[][..], &[FIXTURE, ENOSYS, CALLS]] {
        let prefix: Vec<&str> =
            ["unshare", "-m", "--propagation", "private", "sh", "-c", &outer, "sh"].iter().chain(classic).copied().collect();
        let ended = sandboxed(&policy).below(&prefix).sh(&look);
        assert_eq!(ended.stdout, "1\n", "{ended:?}");
    }
}
