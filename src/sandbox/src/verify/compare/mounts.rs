//! The mount table: what the plan says of each place, and nothing that was not made with the sandbox.

use std::path::{Path, PathBuf};

use rbee_hive_policy::{SandboxPlan, TmpNodes};

use crate::protocol::MountSeen;
use crate::verify::{Aspect, Drift, Expected};

/// What a place and everything mounted below it is to have.
struct Place {
    path: PathBuf,
    options: &'static [&'static str],
}

pub(super) fn compare(expected: &Expected, now: &[MountSeen]) -> Vec<Drift> {
    // What could not be read is listed as unseen: an empty table is nobody's.
    if now.is_empty() {
        return vec![];
    }
    let mut drift = against_plan(&expected.plan, now);
    let told = drift.len();
    if let Some(made) = expected.made.as_ref().filter(|m| !m.mounts.is_empty()) {
        drift.extend(since_made(&made.mounts, now));
    }
    if told == 0 && !now.iter().any(|m| m.point == "/") {
        drift.push(mounts("the sandbox has no root of its own"));
    }
    drift
}

fn mounts(sentence: impl Into<String>) -> Drift {
    Drift::new(Aspect::Mounts, sentence)
}

fn against_plan(plan: &SandboxPlan, now: &[MountSeen]) -> Vec<Drift> {
    let places = places(plan);
    let mut drift = Vec::new();
    for mount in now {
        if !mount.propagation.is_empty() {
            drift.push(mounts(format!("the mount on {} is {}, planned private", mount.point, mount.propagation)));
        }
        let point = Path::new(&mount.point);
        let governing = places.iter().filter(|p| point.starts_with(&p.path)).max_by_key(|p| p.path.components().count());
        let has = |option: &str| mount.options.split(',').any(|o| o == option);
        let missing: Vec<&str> = governing.map_or(&[][..], |p| p.options).iter().copied().filter(|o| !has(o)).collect();
        if !missing.is_empty() {
            drift.push(mounts(format!("the mount on {} lacks {} ({})", mount.point, missing.join(", "), mount.options)));
        }
    }
    drift
}

/// Every mount belongs to the deepest of these that it is in.
fn places(plan: &SandboxPlan) -> Vec<Place> {
    let scratch: &[&str] = &["nosuid", "nodev"];
    let tmp: &[&str] = if plan.tmp_nodes == TmpNodes::Dev { &["nosuid"] } else { scratch };
    let fixed: [(&str, &[&str]); 8] = [
        ("/", &["ro", "nosuid", "nodev"]),
        // Its covers are /dev/null and parts of itself, which older kernels can't give flags of their own.
        ("/proc", &[]),
        ("/sys", &["ro", "nosuid", "nodev", "noexec"]),
        ("/dev", &["nosuid"]),
        ("/dev/shm", scratch),
        ("/run", scratch),
        ("/tmp", tmp),
        ("/etc", &["ro", "nosuid", "nodev"]),
    ];
    let mut places: Vec<Place> = fixed.iter().map(|(path, options)| Place { path: path.into(), options }).collect();
    places.push(Place { path: plan.home.clone(), options: scratch });
    for bind in &plan.binds {
        let options: &[&str] = if bind.writable { scratch } else { &["ro", "nosuid", "nodev"] };
        places.push(Place { path: within(plan, &bind.target), options });
    }
    places
}

/// Where `path` lies once the root's own links are followed.
fn within(plan: &SandboxPlan, path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as a path may have in the kernel's eyes is far more than a root has.
    for _ in 0..8 {
        let link = plan.symlinks.iter().find_map(|(link, target)| Some((link.parent()?.join(target), path.strip_prefix(link).ok()?)));
        let Some((target, rest)) = link else { break };
        path = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
    }
    path
}

fn since_made(made: &[MountSeen], now: &[MountSeen]) -> Vec<Drift> {
    let mut drift = Vec::new();
    for mount in now.iter().filter(|m| !made.contains(m)) {
        drift.push(match made.iter().find(|m| (m.id, &m.point) == (mount.id, &mount.point)) {
            Some(was) => mounts(format!("the mount on {} is {}, it was made {}", mount.point, shown(mount), shown(was))),
            None => mounts(format!("there is a mount of {} on {} that was not made with the sandbox", mount.kind, mount.point)),
        });
    }
    for gone in made.iter().filter(|m| !now.iter().any(|n| (n.id, &n.point) == (m.id, &m.point))) {
        drift.push(mounts(format!("the mount of {} on {} is gone", gone.kind, gone.point)));
    }
    drift
}

fn shown(mount: &MountSeen) -> String {
    match mount.propagation.as_str() {
        "" => mount.options.clone(),
        propagation => format!("{},{propagation}", mount.options),
    }
}
