//! `rbee-hive run`: streams, status and verdict of one foreground command.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sandbox_tests::{Sandboxed, is_root};

#[test]
fn output_and_status_are_the_commands_own() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().sh("echo out; echo err >&2; exit 7");
    assert_eq!((ended.status, ended.stdout.as_str(), ended.stderr.as_str()), (Some(7), "out\n", "err\n"), "{ended:?}");
    assert_eq!((ended.kind(), ended.report["code"].as_i64()), ("exited", Some(7)));
}

#[test]
fn stdin_is_passed_through_byte_for_byte() {
    if !is_root() {
        return;
    }
    let bytes: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    let ended = Sandboxed::new().stdin(&bytes).sh("cksum");
    let here = std::process::Command::new("cksum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().and_then(|mut c| {
        std::io::Write::write_all(&mut c.stdin.take().expect("piped"), &bytes)?;
        c.wait_with_output()
    });
    assert_eq!(ended.stdout.as_bytes(), here.expect("cksum on the host").stdout, "{ended:?}");
}

#[test]
fn a_signal_is_128_plus_its_number() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().sh("kill -USR1 $$");
    assert_eq!((ended.status, ended.kind(), ended.report["signal"].as_i64()), (Some(138), "signaled", Some(10)), "{ended:?}");
    let ended = Sandboxed::new().sh("kill -40 $$");
    assert_eq!((ended.status, ended.kind(), ended.report["signal"].as_i64()), (Some(168), "signaled", Some(40)), "{ended:?}");
}

#[test]
fn what_is_not_there_is_127_and_what_is_no_program_126() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().run(&["no-such-command"]);
    assert_eq!((ended.status, ended.kind(), ended.report["errno"].as_i64()), (Some(127), "exec_failed", Some(2)), "{ended:?}");
    let ended = Sandboxed::new().run(&["/usr/bin/no-such-command"]);
    assert_eq!((ended.status, ended.kind()), (Some(127), "exec_failed"), "{ended:?}");
    let ended = Sandboxed::new().run(&["/etc/passwd"]);
    assert_eq!((ended.status, ended.kind(), ended.report["errno"].as_i64()), (Some(126), "exec_failed", Some(13)), "{ended:?}");
    let strange = Sandboxed::with_policy(
        "[worker]\nbinary = \"unused\"\n[filesystem]\nread_only = [\"/usr\", \"/bin\", \"/lib\", \"/lib64\", \"/opt\"]",
    );
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x16\0".to_vec(); // e_machine 22: S390
    elf.resize(128, 0);
    let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().expect("tempdir");
    let foreign = directory.path().join("foreign");
    std::fs::write(&foreign, elf).expect("write");
    std::fs::set_permissions(&foreign, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let ended = strange.option("--binary-dir", &directory.path().to_string_lossy()).run(&[&foreign.to_string_lossy()]);
    assert_eq!((ended.status, ended.kind(), ended.report["errno"].as_i64()), (Some(126), "exec_failed", Some(8)), "{ended:?}");
    assert!(ended.report["message"].as_str().is_some_and(|m| m.contains("architecture")), "{ended:?}");
}

#[test]
fn sigterm_is_forwarded_to_the_command() {
    if !is_root() {
        return;
    }
    let sandboxed = Sandboxed::new();
    let mut child = sandboxed
        .command(&["/bin/sh", "-c", "trap 'echo caught; exit 9' TERM; echo up; while :; do sleep 0.05; done"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut out = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).expect("the command speaks");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).expect("signal our own child");
    let status = child.wait().expect("wait");
    assert_eq!((status.code(), status.signal()), (Some(9), None));
    line.clear();
    std::io::BufRead::read_line(&mut out, &mut line).expect("read");
    assert_eq!(line, "caught\n");
}

#[test]
fn what_the_command_leaves_behind_dies_with_it() {
    if !is_root() {
        return;
    }
    let mark = format!("77{}", std::process::id());
    let started = Instant::now();
    let ended = Sandboxed::new().sh(&format!("(setsid sleep {mark} </dev/null >/dev/null 2>&1 &) ; exit 3"));
    assert_eq!(ended.status, Some(3), "{ended:?}");
    assert!(started.elapsed() < Duration::from_secs(60), "the status must not wait for the sleeper");
    let left = procfs::process::all_processes().expect("/proc").flatten().filter(|p| p.cmdline().is_ok_and(|c| c.contains(&mark)));
    assert_eq!(left.count(), 0, "a setsid'd grandchild outlived its sandbox");
}

#[test]
fn a_wrong_policy_is_125_with_file_line_and_key() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::with_policy("[worker]\nbinary = \"unused\"\nbinnary_dirs = []").sh("true");
    assert_eq!((ended.status, ended.kind()), (Some(125), "setup_failed"), "{ended:?}");
    assert!(ended.stderr.contains("test.toml:4") && ended.stderr.contains("binnary_dirs"), "{ended:?}");
}

#[test]
fn what_ends_before_there_is_a_launcher_is_125_with_a_report_too() {
    if !is_root() {
        return;
    }
    for (option, value) in [("--limit", "no_such_limit=1"), ("--limit", "memory_max"), ("--device", "GPU-77"), ("--device", "banana")] {
        let ended = Sandboxed::new().option(option, value).sh("true");
        assert_eq!((ended.status, ended.kind()), (Some(125), "setup_failed"), "{option} {value}: {ended:?}");
        let told = ended.report["message"].as_str().unwrap_or_default();
        assert!(!told.is_empty() && ended.stderr.contains(told), "{option} {value}: {ended:?}");
    }
}

#[test]
fn a_launcher_that_can_not_begin_leaves_no_directory() {
    if !is_root() {
        return;
    }
    let sandboxed = Sandboxed::new().option("--cgroup-root", "/a/../b");
    let mut child = sandboxed.command(&["true"]).stderr(Stdio::null()).spawn().expect("start");
    assert_eq!(child.wait().expect("wait").code(), Some(125));
    let directory = std::path::PathBuf::from(format!("/run/rbee-hive/run-{}", child.id()));
    assert!(!directory.exists(), "{directory:?} is left");
}

#[test]
fn a_cpuset_that_the_host_lacks_is_125_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::with_policy("[worker]\nbinary = \"unused\"\n[request]\nmay_set = [\"limits\"]").limit("cpuset=4000").sh("true");
    assert_eq!((ended.status, ended.kind()), (Some(125), "setup_failed"), "{ended:?}");
    assert!(ended.stderr.contains("4000"), "{ended:?}");
}
