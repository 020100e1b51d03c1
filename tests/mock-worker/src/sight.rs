//! What a process inside a sandbox sees of itself and its surroundings.
//!
//! Owns: reading `/proc/self`, `/dev` and the environment. Must never know: what of it is right.

use std::env;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::stat::{major, minor};
use nix::unistd::{Pid, getgid, getgroups, getpid, getppid, getuid};

use crate::json::Json;

/// How deep `/dev` is searched.
const DEV_DEPTH: u32 = 4;

/// Everything at once, as `/info` gives it.
pub(crate) fn everything(status_at_start: &str) -> Json {
    let groups = getgroups().unwrap_or_default().into_iter().map(|group| Json::from(group.as_raw())).collect();
    let environment =
        env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), Json::from(value.to_string_lossy().into_owned())));
    let mut devices = Vec::new();
    list_devices(Path::new("/dev"), DEV_DEPTH, &mut devices);
    Json::object([
        ("pid", Json::Int(getpid().as_raw().into())),
        ("ppid", Json::Int(getppid().as_raw().into())),
        ("uid", Json::from(getuid().as_raw())),
        ("gid", Json::from(getgid().as_raw())),
        ("groups", Json::List(groups)),
        ("args", Json::texts(env::args_os().map(|arg| arg.to_string_lossy().into_owned()))),
        ("env", Json::Object(environment.collect())),
        ("cwd", env::current_dir().map_or(Json::Null, |path| Json::from(path.to_string_lossy().into_owned()))),
        ("fds", links("/proc/self/fd")),
        ("ns", links("/proc/self/ns")),
        ("status", Json::from(text("/proc/self/status"))),
        ("status_at_start", Json::from(status_at_start)),
        ("cgroup", Json::from(text("/proc/self/cgroup"))),
        ("mountinfo", Json::from(text("/proc/self/mountinfo"))),
        ("limits", Json::from(text("/proc/self/limits"))),
        ("oom_score_adj", Json::from(text("/proc/self/oom_score_adj").trim())),
        ("hostname", Json::from(text("/proc/sys/kernel/hostname").trim())),
        ("interfaces", Json::texts(names("/sys/class/net"))),
        ("net_dev", Json::from(text("/proc/self/net/dev"))),
        ("processes", Json::texts(names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())))),
        ("root", Json::texts(names("/"))),
        ("affinity", Json::List(affinity())),
        ("devices", Json::List(devices)),
    ])
}

/// A file's text, or nothing where it cannot be read.
pub(crate) fn text(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names(directory: &str) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn links(directory: &str) -> Json {
    let target = |name: &String| fs::read_link(Path::new(directory).join(name));
    Json::Object(
        names(directory)
            .into_iter()
            .filter_map(|name| target(&name).ok().map(|to| (name, Json::from(to.to_string_lossy().into_owned()))))
            .collect(),
    )
}

fn affinity() -> Vec<Json> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).filter_map(|cpu| i64::try_from(cpu).ok()).map(Json::Int).collect()
}

/// Every device node below `directory`, links not followed.
fn list_devices(directory: &Path, depth: u32, found: &mut Vec<Json>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        let kind = metadata.file_type();
        if kind.is_dir() && depth > 0 {
            list_devices(&path, depth - 1, found);
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(Json::object([
                ("path", Json::from(path.to_string_lossy().into_owned())),
                ("type", Json::from(if kind.is_char_device() { "c" } else { "b" })),
                ("major", Json::Int(i64::try_from(major(metadata.rdev())).unwrap_or(-1))),
                ("minor", Json::Int(i64::try_from(minor(metadata.rdev())).unwrap_or(-1))),
                ("mode", Json::from(metadata.mode() & 0o7777)),
            ]));
        }
    }
}
