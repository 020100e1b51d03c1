//! What a worker process is born with: limits, scheduling, and nothing of who started the hive.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what can't be started ends its test, and a skipped test says so"
)]

use sandbox_tests::{Ended, Sandboxed, is_root};

fn with(tables: &str) -> Sandboxed {
    Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n{tables}"))
}

/// A field of `/proc/self/stat` as proc(5) counts them, from the third on.
fn stat(field: usize) -> String {
    format!("read -r line < /proc/$$/stat; set -- ${{line##*) }}; shift {}; echo $1", field - 3)
}

/// The same words without a sandbox.
fn on_the_host(prefix: &[&str], script: &str) -> String {
    let words: Vec<&str> = prefix.iter().copied().chain(["/bin/sh", "-c", script]).collect();
    let output = std::process::Command::new(words[0]).args(&words[1..]).output().expect("start it on the host");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn row(ended: &Ended, name: &str) -> Vec<String> {
    let line = ended.stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name:?} in {ended:?}"));
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

#[test]
fn limits_of_a_process_are_what_the_kernel_reports() {
    if !is_root() {
        return;
    }
    let limits = "[limits]\nopen_files = 64\ncore_size = \"1MiB\"\nfile_size = \"3MiB\"\nstack_size = \"2MiB\"\nlocked_memory = \"16KiB\"\n\
                  message_queues = \"4KiB\"\npending_signals = 33\nuser_tasks = 44\ncpu_time = \"1min\"\n";
    let set = with(limits).sh("cat /proc/self/limits");
    let expected = [
        ("Max open files", ["64", "64"]),
        ("Max core file size", ["1048576", "1048576"]),
        ("Max file size", ["3145728", "3145728"]),
        ("Max stack size", ["2097152", "2097152"]),
        ("Max locked memory", ["16384", "16384"]),
        ("Max msgqueue size", ["4096", "4096"]),
        ("Max pending signals", ["33", "33"]),
        ("Max processes", ["44", "44"]),
        ("Max cpu time", ["60", "61"]),
        ("Max realtime priority", ["0", "0"]),
        ("Max nice priority", ["0", "0"]),
    ];
    for (name, values) in expected {
        assert_eq!(row(&set, name), values, "{name}: {set:?}");
    }
    let inherited = with("").below(&["sh", "-c", "ulimit -n 321; ulimit -c 77; exec \"$@\"", "sh"]).sh("cat /proc/self/limits");
    assert_eq!(row(&inherited, "Max open files"), ["321", "321"], "what no policy names is inherited: {inherited:?}");
    // Not 0, which would still feed a program that core_pattern names.
    assert_eq!(row(&inherited, "Max core file size"), ["1", "1"], "{inherited:?}");
    assert_eq!(row(&inherited, "Max address space"), ["unlimited", "unlimited"], "{inherited:?}");
}

#[test]
fn a_limit_of_address_space_is_refused_with_the_reason() {
    if !is_root() {
        return;
    }
    let ended = with("[limits]\naddress_space = \"4GiB\"\n").sh("true");
    assert_eq!(ended.status, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("test.toml:5") && ended.stderr.contains("memory_max bounds what is used"), "{ended:?}");
}

#[test]
fn too_large_a_file_and_too_much_time_end_the_worker_with_their_signals() {
    if !is_root() {
        return;
    }
    let write = "dd if=/dev/zero of=/tmp/f bs=64K count=2 2>/dev/null; echo $?";
    let (below, above) = (with("").sh(write), with("[limits]\nfile_size = \"64KiB\"\n").sh(write));
    assert_eq!((below.stdout.as_str(), above.stdout.as_str()), ("0\n", "153\n"), "128 + SIGXFSZ: {above:?}");
    let spin = with("[limits]\ncpu_time = \"1s\"\n").run(&["/bin/sh", "-c", "while :; do :; done"]);
    assert_eq!((spin.kind(), spin.report["signal"].as_i64()), ("signaled", Some(24)), "SIGXCPU: {spin:?}");
}

#[test]
fn a_hard_limit_is_raised_or_the_start_refused_or_the_gap_reported() {
    if !is_root() {
        return;
    }
    let low: &[&str] = &["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"];
    let unable: Vec<&str> =
        ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource", "--"].iter().chain(low).copied().collect();
    let required = with("[limits]\nopen_files = 512\n").below(&unable).sh("ulimit -n");
    assert_eq!(required.status, Some(125), "{required:?}");
    assert!(
        required.stderr.contains("open_files") && required.stderr.contains("256") && required.stderr.contains("CAP_SYS_RESOURCE"),
        "{required:?}"
    );
    let relaxed = with("[limits]\nopen_files = { value = 512, enforce = \"if_available\" }\n").below(&unable).sh("ulimit -n");
    assert_eq!(relaxed.stdout, "256\n", "{relaxed:?}");
    let lower = with("[limits]\nopen_files = 128\n").below(&unable).sh("ulimit -n");
    assert_eq!(lower.stdout, "128\n", "lowering needs nothing: {lower:?}");
    let asked = with("[request]\nmay_set = [\"limits\"]\n");
    let (above, below) = (
        asked.limit("open_files=512").below(low).sh("ulimit -n"),
        with("[request]\nmay_set = [\"limits\"]\n").limit("open_files=200").below(low).sh("ulimit -n"),
    );
    assert_eq!(
        (above.status, below.stdout.as_str()),
        (Some(125), "200\n"),
        "a request can't raise what its policy leaves alone: {above:?}"
    );
}

#[test]
fn scheduling_is_the_policys() {
    if !is_root() {
        return;
    }
    let policy = with("[process]\nscheduler = \"idle\"\nnice = 7\nio_class = \"best-effort\"\nio_priority = 6\ntimer_slack = \"3ms\"\n");
    let look = format!("{}; {}; ionice; cat /proc/self/timerslack_ns", stat(41), stat(19));
    let ended = policy.sh(&look);
    // SCHED_IDLE is 5.
    assert_eq!(ended.stdout, "5\n7\nbest-effort: prio 6\n3000000\n", "{ended:?}");
    let caller = ["nice", "-n", "3"];
    let plain = with("").below(&caller).sh(&look);
    assert_eq!(plain.stdout, on_the_host(&caller, &look), "without a word it is inherited: {plain:?}");
    let batch = with("[process]\nscheduler = \"batch\"\nio_class = \"idle\"\n").sh(&look);
    assert!(batch.stdout.starts_with("3\n") && batch.stdout.contains("\nidle\n"), "{batch:?}");
}

#[test]
fn nobodys_real_time_class_is_handed_on() {
    if !is_root() {
        return;
    }
    let (policy, io) = (stat(41), "ionice");
    let prefix = ["chrt", "-f", "1", "ionice", "-c", "1"];
    let host = on_the_host(&prefix, &format!("{policy}; {io}"));
    if host != "1\nrealtime: prio 4\n" {
        println!("SKIPPED: needs CAP_SYS_NICE: {host:?}");
        return;
    }
    let ended = with("").below(&prefix).sh(&format!("{policy}; {io}"));
    assert_eq!(ended.stdout, "0\nbest-effort: prio 4\n", "{ended:?}");
}

#[test]
fn a_better_nice_value_needs_the_privilege_or_is_reported() {
    if !is_root() {
        return;
    }
    let unable = ["nice", "-n", "5", "setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice", "--"];
    let required = with("[process]\nnice = 2\n").below(&unable).sh(&stat(19));
    assert_eq!(required.status, Some(125), "{required:?}");
    assert!(required.stderr.contains("process.nice") && required.stderr.contains("CAP_SYS_NICE"), "{required:?}");
    let relaxed = with("[process]\nnice = { value = 2, enforce = \"if_available\" }\n").below(&unable).sh(&stat(19));
    assert_eq!(relaxed.stdout, on_the_host(&unable, &stat(19)), "{relaxed:?}");
    let worse = with("[process]\nnice = 19\n").below(&unable).sh(&stat(19));
    assert_eq!(worse.stdout, "19\n", "{worse:?}");
}

#[test]
fn memory_is_taken_from_the_nodes_of_the_policy() {
    if !is_root() {
        return;
    }
    let look = "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2";
    if on_the_host(&[], look).trim() != "default" {
        println!("SKIPPED: needs a kernel with NUMA");
        return;
    }
    for (mode, shown) in [("bind", "bind"), ("preferred", "prefer"), ("interleave", "interleave"), ("default", "default")] {
        let ended = with(&format!("[process]\nnuma = \"{mode}\"\n[limits]\nmems = \"0\"\n")).sh(look);
        let expected = if mode == "default" { "default\n".to_owned() } else { format!("{shown}:0\n") };
        assert_eq!(ended.stdout, expected, "{mode}: {ended:?}");
    }
    let denied = [env!("CARGO_BIN_EXE_deny-calls"), "1", "set_mempolicy,get_mempolicy"];
    let required = with("[process]\nnuma = \"bind\"\n").below(&denied).sh("echo started");
    assert_eq!((required.status, required.stdout.as_str()), (Some(125), ""), "{required:?}");
    let relaxed = with("[process]\nnuma = { value = \"bind\", enforce = \"if_available\" }\n").below(&denied).sh("echo started");
    assert_eq!(relaxed.stdout, "started\n", "{relaxed:?}");
}

#[test]
fn nothing_of_the_callers_process_state_is_left() {
    if !is_root() {
        return;
    }
    // No shell at the end: shells have a signal state of their own.
    let look =
        ["/bin/grep", "-sE", "^(Sig(Blk|Ign)|Groups|0|[1-9])", "/proc/self/status", "/proc/self/personality", "/proc/self/oom_score_adj"];
    let script = "umask 0; echo 300 > /proc/self/oom_score_adj; exec \"$@\"";
    let signals = ["env", "--block-signal=USR1,TERM", "--ignore-signal=USR2,HUP"];
    let caller: Vec<&str> = ["setpriv", "--groups", "4,5", "setarch", "-R", "sh", "-c", script, "sh"].into_iter().chain(signals).collect();
    let host = std::process::Command::new(caller[0]).args(&caller[1..]).args(look).output().expect("start it on the host");
    let host = String::from_utf8_lossy(&host.stdout).into_owned();
    for mark in ["Groups:\t4 5", "SigBlk:\t0000000000004200", "0801\n", "personality:00040000", "oom_score_adj:300"] {
        assert!(host.contains(mark), "the caller has {mark:?}: {host}");
    }
    let ended = with("").below(&caller).run(&look);
    for mark in ["Groups:\t \n", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "personality:00000000", "oom_score_adj:0"] {
        assert!(ended.stdout.contains(mark), "{mark:?}: {ended:?}");
    }
    assert_eq!(with("").below(&caller).sh("umask").stdout, "0022\n");
}

#[test]
fn it_leads_a_session_of_its_own_without_a_terminal() {
    if !is_root() {
        return;
    }
    let ended = with("").sh(&format!("{}; {}; echo $$", stat(6), stat(7)));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[0] == lines[2] && lines[1] == "0", "session, terminal, pid: {ended:?}");
}
