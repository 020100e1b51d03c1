//! `policy learn`: what a command did while it was watched is enough for it to do the same again, and each part of it is needed.

#![allow(clippy::expect_used, reason = "a command that is not as a test needs it ends the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sandbox_tests::{hive_binary, is_root};
use serde_json::json;
use test_support::{Hive, HiveOptions, eventually, http_get, mock_binary, require_root, skip, time_factor};

fn seconds(number: u32) -> String {
    format!("{}s", number * time_factor())
}

/// A base policy, and what is learned under it.
struct Learning {
    directory: tempfile::TempDir,
    base: PathBuf,
    options: Vec<String>,
}

impl Learning {
    fn under(base: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("base.toml");
        std::fs::write(&file, base).expect("write the base policy");
        Self { directory, base: file, options: vec![] }
    }

    fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.into(), value.into()]);
        self
    }

    fn policy(&self) -> PathBuf {
        self.directory.path().join("mine.toml")
    }

    fn profile(&self) -> PathBuf {
        self.directory.path().join("seccomp/mine.toml")
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut learn = Command::new(hive_binary());
        learn.args(["policy", "learn", "--policy"]).arg(&self.base).arg("--output").arg(self.policy());
        learn.args(&self.options).arg("--").args(command).stdin(Stdio::null());
        learn
    }

    fn learn(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("start policy learn")
    }

    /// Learns, or ends the test; both files must pass `policy check`.
    fn learned(&self, command: &[&str]) -> String {
        let output = self.learn(command);
        assert!(output.status.success(), "{output:?}");
        let check = Command::new(hive_binary()).args(["policy", "check"]).arg(self.policy()).output().expect("start policy check");
        assert!(check.status.success(), "{check:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs the command under what was learned.
    fn run(&self, command: &[&str]) -> Output {
        let mut run = Command::new(hive_binary());
        run.arg("run").arg("--policy").arg(self.policy());
        run.arg("--").args(command).stdin(Stdio::null()).output().expect("start run")
    }

    /// Takes what `matches` out of a file, line by line; it must be there.
    fn without(&self, file: &Path, matches: &str) {
        let text = std::fs::read_to_string(file).expect("a learned file");
        let left: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with(matches)).collect();
        assert!(left.len() < text.lines().count(), "{matches} is not in\n{text}");
        std::fs::write(file, left.join("\n")).expect("write it back");
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.policy()).expect("a learned policy")
    }
}

const PLAIN: &str = "[worker]\nbinary = \"unused\"\n";

#[test]
fn a_shell_does_under_its_learned_policy_what_it_did_while_it_was_watched() {
    if !is_root() {
        return;
    }
    let learning = Learning::under(PLAIN);
    let command = ["sh", "-c", "echo out; head -c 3 /usr/bin/env | wc -c; ls /usr/share | grep -c .; exit 7"];
    let watched = learning.learned(&command);
    let again = learning.run(&command);
    assert_eq!((again.status.code(), String::from_utf8_lossy(&again.stdout).as_ref()), (Some(7), watched.as_str()), "{again:?}");
    let text = learning.text();
    assert!(text.contains("mode = \"none\"") && text.contains("while learning") && !text.contains("\n    \"/usr\""), "{text}");
}

#[test]
fn each_learned_grant_is_needed() {
    if !is_root() {
        return;
    }
    let command = ["sh", "-c", "wc -c < /usr/bin/env; exit $?"];
    let file = Learning::under(PLAIN);
    file.learned(&command);
    assert!(file.run(&command).status.success());
    file.without(&file.policy(), "\"/usr/bin/wc\"");
    let without = file.run(&command);
    assert_eq!(without.status.code(), Some(127), "{without:?}");

    let call = Learning::under(PLAIN);
    call.learned(&command);
    let text = std::fs::read_to_string(call.profile()).expect("the profile");
    let less = text.replace("\"wait4\", ", "").replace(", \"wait4\"", "").replace("\"wait4\"", "");
    assert_ne!(text, less, "a shell waits for its children");
    std::fs::write(call.profile(), less).expect("write the profile");
    let without = call.run(&command);
    assert_eq!(without.status.code(), Some(128 + 31), "{without:?}");
}

#[test]
fn a_server_is_stopped_in_time_and_its_port_becomes_the_hives() {
    if !is_root() {
        return;
    }
    let mock = mock_binary();
    let directory = mock.parent().and_then(Path::to_str).expect("a directory");
    let learning = Learning::under("[worker]\nbinary = \"unused\"\nstop_grace = \"5s\"\n")
        .option("--binary-dir", directory)
        .option("--timeout", &seconds(2));
    let output = learning.learn(&["mock-worker", "--port", "9100"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("stopped on request"), "{output:?}");
    let text = learning.text();
    for want in ["\"--port\", \"{port}\"", "mode = \"private\"", "tcp = true", &format!("\"{}\"", mock.display())] {
        assert!(text.contains(want), "{want} is not in\n{text}");
    }
    // The same program to another end, under the same policy: it is all there.
    let mock = mock.display().to_string();
    let again = learning.run(&[&mock, "--exit-code", "4"]);
    assert_eq!(again.status.code(), Some(4), "{again:?}");
}

#[test]
fn a_server_that_was_asked_answers_under_a_hive_with_what_was_learned() {
    require_root!();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let mock = mock_binary().display().to_string();
    let directory = Path::new(&mock).parent().and_then(Path::to_str).expect("a directory");
    let number = port.to_string();
    let asked = Learning::under(PLAIN).option("--binary-dir", directory).option("--timeout", &seconds(20)).option("--port", &number);
    let mut child = asked.command(&["mock-worker", "--port", &number]).spawn().expect("start policy learn");
    let limit = std::time::Duration::from_secs(15);
    eventually("an answer", limit, || http_get(port, "/health").ok().filter(|reply| reply.status == 200));
    // The command's own end, as it comes by a signal.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).expect("our own child");
    assert!(child.wait().expect("wait").success());
    let profile = std::fs::read_to_string(asked.profile()).expect("the profile");
    let hive = Hive::start(HiveOptions::default().policy("mine", &asked.text()).seccomp_profile("mine", &profile));
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "mine", "device": "cpu"}));
    assert_eq!(worker["state"], "ready", "{worker}");
    let own = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    assert_eq!(http_get(own, "/health").expect("it answers").status, 200);
}

#[test]
fn threads_and_modules_of_an_interpreter_are_learned() {
    if !is_root() {
        return;
    }
    if !Path::new("/usr/bin/python3").exists() {
        skip!("python3");
    }
    let script = "import json, threading\nt = threading.Thread(target=lambda: print(json.dumps({'a': 1})))\nt.start()\nt.join()\n\
        import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\nc = socket.create_connection(s.getsockname())\nprint('met')";
    let command = ["python3", "-c", script];
    let learning = Learning::under(PLAIN);
    assert_eq!(learning.learned(&command), "{\"a\": 1}\nmet\n");
    let again = learning.run(&command);
    assert_eq!((again.status.code(), again.stdout.as_slice()), (Some(0), &b"{\"a\": 1}\nmet\n"[..]), "{again:?}");
}

#[test]
fn what_is_written_in_stays_writable_and_what_is_not_does_not() {
    if !is_root() {
        return;
    }
    let shared = tempfile::tempdir_in("/run").expect("a directory to share");
    let place = |name: &str| {
        let path = shared.path().join(name);
        std::fs::create_dir(&path).expect("make it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("open it for the worker");
        path.display().to_string()
    };
    let (written, read) = (place("written"), place("read"));
    std::fs::write(format!("{read}/in"), "x\n").expect("write");
    let base = format!("[worker]\nbinary = \"unused\"\n[filesystem]\nread_write = [\"{written}\", \"{read}\"]\n");
    let script = format!("cat {read}/in > {written}/new && mv {written}/new {written}/out && cat {written}/out");
    let learning = Learning::under(&base);
    assert_eq!(learning.learned(&["sh", "-c", &script]), "x\n");
    std::fs::remove_file(format!("{written}/out")).expect("it was made");
    let again = learning.run(&["sh", "-c", &script]);
    assert_eq!((again.status.code(), again.stdout.as_slice()), (Some(0), &b"x\n"[..]), "{again:?}");
    let beyond = learning.run(&["sh", "-c", &format!("echo y > {written}/y; cat {written}/y; echo z > {read}/in; cat {read}/in")]);
    assert_eq!(beyond.stdout.as_slice(), b"y\nx\n", "{beyond:?}");
}

#[test]
fn a_device_is_granted_where_it_was_opened() {
    if !is_root() {
        return;
    }
    let readable = |node: &&str| std::fs::metadata(node).is_ok_and(|m| m.permissions().mode() & 0o004 != 0);
    let Some(node) = ["/dev/fuse", "/dev/net/tun", "/dev/kmsg", "/dev/ptmx"].into_iter().find(readable) else {
        skip!("a device node that everybody may open and not every worker has")
    };
    let base = format!("[worker]\nbinary = \"unused\"\n[devices]\nnodes = [{{ path = \"{node}\", reason = \"a test\" }}]\n");
    let with = Learning::under(&base);
    with.learned(&["sh", "-c", &format!("test -r {node} && ( : < {node} ) ; echo done")]);
    assert!(with.text().contains(&format!("path = \"{node}\", access = \"r\"")), "{}", with.text());
    let there = with.run(&["sh", "-c", &format!("test -r {node} && echo there")]);
    assert_eq!(there.stdout.as_slice(), b"there\n", "{there:?}");
    let without = Learning::under(&base);
    without.learned(&["sh", "-c", "echo done"]);
    assert!(!without.text().contains(node), "{}", without.text());
}

#[test]
fn what_the_base_denies_is_denied_while_learning() {
    if !is_root() {
        return;
    }
    let mock = mock_binary();
    let directory = mock.parent().and_then(Path::to_str).expect("a directory");
    let learning = Learning::under(PLAIN).option("--binary-dir", directory);
    let output = learning.learn(&["sh", "-c", "mock-worker --violate --exit-code 0; echo survived"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("delete_module"), "{output:?}");
    assert!(!learning.policy().exists() && !learning.profile().exists(), "nothing is proposed");
    let refused = Learning::under(PLAIN);
    let watched = refused.learned(&["sh", "-c", "unshare --user true || echo refused; echo x 2>/dev/null > /usr/x || echo read-only; id -u; cat /proc/1/environ 2>/dev/null || echo hidden"]);
    assert!(watched.starts_with("refused\nread-only\n") && watched.ends_with("hidden\n") && !watched.contains("\n0\n"), "{watched}");
}

#[test]
fn a_process_that_makes_itself_unreadable_is_read_all_the_same() {
    if !is_root() {
        return;
    }
    if !Path::new("/usr/bin/python3").exists() {
        skip!("python3");
    }
    // PR_SET_DUMPABLE 0
    let command =
        ["python3", "-c", "import ctypes; ctypes.CDLL(None).prctl(4, 0); print(len(open('/usr/share/common-licenses/BSD').read()) > 0)"];
    let learning = Learning::under(PLAIN);
    assert_eq!(learning.learned(&command), "True\n");
    assert!(
        learning.text().contains("/usr/share/common-licenses/BSD") && !learning.text().contains("not every path"),
        "{}",
        learning.text()
    );
    assert_eq!(learning.run(&command).stdout.as_slice(), b"True\n");
}

#[test]
fn many_processes_are_counted_and_none_is_left() {
    if !is_root() {
        return;
    }
    let mark = format!("78{}", std::process::id());
    let learning = Learning::under("[worker]\nbinary = \"unused\"\n[limits]\npids_max = 40\n").option("--timeout", &seconds(2));
    let script = format!("for i in 1 2 3 4 5 6 7 8; do setsid sleep {mark} & done; wait");
    let output = learning.learn(&["sh", "-c", &script]);
    assert!(output.status.success(), "{output:?}");
    let left = procfs::process::all_processes().expect("/proc").flatten().filter(|p| p.cmdline().is_ok_and(|c| c.contains(&mark)));
    assert_eq!(left.count(), 0, "a watched process outlived its sandbox");
    let text = learning.text();
    let tasks = text.lines().find(|l| l.starts_with("pids_max")).expect("a limit");
    assert!(tasks.contains("9 tasks") || tasks.contains("10 tasks") || tasks.contains("base's own"), "{tasks}");
}

#[test]
fn nothing_is_overwritten_and_no_worker_of_a_hive_is_watched() {
    if !is_root() {
        return;
    }
    let learning = Learning::under(PLAIN);
    std::fs::write(learning.policy(), "by hand").expect("write");
    let output = learning.learn(&["sh", "-c", "echo ran"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "refused before anything runs: {output:?}");
    assert_eq!(learning.text(), "by hand");
    // The launcher's own option, and only with that of a foreground command.
    let launcher =
        Command::new(hive_binary()).args(["launcher", "--channel-fd", "0", "--state-dir", "/nowhere", "--watch"]).output().expect("start");
    assert_eq!(launcher.status.code(), Some(2), "{launcher:?}");
    assert!(String::from_utf8_lossy(&launcher.stderr).contains("--for-run"), "{launcher:?}");
}

#[test]
fn a_command_that_is_not_there_teaches_nothing() {
    if !is_root() {
        return;
    }
    let learning = Learning::under(PLAIN);
    let output = learning.learn(&["no-such-command"]);
    assert!(output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains("no-such-command"), "{output:?}");
    assert!(!learning.policy().exists());
}

#[test]
fn where_nothing_can_be_watched_nothing_is_guessed() {
    if !is_root() {
        return;
    }
    // A filter can have one listener for each process (seccomp(2)), so that whoever listens already leaves no place for another.
    let allow = rbee_hive_sys::seccomp::Insn { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    let output = std::thread::spawn(move || {
        let listener = rbee_hive_sys::seccomp::load_listening(&[allow]).expect("root may load a filter");
        let learning = Learning::under(PLAIN);
        let output = learning.learn(&["sh", "-c", "echo ran"]);
        drop(listener);
        (output, learning.policy().exists())
    });
    let (output, written) = output.join().expect("the thread ends");
    assert_eq!((output.status.code(), output.stdout.as_slice(), written), (Some(1), &b""[..], false), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("listens to this process's system calls already"), "{output:?}");
}
