//! The worker's environment: an allow-list, in the order policy, device, request.

use std::collections::BTreeMap;

use super::Violation;
use crate::file::Policy;
use crate::{HostFacts, WorkerRequest};

/// Where the home is where nothing says otherwise.
pub(super) const HOME: &str = "/home/worker";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a lease sets: which device the worker sees.
const OF_DEVICES: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "GGML_VK_VISIBLE_DEVICES",
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_LOG_DIRECTORY",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
];
/// What a request can never set besides.
const RESERVED: &[&str] = &["NOTIFY_SOCKET", "HOME", "PATH"];

/// Whether `name` is a variable's name in a shell.
pub(crate) fn valid_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(super) fn compile(policy: &Policy, request: &WorkerRequest, facts: &HostFacts) -> Result<BTreeMap<String, String>, Violation> {
    let path = facts.binary_dirs.iter().fold(PATH.to_owned(), |path, dir| format!("{path}:{}", dir.display()));
    let mut env = BTreeMap::from([("PATH".to_owned(), path), ("HOME".to_owned(), HOME.to_owned())]);
    env.extend(policy.environment.pass.iter().filter_map(|n| facts.env.get(n).map(|v| (n.clone(), v.clone()))));
    let libraries: Vec<_> = policy.worker.library_dirs.iter().map(|d| d.to_string_lossy()).collect();
    if !libraries.is_empty() {
        env.insert("LD_LIBRARY_PATH".into(), libraries.join(":"));
    }
    env.extend(policy.environment.set.clone());
    for (name, value) in &request.env {
        check(name, value)?;
        env.insert(name.clone(), value.clone());
    }
    env.extend(facts.device_env.clone());
    let home = env.get("HOME").map_or("", String::as_str);
    if !check_home(home) {
        return Err(Violation::policy("environment.set", format!("HOME {home:?} is no place for an empty home directory")));
    }
    Ok(env)
}

/// Whether an empty home directory can be made there.
pub(crate) fn check_home(home: &str) -> bool {
    let taken = ["/proc", "/sys", "/dev", "/usr", "/bin", "/lib", "/etc"].iter().any(|p| home.starts_with(p));
    home.starts_with('/') && home != "/" && !home.contains("..") && !taken
}

/// Whether a lease sets this variable, after the policy.
pub(crate) fn is_device_variable(name: &str) -> bool {
    OF_DEVICES.contains(&name)
}

/// Whether this variable decides which code is loaded into a program (ld.so(8)).
pub(crate) fn is_loader_variable(name: &str) -> bool {
    name.starts_with("LD_") || name.starts_with("GLIBC_")
}

fn check(name: &str, value: &str) -> Result<(), Violation> {
    if !valid_variable(name) {
        let shown: String = name.chars().take(64).collect();
        return Err(Violation::invalid("env", format!("{shown:?} is no name of a variable")));
    }
    if value.contains('\0') {
        return Err(Violation::invalid("env", format!("{name} contains a NUL character")));
    }
    if RESERVED.contains(&name) || is_device_variable(name) || is_loader_variable(name) {
        return Err(Violation::policy("env", format!("{name} can't be set by a request")));
    }
    Ok(())
}
