//! MPS: who is a client of which daemon, and what it is told of its limits.
//!
//! ```text
//!  group = workers with shared leases on the same GPUs, under policies that want MPS
//!    daemon   a sandbox of its own under the policy `mps`, no worker ──┐ one /dev/shm: the daemon's tmpfs, mounted in each of them,
//!    client…  each a worker with limits of its own ────────────────────┘ with the daemon's sockets below /dev/shm/nvidia-mps; one uid
//! ```
//! One uid, because an MPS server takes clients of its own user alone, unless root runs the daemon (NVIDIA, "Multi-Process Service"): rather
//! that than a program of root's that hostile workers talk to. One `/dev/shm`, because server and clients share memory there; NVIDIA's device
//! plugin for Kubernetes does the same between containers with pid namespaces of their own. Both are told in `not_in_force`.
//!
//! Must never know: how a daemon is started, nor which workers are in its group.

use std::collections::BTreeMap;

use super::Violation;
use super::gpu::left_out;
use crate::file::Policy;
use crate::{Command, HostFacts, MpsFacts, MpsPlan, NotInForce, WorkerRequest};

/// Where the daemon's sockets are, in its sandbox and its clients'.
const PIPES: &str = "/dev/shm/nvidia-mps";
/// The one that clients connect to.
pub(super) const CONTROL: &str = "/dev/shm/nvidia-mps/control";
/// Where the daemon writes its own log.
const LOGS: &str = "/tmp";
const MIB: u64 = 1 << 20;

/// The sandbox's part; `None` without one. What the policy wants and cannot have is told, or a violation.
pub(super) fn compile(
    policy: &Policy,
    request: &WorkerRequest,
    facts: &HostFacts,
    notes: &mut Vec<NotInForce>,
) -> Result<Option<MpsPlan>, Violation> {
    if let Command::Mps { .. } = request.command {
        return Ok(Some(MpsPlan::Server));
    }
    let (Some(enforce), true) = (policy.devices.mps.enforce(), has_gpu(request)) else { return Ok(None) };
    match &facts.mps {
        MpsFacts::There { server, shm, shm_size } => {
            let note = |setting: &str, why: String| NotInForce { setting: setting.into(), why };
            notes
                .push(note("filesystem.shm_size", format!("/dev/shm is that of its MPS group: {shm_size} bytes for all of them together")));
            if policy.credentials.user == "per-worker" {
                let why = "workers of one MPS group have one uid: NVIDIA's server takes clients of its own user alone";
                notes.push(note("credentials.user", why.into()));
            }
            Ok(Some(MpsPlan::Client { server: server.clone(), shm: *shm }))
        }
        MpsFacts::Missing { why } => {
            left_out("devices.mps", enforce, why.clone(), notes)?;
            Ok(None)
        }
    }
}

/// The variables. They come last, so that nothing else sets them. `memory`, bytes, is what the sandbox is told to have: a lease may have less than
/// its policy gives.
pub(super) fn env(policy: &Policy, request: &WorkerRequest, plan: Option<&MpsPlan>, memory: Option<u64>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    let Some(plan) = plan else { return env };
    set("CUDA_MPS_PIPE_DIRECTORY", PIPES.into());
    if *plan == MpsPlan::Server {
        set("CUDA_MPS_LOG_DIRECTORY", LOGS.into());
        return env;
    }
    if let Some(bytes) = memory {
        set("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", memory_limit(bytes, gpus(request).count()));
    }
    if let Some(percent) = policy.devices.mps_active_threads {
        set("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", percent.to_string());
    }
    env
}

/// `0=1024M,1=1024M`: each GPU by the number that the client has for it, which is its place in CUDA_VISIBLE_DEVICES. Rounded down, as MPS
/// counts in whole megabytes; a limit below one is one, because it takes 0 for none.
fn memory_limit(bytes: u64, gpus: usize) -> String {
    let each = (bytes / MIB).max(1);
    (0..gpus).map(|n| format!("{n}={each}M")).collect::<Vec<_>>().join(",")
}

/// Bytes of its `/dev/shm`.
pub(super) fn shm_size(policy: &Policy, facts: &HostFacts, plan: Option<&MpsPlan>) -> u64 {
    match (plan, &facts.mps) {
        (Some(MpsPlan::Client { .. }), MpsFacts::There { shm_size, .. }) => *shm_size,
        _ => policy.filesystem.shm_size,
    }
}

fn gpus(request: &WorkerRequest) -> impl Iterator<Item = &String> {
    request.devices.iter().filter(|name| name.starts_with("GPU-"))
}

fn has_gpu(request: &WorkerRequest) -> bool {
    gpus(request).next().is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{GpuMemoryEnforcer, GpuMemoryPlan, SandboxPlan, WorkerId, embedded};

    fn plan(devices: &str, gpus: &[&str], mps: MpsFacts) -> Result<SandboxPlan, Violation> {
        let text = format!("[worker]\nbinary = \"x\"\n[devices]\ngpus = \"leased\"\n{devices}\n[request]\nmay_set = [\"env\"]\n");
        compile(&text, json!({"run": {"argv": ["x"]}}), Value::Null, (gpus, mps))
    }

    fn compile(text: &str, command: Value, lease: Value, (gpus, mps): (&[&str], MpsFacts)) -> Result<SandboxPlan, Violation> {
        let policy = Policy::parse("t", "t.toml", text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
        let request = json!({"worker_id": "w", "policy": "t", "command": command, "devices": gpus, "lease": lease, "env": {}, "limits": {},
            "port": null});
        let request: WorkerRequest = serde_json::from_value(request).unwrap();
        super::super::compile(
            &policy,
            &request,
            &HostFacts { host_cpus: "0-7".into(), binary: "/usr/bin/d".into(), mps, ..HostFacts::default() },
        )
    }

    fn there() -> MpsFacts {
        MpsFacts::There { server: WorkerId::parse("mps-1").unwrap(), shm: 2, shm_size: 7 << 20 }
    }

    fn noted(plan: &SandboxPlan, setting: &str) -> Option<String> {
        plan.not_in_force.iter().find(|n| n.setting == setting).map(|n| n.why.clone())
    }

    #[test]
    fn a_client_is_told_its_limits_by_its_own_numbers_of_the_gpus() {
        let wants = "share = { ways = 2 }\nmps = \"required\"\nmps_active_threads = 30\n\
            gpu_memory_max = { value = \"1537KiB\", enforce = \"if_available\" }";
        let plan = plan(wants, &["GPU-3", "GPU-5"], there()).unwrap();
        let set: Vec<(&str, &str)> =
            plan.env.iter().filter(|(k, _)| k.starts_with("CUDA_MPS")).map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            set,
            [
                ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "30"),
                ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=1M,1=1M"),
                ("CUDA_MPS_PIPE_DIRECTORY", PIPES)
            ]
        );
        assert_eq!(plan.mps, Some(MpsPlan::Client { server: WorkerId::parse("mps-1").unwrap(), shm: 2 }));
        assert_eq!((plan.shm_size, noted(&plan, "devices.mps")), (7 << 20, None));
        assert!(noted(&plan, "filesystem.shm_size").is_some() && noted(&plan, "credentials.user").is_some());
        assert_eq!(memory_limit(80 << 30, 1), "0=81920M");
        assert_eq!(memory_limit(1, 2), "0=1M,1=1M", "0 would be no limit");
    }

    #[test]
    fn a_narrower_lease_is_what_the_server_holds() {
        let leased = |max: &str, bytes: u64| {
            let text = format!(
                "[worker]\nbinary = \"x\"\n[devices]\ngpus = \"leased\"\nmps = \"required\"\nshare = {{ memory = \"8GiB\" }}\n{max}\n"
            );
            let lease = json!({"id": "lease:1", "share": {"memory": bytes}});
            let plan = compile(&text, json!({"run": {"argv": ["x"]}}), lease, (&["GPU-0"], there())).unwrap();
            (plan.gpu_memory.map(|m| m.limit_bytes), plan.env.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").cloned())
        };
        assert_eq!(leased("", 2 << 30), (Some(2 << 30), Some("0=2048M".into())), "the policy has no limit of its own");
        let max = "gpu_memory_max = { value = \"4GiB\", enforce = \"if_available\" }";
        assert_eq!(leased(max, 2 << 30), (Some(2 << 30), Some("0=2048M".into())));
        assert_eq!(leased(max, 6 << 30), (Some(4 << 30), Some("0=4096M".into())));
    }

    #[test]
    fn a_memory_limit_that_a_program_can_go_past_is_no_required_one() {
        let max = |enforce: &str| {
            format!("share = {{ ways = 2 }}\nmps = \"required\"\ngpu_memory_max = {{ value = \"1GiB\", enforce = \"{enforce}\" }}")
        };
        let held = plan(&max("if_available"), &["GPU-0"], there()).unwrap();
        let by_mps = |m: GpuMemoryPlan| (m.limit_bytes, m.enforced_by);
        assert_eq!(held.gpu_memory.map(by_mps), Some((1 << 30, Some(GpuMemoryEnforcer::Mps))));
        assert!(noted(&held, "devices.gpu_memory_max").unwrap().contains("EXCLUSIVE_PROCESS"));
        assert!(plan(&max("required"), &["GPU-0"], there()).unwrap_err().to_string().contains("MPS server holds"));
    }

    #[test]
    fn where_there_is_no_daemon_it_is_said_or_refused_and_nobody_is_asked_who_has_no_gpu() {
        let wants = |mps: &str| format!("share = {{ ways = 2 }}\nmps = \"{mps}\"\nmps_active_threads = 30");
        let missing = || MpsFacts::Missing { why: "it did not come up".into() };
        let without = plan(&wants("if_available"), &["GPU-0"], missing()).unwrap();
        assert_eq!((noted(&without, "devices.mps").as_deref(), &without.mps), (Some("it did not come up"), &None));
        assert!(!without.env.keys().any(|k| k.starts_with("CUDA_MPS")), "who is no client is told of no daemon");
        assert!(plan(&wants("required"), &["GPU-0"], missing()).unwrap_err().to_string().contains("devices.mps can't be enforced"));
        assert!(plan("share = { ways = 2 }", &["GPU-0"], there()).unwrap().mps.is_none(), "its policy does not want it");
        assert!(plan(&wants("required"), &["CPU-0"], missing()).unwrap().mps.is_none());
    }

    #[test]
    fn the_daemon_serves_a_socket_where_clients_find_it_and_has_no_network() {
        let text = embedded::policy("mps").unwrap();
        let plan = compile(text, json!({"mps": {"clients": "p"}}), Value::Null, (&["GPU-0"], MpsFacts::default())).unwrap();
        assert_eq!((plan.mps, plan.argv), (Some(MpsPlan::Server), vec!["/usr/bin/d".to_owned(), "-f".to_owned()]));
        assert_eq!((plan.socket.as_deref(), plan.port), (Some(std::path::Path::new(CONTROL)), None));
        assert_eq!((plan.network, plan.on_hive_exit), (crate::NetworkMode::Private, crate::OnHiveExit::Kill));
        assert!(plan.credentials.capabilities.is_empty() && plan.seccomp.is_some());
        assert_eq!(plan.env.get("CUDA_MPS_PIPE_DIRECTORY").map(String::as_str), Some(PIPES));
        assert_eq!(plan.env.get("CUDA_MPS_LOG_DIRECTORY").map(String::as_str), Some("/tmp"));
    }
}
