//! What of the host a worker can reach: its network, files, devices and environment.

use std::path::Path;

use super::Measured;
use crate::explain::{mode, show};
use crate::file::{GpuShare, Gpus, Policy};
use crate::plan::NetworkMode;

/// System directories that hold programs and libraries alone.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/opt"];
/// Where a host keeps secrets, other users' files and sockets of its services.
const PRIVATE: [&str; 7] = ["/etc", "/root", "/home", "/run", "/var", "/boot", "/srv"];
/// What in a name says that the value is a secret.
const SECRET: [&str; 6] = ["TOKEN", "SECRET", "PASSW", "KEY", "CREDENTIAL", "AUTH"];

pub(super) fn network(policy: &Policy) -> Measured {
    let openness = match policy.network {
        NetworkMode::None | NetworkMode::Private => 0.0,
        NetworkMode::Host => 1.0,
    };
    Measured { value: mode(policy.network).into(), openness, remedy: "say mode = \"private\": the hive holds the port and forwards to it" }
}

pub(super) fn read_write(policy: &Policy) -> Measured {
    let paths: Vec<&Path> = policy.filesystem.read_write.iter().map(|p| p.path.as_path()).collect();
    let system =
        |path: &Path| SYSTEM.iter().chain(&["/etc", "/root", "/boot"]).any(|s| path.starts_with(s) || Path::new(s).starts_with(path));
    let openness = if paths.iter().any(|p| system(p)) { 1.0 } else { paths.len() as f64 * 0.3 };
    let value = show::words(paths.iter().map(|p| show::path(p)));
    Measured { value, openness, remedy: "share nothing writable: /tmp, /dev/shm and the home are the worker's own" }
}

pub(super) fn read_only(policy: &Policy) -> Measured {
    let paths = || policy.filesystem.read_only.iter().map(|p| p.path.as_path());
    let more: Vec<&Path> = paths().filter(|path| !SYSTEM.iter().any(|s| path.starts_with(s))).collect();
    let exactly_private = more.iter().any(|path| PRIVATE.iter().any(|p| *path == Path::new(p)));
    let openness = if exactly_private { 1.0 } else { more.len() as f64 * 0.15 };
    let value = match more.as_slice() {
        [] => "programs and libraries".to_owned(),
        more => format!("besides programs and libraries {}", show::words(more.iter().map(|p| show::path(p)))),
    };
    Measured { value, openness, remedy: "show single files or directories, not whole trees such as /etc or /home" }
}

pub(super) fn gpus(policy: &Policy) -> Measured {
    let remedy = "say gpus = \"none\" for a worker that needs none: a GPU's driver is a large part of the kernel";
    let (value, openness, remedy) = match (policy.devices.gpus, policy.devices.share) {
        (Gpus::None, _) => ("none", 0.0, remedy),
        (Gpus::Leased, GpuShare::Exclusive) => ("leased", 0.5, remedy),
        (Gpus::Leased, GpuShare::Ways(_) | GpuShare::Memory(_)) => {
            ("leased, shared with other workers", 0.8, "say share = \"exclusive\": workers on one GPU can slow and crash one another")
        }
    };
    Measured { value: value.into(), openness, remedy }
}

pub(super) fn nodes(policy: &Policy) -> Measured {
    let nodes = &policy.devices.nodes;
    let openness: f64 = nodes
        .iter()
        .map(|node| {
            if node.access.mknod {
                1.0
            } else if node.access.write {
                0.4
            } else {
                0.2
            }
        })
        .sum();
    let value = show::words(nodes.iter().map(|n| format!("{} ({})", show::path(&n.path), show::access(n.access))));
    Measured { value, openness, remedy: "grant no node besides the basic ones, or with access = \"r\"" }
}

pub(super) fn environment(policy: &Policy) -> Measured {
    let pass = &policy.environment.pass;
    let secret = |name: &String| SECRET.iter().any(|s| name.to_ascii_uppercase().contains(s));
    let openness = if pass.iter().any(secret) { 1.0 } else { pass.len() as f64 * 0.2 };
    Measured { value: show::words(pass), openness, remedy: "pass no secret on, and no variable that the worker does without" }
}
