//! A directory as the root: read-only, complete without being written to, and with no way out of it.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a directory that can't be made ends the test, and a skipped test says so")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sandbox_tests::{Sandboxed, is_root};
use serde_json::json;
use tempfile::TempDir;
use test_support::{Hive, HiveOptions, http_get};

const BUSYBOX: &str = "/bin/busybox";
const CLASSIC: [&str; 3] = [env!("CARGO_BIN_EXE_deny-calls"), "38", "open_tree,move_mount,mount_setattr"];

/// A directory of root's own.
fn directory() -> TempDir {
    let open = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(open).tempdir_in("/run").expect("a directory")
}

/// A root of nothing but busybox, in `/bin`; `None` where it is not installed or this is not root.
fn busybox() -> Option<TempDir> {
    if !is_root() {
        return None;
    }
    if !Path::new(BUSYBOX).exists() {
        println!("SKIPPED: needs busybox-static");
        return None;
    }
    let root = directory();
    fs::create_dir(root.path().join("bin")).expect("bin");
    fs::copy(BUSYBOX, root.path().join("bin/busybox")).expect("busybox");
    for name in ["sh", "ls", "cat", "touch", "grep", "id", "mkdir", "cp", "wc", "stat"] {
        symlink("busybox", root.path().join("bin").join(name)).expect("an applet");
    }
    Some(root)
}

fn sandboxed(root: &Path, extra: &str) -> Sandboxed {
    Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n[filesystem]\nroot = \"{}\"\n{extra}", root.display()))
}

/// Everything below `path`, with what a write would change.
fn state(path: &Path) -> BTreeMap<PathBuf, (u64, u32, i64)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let there = fs::symlink_metadata(&path).expect("stat");
        if there.is_dir() {
            pending.extend(fs::read_dir(&path).expect("list").flatten().map(|e| e.path()));
        }
        found.insert(path, (there.ino(), there.mode(), there.ctime_nsec()));
    }
    found
}

#[test]
fn a_bare_directory_becomes_a_complete_root_and_is_not_written_to() {
    let Some(root) = busybox() else { return };
    let before = state(root.path());
    let look = "ls /; cat /etc/hosts; id -un; pwd; echo x > /dev/null && touch /tmp/x /dev/shm/x $HOME/x /run/worker/x && echo scratch; \
        for f in /x /bin/x /etc/x /home/x /sys/x /dev/x /run/x; do touch $f 2>/dev/null && echo wrote $f; done; \
        ls /usr/bin 2>/dev/null; grep -c . /proc/self/status >/dev/null && echo proc";
    for prefix in [&[][..], &CLASSIC] {
        let ended = sandboxed(root.path(), "").below(prefix).sh(look);
        let expected = "bin\ndev\netc\nhome\nproc\nrun\nsys\ntmp\nvar\n127.0.0.1 localhost";
        assert!(ended.status == Some(0) && ended.stdout.starts_with(expected), "{ended:?}");
        assert!(ended.stdout.ends_with("worker\n/home/worker\nscratch\nproc\n"), "{ended:?}");
        assert_eq!(state(root.path()), before, "the directory was written to");
    }
    let host = Sandboxed::new().sh("ls -d /usr/bin");
    assert_eq!(host.stdout, "/usr/bin\n", "a root of binds has it: {host:?}");
}

#[test]
fn what_the_directory_has_is_kept_and_what_it_lacks_is_added_beside_it() {
    let Some(root) = busybox() else { return };
    for path in ["etc/deep", "home/guest", "var/lib", "opt/tool"] {
        fs::create_dir_all(root.path().join(path)).expect("a directory");
    }
    fs::write(root.path().join("etc/hosts"), "its own\n").expect("a file");
    fs::write(root.path().join("etc/deep/file"), "deep\n").expect("a file");
    symlink("/etc/deep/file", root.path().join("etc/link")).expect("a link");
    symlink("/nowhere/at/all", root.path().join("etc/hostname")).expect("a dangling link");
    let shared = directory();
    fs::write(shared.path().join("f"), "shared\n").expect("a file");
    let path = shared.path().display();
    let before = state(root.path());
    let look = format!(
        "cat /etc/hosts /etc/link {path}/f; grep -c worker /etc/passwd; cat /etc/hostname 2>/dev/null; ls /home /var /opt; \
         for f in /etc/x /etc/deep/x /home/x /home/guest/x /opt/x /var/x /run/x {path}/x; do touch $f 2>/dev/null && echo wrote $f; done; \
         touch /home/worker/x && echo home"
    );
    for prefix in [&[][..], &CLASSIC] {
        let ended = sandboxed(root.path(), &format!("read_only = [\"{path}\"]\n")).below(prefix).sh(&look);
        let expected = "its own\ndeep\nshared\n1\n/home:\nguest\nworker\n\n/opt:\ntool\n\n/var:\nlib\nhome\n";
        assert_eq!(ended.stdout, expected, "{ended:?}");
        assert_eq!(state(root.path()), before, "the directory was written to");
    }
}

#[test]
fn a_mount_target_that_is_a_link_is_refused_and_nothing_is_made_where_it_leads() {
    let Some(root) = busybox() else { return };
    let outside = directory();
    let refuse = |name: &str, target: &str, extra: &str, step: &str| {
        let link = root.path().join(name);
        fs::create_dir_all(link.parent().expect("a parent")).expect("its parent");
        symlink(target, &link).expect("a link");
        for prefix in [&[][..], &CLASSIC] {
            let ended = sandboxed(root.path(), extra).below(prefix).sh("echo started");
            assert_eq!((ended.status, ended.stdout.as_str()), (Some(125), ""), "{name} → {target}: {ended:?}");
            assert_eq!((&ended.report["step"], &ended.report["errno"]), (&json!(step), &json!(40)), "{name} → {target}: {ended:?}");
            assert!(ended.report["hint"].as_str().is_some_and(|h| h.contains("symbolic link")), "{ended:?}");
        }
        assert!(fs::read_dir(outside.path()).expect("list").next().is_none(), "{name} → {target}: something was made outside");
        fs::remove_file(link).expect("remove the link");
    };
    let elsewhere = outside.path().display().to_string();
    for target in [elsewhere.as_str(), "/bin", "../../../..", "/nowhere"] {
        for name in ["proc", "sys", "dev", "tmp", "run", "etc", "var"] {
            refuse(name, target, "", "mount root");
        }
        refuse("home", target, "", "mount scratch");
        refuse("home/worker", target, "", "mount scratch");
        fs::remove_dir(root.path().join("home")).expect("remove home");
        refuse("usr", target, "read_only = [\"/usr/share\"]\n", "bind files");
    }
    let ended = sandboxed(root.path(), "").sh("echo started");
    assert_eq!(ended.stdout, "started\n", "without the links it starts: {ended:?}");
}

#[test]
fn what_is_no_file_is_not_shown_and_a_directory_with_too_much_in_it_is_refused_with_a_hint() {
    let Some(root) = busybox() else { return };
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).expect("a socket");
    nix::sys::stat::mknod(
        &root.path().join("full"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::all(),
        nix::sys::stat::makedev(1, 7),
    )
    .expect("a node");
    let ended = sandboxed(root.path(), "").sh("ls /");
    assert!(ended.stdout.contains("bin\n") && !ended.stdout.contains("socket") && !ended.stdout.contains("full"), "{ended:?}");
    fs::create_dir(root.path().join("etc")).expect("etc");
    for n in 0..1100 {
        fs::write(root.path().join(format!("etc/{n}")), "").expect("a file");
    }
    let many = sandboxed(root.path(), "").sh("true");
    assert_eq!((many.status, &many.report["step"]), (Some(125), &json!("write etc")), "{many:?}");
    assert!(many.report["hint"].as_str().is_some_and(|h| h.contains("1024")), "{many:?}");
    for name in ["passwd", "group", "hosts", "nsswitch.conf", "hostname"] {
        fs::write(root.path().join("etc").join(name), "").expect("a file");
    }
    let complete = sandboxed(root.path(), "").sh("ls /etc | wc -l");
    assert_eq!(complete.stdout.trim(), "1105", "with nothing missing it is bound as it is: {complete:?}");
}

#[test]
fn a_set_user_id_program_of_the_directory_gives_nothing() {
    let Some(root) = busybox() else { return };
    let copy = root.path().join("bin/id");
    fs::remove_file(&copy).expect("no link");
    fs::copy(BUSYBOX, &copy).expect("a copy");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).expect("set-user-ID");
    let ended = sandboxed(root.path(), "").sh("stat -c %a /bin/id; id -u; grep ' /bin ' /proc/self/mountinfo | grep -c nosuid");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[0] == "4755" && lines[1] != "0" && lines[2] == "1", "{ended:?}");
}

#[test]
fn the_directorys_programs_run_and_what_can_be_written_in_it_does_not() {
    let Some(root) = busybox() else { return };
    let shared = directory();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o777)).expect("open it for the worker");
    let path = shared.path().display();
    let nothing = "[landlock]\nenforce = \"none\"\nreason = \"a test compares\"\n";
    let script = format!("cp /bin/busybox {path}/busybox && {path}/busybox true && echo ran; /bin/busybox echo alive");
    let run = |extra: &str| sandboxed(root.path(), &format!("read_write = [\"{path}\"]\n{extra}")).sh(&script);
    let (without, with) = (run(nothing), run(""));
    assert_eq!(without.stdout, "ran\nalive\n", "{without:?}");
    assert_eq!(with.stdout, "alive\n", "{with:?}");
}

#[test]
fn nothing_that_is_mounted_later_reaches_the_sandbox() {
    let Some(root) = busybox() else { return };
    fs::create_dir(root.path().join("late")).expect("a mount point");
    let path = root.path().display();
    // The directory lies on a shared mount, as everything does under systemd.
    let outer = format!("mount --bind {path} {path} && mount --make-shared {path} && exec \"$@\"");
    for classic in [&[][..], &CLASSIC] {
        let prefix: Vec<&str> =
            ["unshare", "-m", "--propagation", "private", "sh", "-c", &outer, "sh"].iter().chain(classic).copied().collect();
        let ended = sandboxed(root.path(), "").below(&prefix).sh("grep -c -E 'shared:|master:' /proc/self/mountinfo; echo end");
        assert_eq!(ended.stdout, "0\nend\n", "{ended:?}");
    }
}

#[test]
fn a_hives_worker_comes_from_its_root_directory() {
    let Some(root) = busybox() else { return };
    fs::create_dir(root.path().join("www")).expect("www");
    fs::write(root.path().join("www/health"), "from the root\n").expect("a page");
    let policy = |path: &Path, binary: &str| {
        format!(
            "[worker]\nbinary = \"{binary}\"\ncommand = [\"{{binary}}\", \"httpd\", \"-f\", \"-p\", \"127.0.0.1:{{port}}\", \"-h\", \"/www\"]\n\
             [filesystem]\nroot = \"{}\"\n",
            path.display()
        )
    };
    let link = directory();
    symlink(root.path(), link.path().join("link")).expect("a link");
    let open = tempfile::tempdir_in("/tmp").expect("a directory below one that all can write");
    let options = HiveOptions::default()
        .policy("named", &policy(root.path(), "busybox"))
        .policy("absolute", &policy(root.path(), "/bin/busybox"))
        .policy("missing", &policy(root.path(), "llama-server"))
        .policy("linked", &policy(&link.path().join("link"), "busybox"))
        .policy("open", &policy(open.path(), "busybox"))
        .policy("absent", &policy(Path::new("/run/there/is/no/such/root"), "busybox"))
        .model("m.gguf", b"weights");
    let hive = Hive::start(options);
    for name in ["named", "absolute"] {
        let worker = hive.call("worker_spawn", json!({"worker_id": name, "model": "m.gguf", "policy": name, "device": "cpu"}));
        let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
        assert_eq!(http_get(port, "/health").expect("an answer").text(), "from the root\n");
        assert_eq!(hive.call("worker_status", json!({"worker_id": name}))["drift"], json!([]), "it is what was planned");
    }
    let refused = |name: &str| hive.rpc("worker_spawn", json!({"model": "m.gguf", "policy": name, "device": "cpu"})).expect_err(name);
    let missing = refused("missing");
    assert_eq!(missing.kind(), "binary_not_found", "{missing}");
    assert!(missing.data["tried"].to_string().contains(&format!("{}/usr/bin/llama-server", root.path().display())), "{missing}");
    assert_eq!(refused("open").kind(), "invalid_policy");
    for name in ["linked", "absent"] {
        let error = refused(name);
        assert!(["not_enforceable", "invalid_policy"].contains(&error.kind()) && error.message.contains("filesystem.root"), "{error}");
    }
}

#[test]
fn an_ordinary_users_worker_has_such_a_root_too() {
    let Some(root) = busybox() else { return };
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() == "0") {
        println!("SKIPPED: needs unprivileged user namespaces");
        return;
    }
    fs::create_dir_all(root.path().join("www")).expect("www");
    fs::write(root.path().join("www/health"), "from the root\n").expect("a page");
    let policy = format!(
        "[worker]\nbinary = \"busybox\"\ncommand = [\"{{binary}}\", \"httpd\", \"-f\", \"-p\", \"127.0.0.1:{{port}}\", \"-h\", \"/www\"]\n\
         [filesystem]\nroot = \"{}\"\n",
        root.path().display()
    );
    let before = state(root.path());
    let hive = Hive::start(HiveOptions::default().policy("root", &policy).model("m.gguf", b"weights").as_nobody());
    let worker = hive.call("worker_spawn", json!({"model": "m.gguf", "policy": "root", "device": "cpu"}));
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    assert_eq!(http_get(port, "/health").expect("an answer").text(), "from the root\n");
    assert_eq!(state(root.path()), before, "the directory was written to");
}
