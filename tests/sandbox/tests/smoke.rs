//! The fixtures themselves work on this machine, whatever its cgroup mode.

use std::time::Duration;

use test_support::{eventually, exclusively, require_root, skip};

#[test]
fn a_cgroup_of_our_own_can_be_made_and_removed_in_some_hierarchy() {
    require_root!();
    let _alone = exclusively();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup2 ") || line.contains(" - cgroup "));
    let Some(mount) = hierarchies.find_map(|line| line.split(' ').nth(4)) else {
        skip!("a cgroup hierarchy");
    };
    let group = format!("{mount}/rbee-hive-test-smoke-{}", std::process::id());
    std::fs::create_dir(&group).unwrap();
    assert!(std::path::Path::new(&group).join("cgroup.procs").exists());
    std::fs::remove_dir(&group).unwrap();
    assert!(!std::path::Path::new(&group).exists());
}

#[test]
fn the_mock_worker_answers_its_health_check_when_it_is_ready() {
    let mut mock =
        std::process::Command::new(test_support::mock_binary()).args(["--port", "9899", "--start-delay-ms", "200"]).spawn().unwrap();
    let first = eventually("an answer", Duration::from_secs(10), || test_support::http_get(9899, "/health").ok());
    eventually("readiness", Duration::from_secs(10), || test_support::http_get(9899, "/health").ok().filter(|reply| reply.status == 200));
    mock.kill().unwrap();
    mock.wait().unwrap();
    assert!(first.status == 503 || first.status == 200, "{}", first.status);
}
