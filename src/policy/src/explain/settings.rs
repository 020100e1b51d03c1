//! A policy as a flat list of settings, in the order of the file.
//!
//! Every struct is taken apart without `..`: a field that is added to policies does not compile until it is told here.

use std::path::PathBuf;

use super::devices::of_devices;
use super::show;
use crate::file::{
    CredentialsSection, EnvironmentSection, FilesystemSection, GrantedCapability, LandlockMode, LandlockSection, ListedPath, MaySet,
    Policy, ProcessSection, ReadinessSection, RequestSection, RestartSection, RestartWhen, SeccompSection, WorkerSection, signal_name,
};
use crate::oom::PressurePlan;
use crate::plan::{NetworkMode, OnDrift, OnHiveExit, Readiness, StopPlan, VerifyPlan};
use crate::{IdlePlan, Limits, SeccompProfile};

/// One setting as it is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key in the file, such as `limits.memory_max`; entries of a list share one.
    pub setting: String,
    /// Its value as the file would have it.
    pub value: String,
    /// The key with the number of the entry, such as `devices.nodes[0]`: where a file says it.
    pub path: String,
}

impl Setting {
    pub(super) fn new(path: impl Into<String>, value: impl Into<String>) -> Self {
        let path = path.into();
        let setting = path.split('[').next().unwrap_or_default().to_owned();
        Self { setting, value: value.into(), path }
    }
}

/// The entries of a list, or one row that says that there is none.
pub(super) fn list(key: &str, values: impl IntoIterator<Item = String>) -> Vec<Setting> {
    let each = values.into_iter().enumerate().map(|(index, value)| Setting::new(format!("{key}[{index}]"), value));
    let rows: Vec<Setting> = each.collect();
    if rows.is_empty() { vec![Setting::new(key, "none")] } else { rows }
}

/// Every setting of a policy.
pub fn settings(policy: &Policy) -> Vec<Setting> {
    let Policy {
        description,
        worker,
        readiness,
        limits,
        network,
        filesystem,
        devices,
        environment,
        credentials,
        seccomp,
        landlock,
        restart,
        request,
        process,
        verify,
        pressure,
        idle,
    } = policy;
    let sections = [
        vec![Setting::new("description", description)],
        of_worker(worker),
        of_readiness(readiness),
        of_limits(limits),
        vec![Setting::new("network.mode", mode(*network))],
        of_filesystem(filesystem),
        of_devices(devices),
        of_environment(environment),
        of_credentials(credentials),
        of_seccomp(seccomp),
        of_landlock(landlock),
        of_restart(restart),
        of_request(request),
        of_process(process),
        of_verify(*verify),
        of_pressure(*pressure),
        of_idle(*idle),
    ];
    sections.concat()
}

fn of_verify(VerifyPlan { interval_ms, on_drift }: VerifyPlan) -> Vec<Setting> {
    let on_drift = match on_drift {
        OnDrift::Report => "report",
        OnDrift::Kill => "kill",
    };
    vec![Setting::new("verify.interval", show::time(interval_ms)), Setting::new("verify.on_drift", on_drift)]
}

fn of_pressure(plan: PressurePlan) -> Vec<Setting> {
    let PressurePlan { memory: _, enforce } = plan;
    vec![Setting::new("pressure.memory", format!("{} ({})", plan.memory_word(), show::enforce(enforce)))]
}

fn of_idle(IdlePlan { after_ms, action, max_warm }: IdlePlan) -> Vec<Setting> {
    vec![
        Setting::new("idle.after", after_ms.map_or_else(|| "never".to_owned(), show::time)),
        Setting::new("idle.action", word(&action)),
        Setting::new("idle.max_warm", max_warm.map_or_else(|| "any number".to_owned(), |n| n.to_string())),
    ]
}

fn of_worker(section: &WorkerSection) -> Vec<Setting> {
    let WorkerSection { binary, command, model_dirs, binary_dirs, library_dirs, stop, on_hive_exit, on_oom } = section;
    let StopPlan { signal, grace_ms } = stop;
    let directories = |key: &str, paths: &[PathBuf]| list(key, paths.iter().map(|p| show::path(p)));
    let exit = match on_hive_exit {
        OnHiveExit::Keep => "keep",
        OnHiveExit::Kill => "kill",
    };
    let mut rows = vec![Setting::new("worker.binary", binary), Setting::new("worker.command", command.join(" "))];
    rows.extend(directories("worker.model_dirs", model_dirs));
    rows.extend(directories("worker.binary_dirs", binary_dirs));
    rows.extend(directories("worker.library_dirs", library_dirs));
    rows.push(Setting::new("worker.stop_signal", signal_name(*signal).map_or_else(|| signal.to_string(), str::to_owned)));
    rows.push(Setting::new("worker.stop_grace", show::time(*grace_ms)));
    rows.push(Setting::new("worker.on_hive_exit", exit));
    rows.push(Setting::new("worker.on_oom", word(on_oom)));
    rows
}

fn of_readiness(ReadinessSection { probe, start_timeout_ms, stall_timeout_ms }: &ReadinessSection) -> Vec<Setting> {
    let probe = match probe {
        Readiness::Http { path } => Setting::new("readiness.http", path),
        Readiness::Tcp => Setting::new("readiness.tcp", "true"),
        Readiness::Notify => Setting::new("readiness.notify", "true"),
        Readiness::None => Setting::new("readiness.none", "true"),
    };
    vec![
        probe,
        Setting::new("readiness.start_timeout", show::time(*start_timeout_ms)),
        Setting::new("readiness.stall_timeout", show::time(*stall_timeout_ms)),
    ]
}

fn of_limits(limits: &Limits) -> Vec<Setting> {
    let each = limits.iter().map(|(key, limit)| {
        let value = format!("{} ({})", show::limit(*key, &limit.value), show::enforce(limit.enforce));
        Setting::new(format!("limits.{}", key.name()), value)
    });
    each.collect()
}

/// A network mode as the file has it.
pub(crate) fn mode(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Private => "private",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    }
}

fn of_filesystem(FilesystemSection { root, read_only, read_write, tmp_size, shm_size }: &FilesystemSection) -> Vec<Setting> {
    let paths = |key: &str, listed: &[ListedPath]| {
        list(
            key,
            listed.iter().map(|ListedPath { path, optional }| match optional {
                true => format!("{} (if the host has it)", show::path(path)),
                false => show::path(path),
            }),
        )
    };
    let mut rows: Vec<Setting> = root.iter().map(|root| Setting::new("filesystem.root", show::path(root))).collect();
    rows.extend(paths("filesystem.read_only", read_only));
    rows.extend(paths("filesystem.read_write", read_write));
    rows.push(Setting::new("filesystem.tmp_size", show::size(*tmp_size)));
    rows.push(Setting::new("filesystem.shm_size", show::size(*shm_size)));
    rows
}

fn of_environment(EnvironmentSection { pass, set }: &EnvironmentSection) -> Vec<Setting> {
    let mut rows = list("environment.pass", pass.iter().cloned());
    match set.is_empty() {
        true => rows.push(Setting::new("environment.set", "none")),
        false => rows.extend(set.iter().map(|(name, value)| Setting::new(format!("environment.set.{name}"), value))),
    }
    rows
}

fn of_credentials(CredentialsSection { user, capabilities }: &CredentialsSection) -> Vec<Setting> {
    let mut rows = vec![Setting::new("credentials.user", user)];
    let each = capabilities.iter().map(|GrantedCapability { name, reason }| format!("{name}: {reason}"));
    rows.extend(list("credentials.capabilities", each));
    rows
}

fn of_seccomp(SeccompSection { profile, reason, rules }: &SeccompSection) -> Vec<Setting> {
    let mut rows = vec![Setting::new("seccomp.profile", profile)];
    rows.extend(reason.iter().map(|reason| Setting::new("seccomp.reason", reason)));
    if let Some(SeccompProfile { name: _, description: _, allow, refuse }) = rules {
        let allowed = allow.iter().map(|entry| format!("{} calls: {}", entry.calls.len(), entry.reason));
        rows.extend(list("seccomp.allow", allowed));
        let refused = refuse.iter().map(|entry| {
            let when = if entry.when.is_empty() { "" } else { ", by their arguments" };
            format!("{} for {}{when}: {}", entry.errno.name(), show::words(&entry.calls), entry.reason)
        });
        rows.extend(list("seccomp.refuse", refused));
    }
    rows
}

fn of_landlock(LandlockSection { enforce, reason }: &LandlockSection) -> Vec<Setting> {
    let mode = match enforce {
        LandlockMode::Required => "required",
        LandlockMode::IfAvailable => "if_available",
        LandlockMode::None => "none",
    };
    let mut rows = vec![Setting::new("landlock.enforce", mode)];
    rows.extend(reason.iter().map(|reason| Setting::new("landlock.reason", reason)));
    rows
}

fn of_restart(RestartSection { when, max_restarts }: &RestartSection) -> Vec<Setting> {
    let when = match when {
        RestartWhen::Never => "never",
        RestartWhen::OnFailure => "on-failure",
        RestartWhen::Always => "always",
    };
    vec![Setting::new("restart.when", when), Setting::new("restart.max_restarts", max_restarts.to_string())]
}

fn of_request(RequestSection { may_set, max }: &RequestSection) -> Vec<Setting> {
    let may_set = may_set.iter().map(|what| match what {
        MaySet::Args => "args",
        MaySet::Env => "env",
        MaySet::Limits => "limits",
    });
    // A set: where each stands is not kept, but all of them are one key.
    let mut rows = vec![Setting::new("request.may_set", show::words(may_set))];
    match max.is_empty() {
        true => rows.push(Setting::new("request.max", "none")),
        false => rows.extend(max.iter().map(|(key, value)| Setting::new(format!("request.max.{}", key.name()), show::limit(*key, value)))),
    }
    rows
}

fn of_process(process: &ProcessSection) -> Vec<Setting> {
    let ProcessSection { umask, oom_score_adj, scheduler, nice, io_class, io_priority, numa, timer_slack_ns } = process;
    let mut rows =
        vec![Setting::new("process.umask", format!("{umask:04o}")), Setting::new("process.oom_score_adj", oom_score_adj.to_string())];
    let mut given = |key: &str, value: Option<String>| rows.extend(value.map(|v| Setting::new(format!("process.{key}"), v)));
    given("scheduler", scheduler.as_ref().map(word));
    given("nice", nice.map(|n| format!("{} ({})", n.value, show::enforce(n.enforce))));
    given("io_class", io_class.as_ref().map(word));
    given("io_priority", io_priority.map(|p| p.to_string()));
    given("numa", numa.as_ref().map(|n| format!("{} ({})", word(&n.value), show::enforce(n.enforce))));
    given("timer_slack", timer_slack_ns.map(|ns| format!("{ns}ns")));
    rows
}

/// A choice by the word that the file has for it.
pub(super) fn word(choice: &impl serde::Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
