//! All attempts, by what they are after.
//!
//! The worker `sibling` runs meanwhile, with the GPU 0 and the port 9100.

use nix::sys::socket::SockType;
use serde_json::{Value, json};

use crate::attempt::{Attempt, Carried};

/// The message that ends a launcher.
pub(crate) const SHUTDOWN: &[u8] = b"{\"op\":\"shutdown\"}";

/// The one request that is as it should be.
pub(crate) fn honest() -> Vec<u8> {
    spawn_with(1, json!({"worker_id": "sibling", "devices": ["GPU-0"], "port": 9100})).to_string().into_bytes()
}

/// A spawn under a policy, with a number.
pub(crate) fn spawn_of(seq: u64, policy: &str) -> Vec<u8> {
    spawn_with(seq, json!({"policy": policy})).to_string().into_bytes()
}

/// A look-up, which could not be had.
pub(crate) fn find_of(seq: u64, policy: &str) -> Vec<u8> {
    json!({"op": "find", "seq": seq, "policy": policy, "model": "m"}).to_string().into_bytes()
}

/// Every attempt.
pub(crate) fn all() -> Vec<Attempt> {
    let lists = [policies(), limits(), updates(), command(), models(), devices(), ids(), ports(), descriptors(), stolen(), messages()];
    lists.into_iter().flatten().collect()
}

/// A spawn that would work, but for `change`.
fn spawn_with(seq: u64, change: Value) -> Value {
    let mut request = json!({
        "worker_id": "attempt", "policy": "mock", "command": {"worker": {"model": "m.gguf", "args": []}},
        "devices": ["CPU-0"], "env": {}, "limits": {}, "port": 9101,
    });
    if let (Some(request), Value::Object(change)) = (request.as_object_mut(), change) {
        request.extend(change);
    }
    json!({"op": "spawn", "seq": seq, "request": request})
}

fn spawn(name: &str, expected: &'static str, change: Value) -> Attempt {
    Attempt::of(name, expected, &spawn_with(100, change))
}

fn forget(name: &str, expected: &'static str, worker: &str) -> Attempt {
    Attempt::of(name, expected, &json!({"op": "forget", "seq": 100, "worker_id": worker})).carrying(Carried::Nothing)
}

fn show(name: &str, expected: &'static str, policy: &str) -> Attempt {
    Attempt::of(name, expected, &json!({"op": "policy_show", "seq": 100, "name": policy})).carrying(Carried::Nothing)
}

fn policies() -> Vec<Attempt> {
    let under = |name: &str, expected, policy: &str| spawn(name, expected, json!({"policy": policy}));
    vec![
        under("a policy that is not there", "unknown_policy", "no-such-policy"),
        under("a policy by a path upwards", "unknown_policy", "../config"),
        under("a policy by an absolute path", "unknown_policy", "/etc/passwd"),
        under("a policy that is a fragment", "unknown_policy", "seccomp/inference"),
        under("a policy with a NUL in its name", "unknown_policy", "mock\0.x"),
        under("a policy with a name of 100 KB", "unknown_policy", &"x".repeat(100_000)),
        under("a policy that is a link", "invalid_policy", "linked"),
        under("a policy that others can write", "invalid_policy", "writable"),
        under("a policy of another owner", "invalid_policy", "foreign"),
        under("the policy trusted, not configured", "policy_violation", "trusted"),
        show("a look at a file by way of a policy", "unknown_policy", "../secret"),
        show("a look at a linked policy", "invalid_policy", "linked"),
    ]
}

fn limits() -> Vec<Attempt> {
    let asking = |name: &str, expected, limits: Value| spawn(name, expected, json!({"limits": limits}));
    vec![
        asking("more memory than the policy has", "policy_violation", json!({"memory_max": 1_u64 << 40})),
        asking("memory without a limit", "policy_violation", json!({"memory_max": "max"})),
        asking("negative memory", "invalid_params", json!({"memory_max": -1})),
        asking("memory as a list of CPUs", "invalid_params", json!({"memory_max": "0-3"})),
        asking("no tasks at all", "invalid_params", json!({"pids_max": 0})),
        asking("more tasks than the policy has", "policy_violation", json!({"pids_max": 1_000_000})),
        asking("text in a file of the cgroup", "invalid_params", json!({"cpuset": "0\n+memory"})),
        asking("more memory than all workers may have", "at_capacity", json!({"memory_max": 900_u64 << 20})),
        spawn("a limit where the policy lets none be set", "policy_violation", json!({"policy": "fixed", "limits": {"pids_max": 2}})),
        Attempt::unread("a limit that is none", spawn_with(100, json!({"limits": {"uid": 0}})).to_string()).carrying(Carried::Control),
    ]
}

/// Of the worker that runs, whose policy is "mock".
fn updates() -> Vec<Attempt> {
    let update = |worker: &str, limits: Value| json!({"op": "update", "seq": 100, "worker_id": worker, "limits": limits});
    let asking = |name: &str, expected, limits: Value| Attempt::of(name, expected, &update("sibling", limits)).carrying(Carried::Nothing);
    let mut forced = update("sibling", json!({"memory_max": 4096}));
    forced["below_use"] = json!("kill");
    vec![
        Attempt::of("other limits for nobody", "not_found", &update("nobody", json!({"pids_max": 5}))).carrying(Carried::Nothing),
        asking("later more memory than the policy has", "policy_violation", json!({"memory_max": 1_u64 << 40})),
        asking("later no limit of memory", "policy_violation", json!({"memory_max": "max"})),
        asking("later more memory than all workers may have", "at_capacity", json!({"memory_max": 950_u64 << 20})),
        asking("later less memory than is used", "not_allowed_now", json!({"memory_max": 4096})),
        asking("later tasks below nothing", "invalid_params", json!({"pids_max": -1})),
        asking("no other limits at all", "invalid_params", json!({})),
        asking("a file that is no disk", "invalid_params", json!({"io_max": "/dev/../etc/passwd rbps=1MiB"})),
        Attempt::of("descriptors with other limits", "invalid_params", &update("sibling", json!({"pids_max": 5})))
            .carrying(Carried::Files(1)),
        Attempt::unread("another end for what is used", forced.to_string()),
        Attempt::unread("another limit that is none", update("sibling", json!({"uid": 0})).to_string()),
    ]
}

fn command() -> Vec<Attempt> {
    let worker = |args: Value| json!({"worker": {"model": "m.gguf", "args": args}});
    vec![
        spawn(
            "arguments where the policy lets none be set",
            "policy_violation",
            json!({"policy": "fixed", "command": worker(json!(["-x"]))}),
        ),
        spawn("variables where the policy lets none be set", "policy_violation", json!({"policy": "fixed", "env": {"A": "b"}})),
        spawn("a library to be loaded first", "policy_violation", json!({"env": {"LD_PRELOAD": "/tmp/x.so"}})),
        spawn("a GPU by its variable", "policy_violation", json!({"env": {"CUDA_VISIBLE_DEVICES": "0,1"}})),
        spawn("a variable whose name is none", "invalid_params", json!({"env": {"A=B\0": "c"}})),
        spawn("a command of its own", "policy_violation", json!({"command": {"run": {"argv": ["/bin/sh", "-c", "id"]}}})),
        spawn("an argument by way of the model", "policy_violation", json!({"command": {"worker": {"model": "--violate", "args": []}}})),
        spawn("a plan too long to be told", "invalid_params", json!({"command": worker(json!(["\u{1}".repeat(24_500)]))})),
    ]
}

fn models() -> Vec<Attempt> {
    let model = |name: &str, expected, model: &str| {
        spawn(name, expected, json!({"policy": "models", "command": {"worker": {"model": model, "args": []}}}))
    };
    vec![
        model("a model by a path upwards", "policy_violation", "../secret.gguf"),
        model("a model by an absolute path", "policy_violation", "/etc/passwd"),
        model("a model by a link that leads out", "model_not_found", "link.gguf"),
        model("a model that workers can't read", "model_not_readable", "private.gguf"),
    ]
}

fn devices() -> Vec<Attempt> {
    let on = |name: &str, expected, devices: Value| spawn(name, expected, json!({"devices": devices}));
    vec![
        on("a GPU that another worker has", "device_busy", json!(["GPU-0"])),
        on("that GPU among others", "device_busy", json!(["GPU-1", "GPU-0"])),
        on("a GPU twice", "invalid_params", json!(["GPU-1", "GPU-1"])),
        on("a GPU that is not there", "no_such_device", json!(["GPU-7"])),
        on("another spelling of a GPU", "no_such_device", json!(["GPU-00"])),
        on("a device by its path", "no_such_device", json!(["/dev/mem"])),
        on("no device at all", "invalid_params", json!([])),
        on("a thousand devices", "invalid_params", json!(vec!["CPU-0"; 1000])),
        spawn("a GPU where the policy grants none", "policy_violation", json!({"policy": "fixed", "devices": ["GPU-1"]})),
        spawn("a part of a GPU that is given whole", "policy_violation", leased("mock", "GPU-1", json!({"ways": 2}))),
        spawn("a GPU with more sharers than the policy has", "policy_violation", leased("shared", "GPU-1", json!({"ways": 3}))),
        spawn("bytes of a GPU that is shared by turns", "policy_violation", leased("shared", "GPU-1", json!({"memory": 1}))),
        spawn("a part of a GPU that another worker has whole", "device_busy", leased("shared", "GPU-0", json!({"ways": 2}))),
        spawn(
            "a lease by a name that no hive gives",
            "invalid_params",
            json!({"devices": ["GPU-1"], "lease": {"id": "../x", "share": "exclusive"}}),
        ),
    ]
}

fn leased(policy: &str, device: &str, share: Value) -> Value {
    json!({"policy": policy, "devices": [device], "lease": {"id": "lease:1", "share": share}})
}

fn ids() -> Vec<Attempt> {
    let id = |id: &str| spawn_with(100, json!({"worker_id": id})).to_string();
    vec![
        spawn("the name of a worker that runs", "already_exists", json!({"worker_id": "sibling"})),
        Attempt { message: honest(), ..spawn("the first message once more", "already_exists", json!({})) },
        Attempt::unread("a name that leads upwards", id("../../etc")).carrying(Carried::Control),
        Attempt::unread("a name that is a file of a cgroup", id("cgroup.procs")).carrying(Carried::Control),
        spawn("a state directory that is a link", "setup_failed", json!({"worker_id": "planted"})),
        spawn("a log directory that is a link", "setup_failed", json!({"worker_id": "logs"})),
        forget("the records of a worker that runs", "already_exists", "sibling"),
        forget("records behind a link", "setup_failed", "planted"),
        forget("logs behind a link", "setup_failed", "logs"),
        forget("a stranger's file among the records", "setup_failed", "strangers"),
    ]
}

fn ports() -> Vec<Attempt> {
    let port = |name: &str, expected, port: u16| spawn(name, expected, json!({"port": port}));
    vec![
        port("a port of the system", "policy_violation", 22),
        port("port 0", "policy_violation", 0),
        port("a port past the range", "policy_violation", 9200),
        port("another worker's port", "already_exists", 9100),
    ]
}

fn descriptors() -> Vec<Attempt> {
    let with = |name: &str, carried| spawn(name, "invalid_params", json!({})).carrying(carried);
    let list = Attempt::of("descriptors with a question", "invalid_params", &json!({"op": "policy_list", "seq": 100}));
    vec![
        with("no channel", Carried::Nothing),
        with("two channels", Carried::Two),
        with("streams of its own", Carried::Streams),
        list.carrying(Carried::Files(32)),
        Attempt::unread("more descriptors than a message has", b"{\"op\":\"policy_list\",\"seq\":100}".to_vec())
            .carrying(Carried::Files(40)),
    ]
}

fn stolen() -> Vec<Attempt> {
    let as_channel = |name: &str, carried| spawn(&format!("{name} as the channel"), "invalid_params", json!({})).carrying(carried);
    vec![
        as_channel("a file of root's", Carried::Policy),
        as_channel("a directory", Carried::Path("/")),
        as_channel("a device", Carried::Path("/dev/null")),
        as_channel("a TCP socket", Carried::Tcp),
        as_channel("a stream", Carried::Pair(SockType::Stream)),
        as_channel("a datagram socket", Carried::Pair(SockType::Datagram)),
        as_channel("a socket that listens", Carried::Listening),
        as_channel("a connection to a service of root's", Carried::Service),
        as_channel("the launcher's own channel", Carried::Launcher),
    ]
}

fn messages() -> Vec<Attempt> {
    let forget = "\"op\":\"forget\",\"worker_id\":\"nobody\"";
    let mut stray = spawn_with(100, json!({}));
    stray["uid"] = json!(0);
    vec![
        Attempt::unread("a message without a byte", ""),
        Attempt::unread("what is no JSON", "spawn please"),
        Attempt::unread("what is no text", vec![0xff; 64]),
        Attempt::unread("half a message", "{\"op\":\"forget\",\"seq\":1"),
        Attempt::unread("a message of 200 KB", format!("{{{forget},\"seq\":1}}{}", " ".repeat(200_000))),
        Attempt::unread("a thousand brackets", "[".repeat(1000)),
        Attempt::unread(
            "brackets in a field that is not read",
            format!("{{{forget},\"seq\":1,\"x\":{}1{}}}", "[".repeat(500), "]".repeat(500)),
        ),
        Attempt::unread("a number without an end", format!("{{{forget},\"seq\":1e999}}")),
        Attempt::unread("a negative number", format!("{{{forget},\"seq\":-1}}")),
        Attempt::unread("a field twice", format!("{{{forget},\"seq\":1,\"seq\":2}}")),
        Attempt::unread("an order that there is not", "{\"op\":\"exec\",\"seq\":1,\"path\":\"/bin/sh\"}"),
        Attempt::unread("a field that there is not", stray.to_string()).carrying(Carried::Control),
        Attempt::unread("a socket's path in a request", spawn_with(100, json!({"socket": "/run/x.sock"})).to_string())
            .carrying(Carried::Control),
        Attempt::unread("a plan instead of a request", spawn_with(100, json!({"credentials": {"uid": 0}})).to_string())
            .carrying(Carried::Control),
    ]
}
