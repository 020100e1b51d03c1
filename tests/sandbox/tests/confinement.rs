//! What a sandboxed command can see and touch, in pairs: the act works where it is granted and fails where it is not.

use sandbox_tests::{Sandboxed, is_root};

#[allow(clippy::expect_used, reason = "no test without it")]
fn host_ns(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace link").display().to_string()
}

const BARE: &str = "[worker]\nbinary = \"unused\"";

#[test]
fn every_namespace_is_its_own() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().sh("for n in mnt pid ipc uts net cgroup; do echo $n $(readlink /proc/self/ns/$n); done");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{ended:?}");
    for line in lines {
        let (kind, inside) = line.split_once(' ').expect("kind and link");
        assert!(inside.starts_with(kind), "{line}");
        assert_ne!(inside, host_ns(kind), "the {kind} namespace is the host's");
    }
    let host = Sandboxed::with_policy(&format!("{BARE}\n[network]\nmode = \"host\"")).sh("readlink /proc/self/ns/net");
    assert_eq!(host.stdout.trim(), host_ns("net"), "by policy it is the host's: {host:?}");
}

#[test]
fn the_system_is_read_only_and_scratch_is_not() {
    if !is_root() {
        return;
    }
    let script = "for f in /x /usr/x /etc/x /bin/x /sys/x /dev/x /run/x; do touch $f 2>/dev/null && echo wrote $f; done; \
                  for f in /tmp/x $HOME/x /dev/shm/x /run/worker/x; do touch $f && echo scratch; done";
    let ended = Sandboxed::new().sh(script);
    assert_eq!(ended.stdout, "scratch\nscratch\nscratch\nscratch\n", "{ended:?}");
    let errors = Sandboxed::new().sh("touch /usr/x /x");
    assert_eq!(errors.stderr.matches("Read-only file system").count(), 2, "{errors:?}");
}

#[test]
fn nobody_in_there_has_a_capability_or_a_group() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().sh("grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(ended.stdout.contains(&format!("{set}:\t0000000000000000")), "{set}: {ended:?}");
    }
    assert!(ended.stdout.contains("NoNewPrivs:\t1"), "{ended:?}");
    assert!(ended.stdout.lines().any(|l| l.trim_end() == "Groups:"), "{ended:?}");
    let uid = ended.stdout.lines().find_map(|l| l.strip_prefix("Uid:\t")).and_then(|l| l.split('\t').next()).map(str::parse::<u32>);
    assert!(matches!(uid, Some(Ok(1_879_048_192..=1_879_113_727))), "a uid of the workers' range: {uid:?}");
}

#[test]
fn two_commands_at_a_time_never_share_a_uid() {
    if !is_root() {
        return;
    }
    // As long as the others may take to start.
    let script = format!("id -u; sleep {}", test_support::time_factor());
    let run = || {
        let script = script.clone();
        std::thread::spawn(move || Sandboxed::new().sh(&script).stdout)
    };
    let uids: Vec<String> = [run(), run(), run()].into_iter().map(|t| t.join().expect("run")).collect();
    assert!(uids[0] != uids[1] && uids[1] != uids[2] && uids[0] != uids[2], "{uids:?}");
}

#[test]
fn only_the_standard_descriptors_are_there() {
    if !is_root() {
        return;
    }
    let sandboxed = Sandboxed::new();
    // A descriptor that the caller leaves open on purpose, without close-on-exec.
    let leak = nix::fcntl::open("/etc/passwd", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).expect("open");
    let ended = sandboxed.sh("for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done");
    drop(leak);
    assert_eq!(ended.stdout, "0\n1\n2\n", "{ended:?}");
}

#[test]
fn no_signal_is_blocked_or_ignored() {
    if !is_root() {
        return;
    }
    let ignoring = Sandboxed::new();
    let mut command = std::process::Command::new("sh");
    let inner = ignoring.command(&["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    command.args(["-c", "trap '' USR1 HUP; \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    let output = command.output().expect("start a shell that ignores signals");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", "{output:?}");
}

#[test]
fn the_environment_is_the_policys() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().environment("LEAK", "1").environment("LD_PRELOAD", "").sh("env | cut -d= -f1 | sort | tr '\\n' ' '");
    assert!(!ended.stdout.contains("LEAK") && !ended.stdout.contains("LD_PRELOAD"), "{ended:?}");
    assert!(ended.stdout.contains("PATH") && ended.stdout.contains("HOME") && ended.stdout.contains("CUDA_VISIBLE_DEVICES"), "{ended:?}");
    let passed = Sandboxed::with_policy(&format!("{BARE}\n[environment]\npass = [\"LEAK\"]")).environment("LEAK", "1").sh("echo $LEAK");
    assert_eq!(passed.stdout, "1\n", "what the policy passes is there: {passed:?}");
}

#[test]
fn proc_shows_its_own_processes_and_no_secret_of_the_kernel() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().sh("ls /proc | grep -c '^[0-9]'; wc -c < /proc/kallsyms; echo 1 > /proc/sys/kernel/core_pattern");
    let mut lines = ended.stdout.lines();
    assert!(lines.next().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n <= 4), "pids of others are listed: {ended:?}");
    assert_eq!(lines.next(), Some("0"), "{ended:?}");
    assert_ne!(ended.status, Some(0), "core_pattern was written");
    assert!(Sandboxed::new().sh("ls /proc/1/root /proc/1/fd").status != Some(0), "the init's root is reachable");
}

#[test]
fn a_private_network_has_loopback_and_nothing_else() {
    if !is_root() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    let probe = format!("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '; exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached");
    let private = Sandboxed::new().run(&["/bin/bash", "-c", &probe]);
    let interfaces: Vec<_> = private.stdout.lines().filter(|l| *l != "reached").collect();
    assert!(interfaces.contains(&"lo"), "{private:?}");
    assert!(!private.stdout.contains("reached"), "the host's loopback is reachable: {private:?}");
    let host = Sandboxed::with_policy(&format!("{BARE}\n[network]\nmode = \"host\"")).run(&["/bin/bash", "-c", &probe]);
    assert!(host.stdout.contains("reached"), "the probe itself works: {host:?}");
}

#[test]
fn a_node_that_is_not_granted_is_refused_by_the_device_policy() {
    if !is_root() {
        return;
    }
    let mknod = |nodes: &str| {
        Sandboxed::with_policy(&format!(
            "{BARE}\n[devices]\nnodes = [{nodes}]\n[credentials]\ncapabilities = [{{ name = \"CAP_MKNOD\", reason = \"a test of the device policy\" }}]"
        ))
        // A number without a driver: the device policy says EPERM, and where it lets the open through the kernel says ENXIO.
        .sh("mknod /tmp/n c 195 77 && echo made; cat /tmp/n")
    };
    let refused = mknod("");
    assert!(refused.stdout.starts_with("made\n"), "the node itself can be made: {refused:?}");
    assert!(refused.stderr.contains("Operation not permitted") && !refused.stderr.contains("No such device"), "{refused:?}");
    let null = Sandboxed::with_policy(&format!(
        "{BARE}\n[credentials]\ncapabilities = [{{ name = \"CAP_MKNOD\", reason = \"a test of the device policy\" }}]"
    ))
    .sh("mknod -m 666 /tmp/null c 1 3 && echo x > /tmp/null && echo granted");
    assert_eq!(null.stdout, "granted\n", "a granted number opens wherever its node lies: {null:?}");
}

#[test]
fn dev_holds_exactly_the_granted_nodes() {
    if !is_root() {
        return;
    }
    let ended = Sandboxed::new().sh("ls /dev | tr '\\n' ' '");
    assert_eq!(ended.stdout, "fd full null random shm stderr stdin stdout tty urandom zero ", "{ended:?}");
}

#[test]
fn the_host_name_is_the_sandboxes_own() {
    if !is_root() {
        return;
    }
    let before = nix::unistd::gethostname().expect("host name");
    let ended = Sandboxed::new().sh("cat /proc/sys/kernel/hostname");
    assert_ne!(ended.stdout.trim(), before.to_string_lossy());
    assert_eq!(nix::unistd::gethostname().expect("host name"), before);
}
