//! What `/proc` and `/sys` show and take, in pairs with the host, where the same paths are readable and writable.

use std::collections::BTreeSet;
use std::path::Path;

use sandbox_tests::{Sandboxed, is_root};

/// What the container runtimes of 2026 cover, and `kallsyms`.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// No filter, so that what refuses is what is meant to refuse.
const BARE: &str = "[worker]\nbinary = \"unused\"\n[seccomp]\nprofile = \"none\"\nreason = \"a test of what is below it\"\n";

fn there(paths: &[&'static str]) -> Vec<&'static str> {
    paths.iter().copied().filter(|path| Path::new(path).exists()).collect()
}

#[test]
fn masked_paths_read_empty() {
    if !is_root() {
        return;
    }
    let paths = there(&MASKED);
    // One file that can be read to its end and one directory at least: the host has something there.
    assert!(std::fs::read("/proc/interrupts").is_ok_and(|text| !text.is_empty()), "this host has no interrupts");
    let script = format!(
        "for p in {}; do [ -e $p ] || continue; if [ -d $p ]; then ls -A $p | wc -l; else wc -c < $p; fi; done; ls /sys /sys/devices | tr '\\n' ' '",
        paths.join(" ")
    );
    let ended = Sandboxed::new().sh(&script);
    let (sizes, sys): (Vec<_>, Vec<_>) = ended.stdout.lines().partition(|line| line.trim().parse::<u64>().is_ok());
    let shown = paths.iter().filter(|path| path.starts_with("/proc")).count();
    assert_eq!(sizes, vec!["0"; shown], "{ended:?}");
    assert_eq!(sys.join(" ").trim(), "/sys: devices  /sys/devices: system", "of /sys only what run-times read: {ended:?}");
}

#[test]
fn counters_of_the_cpus_heat_are_covered() {
    if !is_root() {
        return;
    }
    // A mount namespace in which this machine has them: most virtual machines have none.
    let cpus = "/sys/devices/system/cpu";
    let outer = format!(
        "online=$(cat {cpus}/online); mount -t tmpfs none {cpus}; for c in 0 1; do mkdir -p {cpus}/cpu$c/thermal_throttle; \
         echo 7 > {cpus}/cpu$c/thermal_throttle/core_throttle_count; done; echo $online > {cpus}/online; exec \"$@\""
    );
    let prefix = ["unshare", "-m", "sh", "-c", &outer, "sh"];
    let look = format!("cat {cpus}/cpu[01]/thermal_throttle/*; ls -d {cpus}/cpu[01]/thermal_throttle");
    let host = std::process::Command::new(prefix[0]).args(&prefix[1..]).args(["sh", "-c", &look]).output().expect("unshare");
    let shown = format!("{cpus}/cpu0/thermal_throttle\n{cpus}/cpu1/thermal_throttle\n");
    assert_eq!(String::from_utf8_lossy(&host.stdout), format!("7\n7\n{shown}"));
    let ended = Sandboxed::new().below(&prefix).sh(&look);
    assert_eq!(ended.stdout, shown, "{ended:?}");
}

#[test]
fn what_must_not_be_written_is_read_only_for_everybody() {
    if !is_root() {
        return;
    }
    let look = "while read -r _ _ _ _ place options _; do echo \"$place $options\"; done < /proc/self/mountinfo";
    let ended = Sandboxed::new().sh(look);
    for path in there(&READ_ONLY) {
        let line = ended.stdout.lines().find(|line| line.starts_with(&format!("{path} "))).unwrap_or_default();
        assert!(line.contains(" ro,nosuid,nodev,noexec"), "{path}: {line:?} in {ended:?}");
    }
    let name = "/proc/sys/kernel/hostname";
    let policy = format!("{BARE}[credentials]\ncapabilities = [{{ name = \"CAP_DAC_OVERRIDE\", reason = \"so that no mode refuses\" }}]\n");
    let with = Sandboxed::with_policy(&policy).sh(&format!("echo x > {name}"));
    assert!(with.stderr.contains("Read-only file system"), "{with:?}");
    let without = std::process::Command::new("unshare").args(["-u", "sh", "-c", &format!("echo x > {name}")]).status();
    assert!(without.is_ok_and(|s| s.success()), "where it is not read-only, root writes it");
}

#[test]
fn no_cover_can_be_taken_away_and_no_second_proc_be_mounted() {
    if !is_root() {
        return;
    }
    let paths: Vec<_> = there(&MASKED).into_iter().chain(there(&READ_ONLY)).filter(|path| path.starts_with("/proc")).collect();
    let script = format!(
        "for p in {} /proc /sys/devices/system/cpu /dev/shm /tmp /; do umount $p 2>/dev/null && echo took $p; umount -l $p 2>/dev/null && echo took $p; done; \
         mkdir /tmp/p; mount -t proc proc /tmp/p 2>/dev/null && echo mounted; mount --bind /proc /tmp/p 2>/dev/null && echo bound; \
         mount -o remount,rw /proc/sys 2>/dev/null && echo rw; wc -c < /proc/kallsyms",
        paths.join(" ")
    );
    let ended = Sandboxed::with_policy(BARE).sh(&script);
    assert_eq!(ended.stdout, "0\n", "{ended:?}");
    let unshared = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs none /tmp && mkdir /tmp/p && mount -t proc proc /tmp/p"])
        .status();
    assert!(unshared.is_ok_and(|s| s.success()), "whoever may, can");
}

#[test]
fn other_users_processes_are_not_even_listed() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::with_policy(BARE)
        .sh("ls -d /proc/[0-9]* | tr '\\n' ' '; ls /proc/1 2>&1; grep -o 'hidepid=[a-z0-9]*' /proc/self/mountinfo | sort -u");
    let pids: BTreeSet<&str> = ended.stdout.lines().next().unwrap_or_default().split_whitespace().collect();
    assert!(!pids.contains("/proc/1") && pids.contains("/proc/2"), "{ended:?}");
    assert!(ended.stdout.contains("hidepid="), "{ended:?}");
    assert!(ended.stdout.contains("No such file"), "{ended:?}");
}
