//! Limits that the kernel enforces: the act works below, fails above, and the host goes on.

use sandbox_tests::{Sandboxed, is_root};

fn with_limits(limits: &str) -> Sandboxed {
    Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n[limits]\n{limits}"))
}

/// Touches `mib` MiB of memory in the shell's own child.
fn touch(mib: u32) -> String {
    format!("head -c {mib}M /dev/zero | tail -c {mib}M | wc -c; exit 0")
}

#[test]
fn memory_over_its_limit_is_an_oom_kill_by_the_cgroups_own_count() {
    if !is_root() {
        return;
    }
    let below =
        with_limits("memory_max = \"128MiB\"\nswap_max = \"0\"").run(&["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=50M", "count=1"]);
    assert_eq!(below.status, Some(0), "{}", below.stderr);
    let above =
        with_limits("memory_max = \"64MiB\"\nswap_max = \"0\"").run(&["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    assert_eq!((above.status, above.kind()), (Some(137), "oom_killed"), "{above:?}");
    assert_eq!(above.report["limit"].as_u64(), Some(64 << 20), "{above:?}");
    assert!(above.report["peak"].is_null() || above.report["peak"].as_u64().is_some_and(|p| p > 32 << 20), "{above:?}");
}

#[test]
fn a_limit_too_small_to_start_is_a_failed_step_with_a_hint() {
    if !is_root() {
        return;
    }
    let ended = with_limits("memory_max = \"4KiB\"\nswap_max = \"0\"").sh("true");
    assert_eq!((ended.status, ended.kind(), ended.report["errno"].as_i64()), (Some(125), "setup_failed", Some(12)), "{ended:?}");
    assert!(ended.report["hint"].as_str().is_some_and(|h| h.contains("memory_max")), "{ended:?}");
}

#[test]
fn a_kill_that_is_not_out_of_memory_is_not_called_so() {
    if !is_root() {
        return;
    }
    let ended = with_limits("memory_max = \"128MiB\"").sh("kill -KILL $$");
    assert_eq!((ended.status, ended.kind()), (Some(137), "signaled"), "{ended:?}");
}

#[test]
fn a_fork_bomb_ends_at_pids_max_and_the_host_still_forks() {
    if !is_root() {
        return;
    }
    let bomb = "i=0; while [ $i -lt 60 ]; do sleep 3 & i=$((i+1)); done; echo all $i";
    let bounded = with_limits("pids_max = 20").sh(bomb);
    assert!(!bounded.stdout.contains("all 60"), "{bounded:?}");
    assert!(std::process::Command::new("true").status().is_ok_and(|s| s.success()), "the host can't fork");
    let free = with_limits("pids_max = 200").sh(bomb);
    assert!(free.stdout.contains("all 60"), "{free:?}");
}

#[test]
fn a_cpuset_is_what_the_kernel_reports() {
    if !is_root() {
        return;
    }
    let ended = with_limits("cpuset = \"1\"").sh("grep Cpus_allowed_list /proc/self/status");
    assert_eq!(ended.stdout.trim(), "Cpus_allowed_list:\t1", "{ended:?}");
}

#[test]
fn cpus_bounds_the_time_that_is_used() {
    if !is_root() {
        return;
    }
    let spin =
        "t=$(date +%s%N); end=$((t+2000000000)); while [ $(date +%s%N) -lt $end ]; do :; done; cat /proc/self/stat >/dev/null; times";
    let ended = with_limits("cpus = 0.2").sh(spin);
    let seconds: f64 = ended
        .stdout
        .split_whitespace()
        .filter_map(|t| {
            let (m, s) = t.trim_end_matches('s').split_once('m')?;
            Some(m.parse::<f64>().ok()? * 60.0 + s.parse::<f64>().ok()?)
        })
        .sum();
    assert!(seconds > 0.05 && seconds < 1.2, "0.2 CPUs for 2 s gave {seconds} s: {ended:?}");
}

#[test]
fn open_files_is_a_hard_limit() {
    if !is_root() {
        return;
    }
    let ended = with_limits("open_files = 64").sh("ulimit -n; ulimit -Hn");
    assert_eq!(ended.stdout, "64\n64\n", "{ended:?}");
}

#[test]
fn a_pipeline_below_its_limit_is_left_alone() {
    if !is_root() {
        return;
    }
    let ended = with_limits("memory_max = \"256MiB\"").sh(&touch(20));
    assert_eq!((ended.status, ended.stdout.trim()), (Some(0), "20971520"), "{ended:?}");
}
