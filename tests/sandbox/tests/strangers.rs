//! What a worker may cost those who serve it: memory that nobody counted, an init that waits, a way past its root by a standard stream.

#![allow(clippy::expect_used, reason = "a worker that is not as a test needs it ends the test")]

use std::process::Stdio;
use std::time::Duration;

use sandbox_tests::{Sandboxed, is_root};
use serde_json::json;
use test_support::{Hive, HiveOptions, eventually, require_root};

const NO_PROFILE: &str = "[seccomp]\nprofile = \"none\"\nreason = \"the layer below is what is tested\"\n";
/// Connections to itself, full both ways, until the kernel takes no more; prints how many MiB lie in them.
const FILL: &str = r#"
use Socket; my (@all, $bytes);
socket(my $l, PF_INET, SOCK_STREAM, 0) or die; bind($l, sockaddr_in(0, INADDR_LOOPBACK)) or die; listen($l, 64) or die;
for (1 .. 120) {
  socket(my $a, PF_INET, SOCK_STREAM, 0) or last; connect($a, getsockname($l)) or last; accept(my $b, $l) or last;
  for my $s ($a, $b) { $s->blocking(0); while (my $n = syswrite($s, "x" x 1048576)) { $bytes += $n } }
  push @all, $a, $b;
}
printf "%d\n", $bytes / 1048576;
"#;
/// Sends its init a connection that takes an hour to close, and lets go of it at once: whoever of the two closes it last waits. Several times,
/// because the init may be faster.
const LINGER: &str = r#"
use IO::Handle; use Socket; STDOUT->autoflush;
socket(my $n, PF_UNIX, SOCK_DGRAM, 0) or die; connect($n, sockaddr_un($ENV{NOTIFY_SOCKET})) or die; send($n, "READY=1", 0);
socket(my $l, PF_INET, SOCK_STREAM, 0) or die; bind($l, sockaddr_in(0, INADDR_LOOPBACK)) or die; listen($l, 32) or die;
my @peers;
for my $try (1 .. 20) {
  if (!fork) {
    socket(my $a, PF_INET, SOCK_STREAM, 0) or die; connect($a, getsockname($l)) or die;
    $a->blocking(0); while (syswrite($a, "x" x 1048576)) {} $a->blocking(1);
    setsockopt($a, SOL_SOCKET, 13, pack("ii", 1, 3600)) or print "linger: $!\n";
    my $text = "STATUS=x"; my $iov = pack("PQ", $text, length $text); my $rights = pack("QiiiI", 20, 1, 1, fileno $a, 0);
    my $head = pack("QQPQPQi", 0, 0, $iov, 1, $rights, 24, 0);
    my $sent = syscall(46, fileno $n, $head, 0); close $a;
    exit;
  }
  accept($peers[$try], $l) or die;
}
sleep 2; print "all tried\n"; sleep 600;
"#;

#[test]
fn what_lies_in_a_workers_sockets_is_bounded() {
    if !is_root() {
        return;
    }
    let limits = "[limits]\nmemory_max = \"64MiB\"\nswap_max = { value = \"0\", enforce = \"if_available\" }\n";
    let ended =
        Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n{limits}")).run(&["/usr/bin/perl", "-MIO::Handle", "-e", FILL]);
    // On v2 they count for memory_max, and the worker may be killed at it.
    let held = ended.stdout.trim().parse::<u64>().ok();
    assert!(held.is_some_and(|mib| mib < 256) || ended.kind() == "oom_killed", "{ended:?}");
}

#[test]
fn a_descriptor_that_is_sent_to_the_init_does_not_keep_it_from_stopping_its_worker() {
    require_root!();
    let policy = |more: &str| {
        format!(
            "[worker]\nbinary = \"perl\"\ncommand = [\"{{binary}}\", \"-e\", \"{{args}}\"]\n[request]\nmay_set = [\"args\"]\n[readiness]\nnotify = true\n{more}"
        )
    };
    let hive = Hive::start(HiveOptions::default().policy("linger", &policy("")).policy("bare", &policy(NO_PROFILE)));
    for name in ["linger", "bare"] {
        let spawn = json!({"worker_id": name, "model": "m", "policy": name, "device": "cpu", "args": [LINGER]});
        hive.call("worker_spawn", spawn);
        let said = |text: &str| hive.call("worker_logs", json!({"worker_id": name, "tail": 100})).to_string().contains(text).then_some(());
        eventually("the worker sends its descriptors", Duration::from_secs(30), || said("all tried"));
        assert_eq!(said("linger: Operation not permitted").is_some(), name == "linger", "the profile refuses SO_LINGER");
        let began = std::time::Instant::now();
        let ended = hive.call("worker_stop", json!({"worker_id": name, "grace_ms": 0}));
        assert_eq!((&ended["state"], began.elapsed().as_secs() < 10), (&json!("stopped"), true), "{ended}");
    }
}

#[test]
fn a_directory_is_no_standard_stream() {
    if !is_root() {
        return;
    }
    let sandbox = Sandboxed::new();
    let run = |stdin: Stdio| sandbox.command(&["/bin/true"]).stdin(stdin).output().expect("start rbee-hive run");
    assert!(run(Stdio::null()).status.success());
    let refused = run(std::fs::File::open("/").expect("open /").into());
    assert_eq!(refused.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("standard stream 0 is a directory"), "{refused:?}");
}

#[test]
fn netlink_sockets_are_counted_and_the_interfaces_can_still_be_listed() {
    if !is_root() {
        return;
    }
    let script = "my @s; for (1 .. 200) { socket($s[$_], 16, 3, 0) or last; $n = $_ } print qq($n $!\\n)";
    let open = |sandbox: Sandboxed| sandbox.run(&["/usr/bin/perl", "-e", script]);
    assert!(open(Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n{NO_PROFILE}"))).stdout.starts_with("200 "));
    let ended = open(Sandboxed::new());
    assert_eq!(ended.stdout, "64 No buffer space available\n", "{ended:?}");
    // One after the other there may be any number of them.
    let again = "for (1 .. 200) { socket(my $s, 16, 3, 0) or die $! } print 'all'";
    assert_eq!(Sandboxed::new().run(&["/usr/bin/perl", "-e", again]).stdout, "all");
}

#[test]
fn filters_that_are_charged_to_nobody_are_counted_or_refused() {
    if !is_root() {
        return;
    }
    // SO_ATTACH_FILTER, then seccomp(SECCOMP_SET_MODE_FILTER): of one instruction, which allows everything.
    let script = "use Socket; my $insn = pack('SCCL', 6, 0, 0, 0x7fff0000); my $prog = pack('SxxxxxxP', 1, $insn); my $n = 0; \
        socket(my $s, 1, 2, 0) or die; print setsockopt($s, 1, 26, $prog) ? 'attached ' : qq($! ); \
        for (1 .. 40) { syscall(317, 1, 0, $prog) and last; $n++ } print qq($n\\n)";
    let load = |sandbox: Sandboxed| sandbox.run(&["/usr/bin/perl", "-e", script]);
    assert_eq!(load(Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n{NO_PROFILE}"))).stdout, "attached 40\n");
    let ended = load(Sandboxed::new());
    assert_eq!(ended.stdout, "Operation not permitted 16\n", "{ended:?}");
}

#[test]
fn scratch_space_holds_a_bounded_number_of_files() {
    if !is_root() {
        return;
    }
    let script = "for d in /tmp /dev/shm $HOME; do stat -f -c %c $d; done";
    let ended =
        Sandboxed::with_policy("[worker]\nbinary = \"unused\"\n[filesystem]\ntmp_size = \"8MiB\"\nshm_size = \"16MiB\"\n").sh(script);
    assert_eq!(ended.stdout, "2048\n4096\n2048\n", "{ended:?}");
}

#[test]
fn output_costs_the_init_and_the_disk_no_more_than_their_bound() {
    require_root!();
    // Lines that hold nothing: each takes 45 bytes of the log.
    let script = "$| = 1; my $b = qq(\\n) x 65536; print $b while 1";
    let policy = format!(
        "[worker]\nbinary = \"perl\"\ncommand = [\"{{binary}}\", \"-e\", '{script}']\n[readiness]\nnone = true\n[limits]\npids_max = 8\n"
    );
    let hive = Hive::start(HiveOptions::default().policy("loud", &policy));
    let worker = hive.call("worker_spawn", json!({"worker_id": "loud", "model": "m", "policy": "loud", "device": "cpu"}));
    let written = || {
        let text = std::fs::read_to_string(format!("/proc/{}/io", worker["init_pid"])).expect("the init lives");
        text.lines().find_map(|l| l.strip_prefix("wchar: ")).and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    let (before, began) = (written(), std::time::Instant::now());
    std::thread::park_timeout(Duration::from_secs(3));
    let rate = (written() - before) as f64 / began.elapsed().as_secs_f64() / f64::from(1 << 20);
    // A block that was begun is finished, and a span may have been half over.
    assert!((0.01..64.0).contains(&rate), "{rate} MiB/s");
    assert_eq!(hive.call("worker_stop", json!({"worker_id": "loud", "grace_ms": 0}))["state"], "stopped");
}

#[test]
fn a_plan_that_no_message_holds_is_refused_before_anything_is_started() {
    require_root!();
    let policy = "[worker]\nbinary = \"sleep\"\ncommand = [\"{binary}\", \"600\", \"{args}\"]\n[readiness]\nnone = true\n[request]\nmay_set = [\"args\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("long", policy));
    // As JSON each takes two bytes: the request is just short enough.
    let spawn = |quotes: usize| {
        let worker =
            json!({"worker_id": format!("w{quotes}"), "model": "m", "policy": "long", "device": "cpu", "args": ["\"".repeat(quotes)]});
        hive.rpc("worker_spawn", worker)
    };
    assert!(spawn(60_000).is_ok());
    let error = spawn(81_000).expect_err("nobody could be told of it");
    assert_eq!(error.kind(), "invalid_params", "{error}");
}

#[test]
fn the_callers_streams_are_as_they_were_after_the_command_has_changed_them() {
    if !is_root() {
        return;
    }
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let flags = || nix::fcntl::OFlag::from_bits_retain(nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_GETFL).expect("its flags"));
    let script = "use Fcntl; fcntl(STDIN, F_SETFL, O_NONBLOCK | O_ASYNC) or die; print fcntl(STDIN, F_GETFL, 0)";
    let before = flags();
    let sandbox = Sandboxed::new();
    let mut command = sandbox.command(&["/usr/bin/perl", "-e", script]);
    let output = command.stdin(reader.try_clone().expect("a copy")).output().expect("start rbee-hive run");
    let inside: i32 = String::from_utf8_lossy(&output.stdout).parse().expect("flags");
    assert!(inside & nix::fcntl::OFlag::O_NONBLOCK.bits() != 0, "the command can change them: {output:?}");
    assert_eq!(flags(), before);
}
