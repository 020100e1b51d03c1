use super::*;
use crate::embedded;

const HEAD: &str = "[worker]\nbinary = \"x\"\n";

fn checked(text: &str) -> Checked {
    let fragment = |name: &str| match name {
        "fragments/own" => Some("[worker]\nstop_grace = \"3s\"\n[limits]\npids_max = 7\n".to_owned()),
        other => embedded::fragment(other).map(str::to_owned),
    };
    check("t", "t.toml", text, &fragment).unwrap()
}

fn lines(text: &str) -> Vec<String> {
    checked(text).findings.iter().map(ToString::to_string).collect()
}

/// The first finding's line for `more` below a head of two lines, and whether there is one at all without it.
fn finds(more: &str, want: &str) {
    let found = lines(&format!("{HEAD}{more}"));
    assert!(found.iter().any(|line| line.contains(want)), "{want:?} is not said of\n{more}\nbut {found:#?}");
}

#[test]
fn the_shipped_policies_have_no_errors_and_no_warnings() {
    for name in embedded::names() {
        let checked = checked(embedded::policy(name).unwrap());
        assert!(checked.is_clean_of(Level::Warning), "{name}: {:#?}", checked.findings);
    }
}

#[test]
fn a_policy_of_its_binary_alone_has_nothing_to_be_said_about() {
    assert_eq!(lines(HEAD), Vec::<String>::new());
}

#[test]
fn contradictions_are_errors_with_their_line() {
    for (more, want) in [
        (
            "[filesystem]\nread_only = [\"/usr\", \"/data\"]\nread_write = [\"/data\"]",
            "t.toml:4: filesystem.read_only: error: /data is listed in read_write",
        ),
        (
            "[limits]\nmemory_max = \"1GiB\"\nmemory_high = \"2GiB\"",
            "t.toml:5: limits.memory_high: error: 2GiB is not below memory_max, 1GiB",
        ),
        ("[limits]\nmemory_max = \"1GiB\"\nmemory_low = \"2GiB\"", "limits.memory_low: error"),
        (
            "[limits]\nmemory_max = \"2GiB\"\n[request]\nmay_set = [\"limits\"]\n[request.max]\nmemory_max = \"1GiB\"",
            "t.toml:8: request.max.memory_max: error: 1GiB is less",
        ),
        (
            "[credentials]\ncapabilities = [{ name = \"CAP_SYS_PTRACE\", reason = \"r\" }]",
            "t.toml:4: credentials.capabilities: error: CAP_SYS_PTRACE is granted, but",
        ),
        ("[credentials]\ncapabilities = [{ name = \"CAP_NET_RAW\", reason = \"r\" }]", "refuses what it is for (socket)"),
        (
            "[devices]\nnodes = [{ path = \"/dev/fuse\", reason = \"r\" }, { path = \"/dev/fuse\", reason = \"r\", access = \"r\" }]",
            "devices.nodes: error: /dev/fuse is granted with \"rw\" and again with \"r\"",
        ),
        ("[environment]\nset = { HOME = \"/usr/x\" }", "environment.set.HOME: error: \"/usr/x\" is no place"),
    ] {
        finds(more, want);
    }
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (more, want) in [
        ("[filesystem]\nread_only = [\"/usr\", \"/usr/lib\"]", "filesystem.read_only: warning: /usr/lib lies below /usr"),
        ("[filesystem]\nread_write = [\"/data\", \"/data\"]", "/data is listed twice"),
        ("[filesystem]\nread_write = [\"/etc/x\"]", "could change the host's own /etc"),
        ("model_dirs = [\"/m\"]\n[filesystem]\nread_write = [\"/m\"]", "worker.model_dirs: warning: a worker can write in /m"),
        ("model_dirs = [\"/m\", \"/m/x\"]", "/m/x lies below /m, which is listed"),
        (
            "[devices]\nnodes = [{ path = \"/dev/fuse\", reason = \"r\" }, { path = \"/dev/fuse\", reason = \"r\" }]",
            "warning: /dev/fuse is granted twice",
        ),
        ("[devices]\ngpus = \"leased\"\nnodes = [{ path = \"/dev/nvidia0\", reason = \"r\" }]", "open to every worker"),
        ("[environment]\npass = [\"A\"]\nset = { A = \"b\" }", "environment.pass: warning: A is set, too"),
        ("[environment]\npass = [\"LD_PRELOAD\"]", "decides which code is loaded"),
        ("[environment]\nset = { CUDA_VISIBLE_DEVICES = \"0\" }", "is the lease's to say"),
        ("[limits]\nswap_max = \"0\"", "limits.swap_max: warning: without memory_max"),
        ("[limits]\noom_group = 1", "limits.oom_group: warning: without memory_max"),
        ("[limits]\npids_max = \"max\"", "limits.pids_max: warning: takes the limit away"),
        ("[limits]\nmemory_max = \"max\"", "limits.memory_max: warning: is no limit"),
        ("[limits]\nmemory_max = \"1GiB\"\nmemory_high = \"1GiB\"", "limits.memory_high: warning"),
        ("[limits]\ncpus = 2.0\ncpuset = \"0-1\"", "are never reached"),
        ("[limits]\nmemory_max = \"1MiB\"\n[filesystem]\ntmp_size = \"2MiB\"", "filesystem.tmp_size: warning: 2MiB can't be filled"),
        ("[request]\nmax = { pids_max = 900 }", "request.max: warning: may_set does not list"),
        ("[request]\nmay_set = [\"limits\"]\nmax = { pids_max = 512 }", "request.max.pids_max: warning: 512 is the policy's own value"),
        ("[request]\nmay_set = [\"limits\"]\nmax = { pids_max = \"max\" }", "lets a request take the limit away"),
        (
            "[seccomp]\nprofile = \"none\"\nreason = \"r\"\n[landlock]\nenforce = \"none\"\nreason = \"r\"\n[network]\nmode = \"host\"",
            "nothing but file permissions",
        ),
        ("[seccomp]\nprofile = \"none\"\nreason = \"r\"\n[landlock]\nenforce = \"none\"\nreason = \"r\"", "the whole kernel is open"),
        ("[landlock]\nenforce = \"none\"\nreason = \"r\"\n[network]\nmode = \"host\"", "Landlock is all that keeps"),
        ("[seccomp]\nreason = \"r\"", "seccomp.reason: warning"),
        ("[landlock]\nreason = \"r\"", "landlock.reason: warning"),
        ("[restart]\nmax_restarts = 3", "it is never restarted"),
        ("stop_signal = \"SIGKILL\"", "nothing is left to wait for"),
        ("[readiness]\nstart_timeout = \"5s\"\nstall_timeout = \"6s\"", "start_timeout ends the start before"),
        ("[readiness]\nnone = true\nstart_timeout = \"5s\"", "ready when it has been executed"),
        (
            "[credentials]\ncapabilities = [{ name = \"CAP_IPC_LOCK\", reason = \"r\" }, { name = \"CAP_IPC_LOCK\", reason = \"s\" }]",
            "granted twice",
        ),
    ] {
        finds(more, want);
    }
}

#[test]
fn a_capability_whose_calls_the_profile_lets_through_is_no_contradiction() {
    for granted in ["CAP_MKNOD", "CAP_IPC_LOCK", "CAP_NET_ADMIN", "CAP_DAC_OVERRIDE"] {
        let found = lines(&format!("{HEAD}[credentials]\ncapabilities = [{{ name = \"{granted}\", reason = \"r\" }}]\n"));
        assert_eq!(found, Vec::<String>::new(), "{granted}");
    }
    let none = format!(
        "{HEAD}[credentials]\ncapabilities = [{{ name = \"CAP_BPF\", reason = \"r\" }}]\n[seccomp]\nprofile = \"none\"\nreason = \"r\"\n"
    );
    assert_eq!(lines(&none), Vec::<String>::new(), "without a filter nothing is refused");
}

#[test]
fn a_key_that_changes_nothing_is_found_without_a_list_of_defaults() {
    let text = "include = [\"fragments/own\"]\ndescription = \"d\"\n[worker]\nbinary = \"x\"\nstop_grace = \"3s\"\n[process]\numask = \"0022\"\n[limits]\npids_max = 8\n";
    assert_eq!(
        lines(text),
        [
            "t.toml:1: include: warning: nothing of fragments/own.toml is in force: this file says all of it, too; remove it",
            "t.toml:5: worker.stop_grace: warning: fragments/own.toml:2 says the same; remove one of the two",
            "t.toml:7: process.umask: note: is what a policy without the key has, too",
        ]
    );
    let used = "include = [\"fragments/own\"]\n[worker]\nbinary = \"x\"\nstop_grace = \"4s\"\n";
    assert_eq!(lines(used), Vec::<String>::new());
    let default = "include = [\"fragments/inference\"]\n[worker]\nbinary = \"x\"\n";
    assert_eq!(
        lines(default),
        ["t.toml:1: include: note: all that is in force of fragments/inference.toml is what a policy has without it"]
    );
}

#[test]
fn what_is_no_policy_is_an_error_and_not_a_finding() {
    let error = check("t", "t.toml", &format!("{HEAD}[limits]\nmemroy_max = 1\n"), &|_| None).unwrap_err();
    assert_eq!((error.line, error.key.as_deref()), (Some(4), Some("memroy_max")));
}

proptest::proptest! {
    #[test]
    fn no_policy_makes_a_rule_panic(pids in 1u64..9, keys in "((read_only|read_write|x) = \\[(\"/[a-c/]{1,6}\",){0,4}\\]\n){0,2}") {
        let text = format!("{HEAD}[limits]\npids_max = {pids}\n[filesystem]\n{keys}");
        let _ = check("t", "t.toml", &text, &|name| embedded::fragment(name).map(str::to_owned));
    }
}

#[test]
fn what_is_said_of_gpus_needs_a_lease_and_agrees_with_its_share() {
    let leased = |more: &str| format!("[devices]\ngpus = \"leased\"\n{more}");
    finds("[devices]\nshare = { ways = 2 }", "t.toml:4: devices.share: error: no GPU is leased");
    finds("[devices]\nmps_active_threads = 50", "devices.mps_active_threads: error: no GPU is leased");
    finds(&leased("mps = \"required\""), "t.toml:5: devices.mps: error: the GPU is exclusive");
    finds(&leased("share = { ways = 2 }\nmps_active_threads = 50"), "t.toml:6: devices.mps_active_threads: error: MPS is off");
    finds(
        &leased("share = { memory = \"10GiB\" }\ngpu_memory_max = \"20GiB\""),
        "t.toml:6: devices.gpu_memory_max: error: 20GiB is more than the share of 10GiB",
    );
    finds(&leased("gpu_memory_max = \"1GiB\"\nvram_min = \"2GiB\""), "devices.vram_min: error: 2GiB must be free");
    finds(&leased("gpu_memory_action = \"warn\""), "devices.gpu_memory_action: warning: there is no gpu_memory_max");
    finds(&leased("share = { ways = 2 }"), "devices.share: note: one worker can take all");
    let good = leased("share = { memory = \"10GiB\" }\nmps = \"if_available\"\nmps_active_threads = 50\nvram_min = \"8GiB\"");
    assert_eq!(lines(&format!("{HEAD}on_hive_exit = \"kill\"\n{good}")), Vec::<String>::new());
    finds(&good, "devices.mps: error: the worker outlives the hive and its MPS daemon does not");
}

#[test]
fn what_follows_from_running_out_of_memory_is_said_once() {
    finds(
        "on_oom = \"kill\"\n[limits]\nmemory_max = \"1GiB\"\noom_group = false",
        "t.toml:3: worker.on_oom: error: \"kill\" and oom_group = false",
    );
    finds(
        "on_oom = \"stop\"\n[limits]\nmemory_max = \"1GiB\"\noom_group = true",
        "t.toml:3: worker.on_oom: error: nothing is left to stop",
    );
    finds("on_oom = \"stop\"", "t.toml:3: worker.on_oom: warning: without memory_max");
    assert!(checked(&format!("{HEAD}on_oom = \"stop\"\n[limits]\nmemory_max = \"1GiB\"\n")).is_clean_of(Level::Warning));
}
