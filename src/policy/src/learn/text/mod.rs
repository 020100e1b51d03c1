//! The proposal as it is written: complete, without an include, and with the reason beside every line that grants something.

mod command;
mod devices;
mod profile;
mod words;

use std::fmt::Write as _;
use std::path::Path;

use super::files::Shown;
use super::limits::{self, Proposed};
use super::{WatchPlan, Watched, network};
use crate::explain::show;
use crate::file::{LandlockMode, MaySet, ProcessSection, RestartWhen, signal_name};
use crate::oom::OnOom;
use crate::plan::{Enforce, NetworkMode, OnHiveExit, VerifyPlan};
use crate::{IdleAction, IdlePlan, LimitValue};
use command::Command;
use devices::devices;
pub(super) use profile::profile;
use words::{comment, line, list, quoted, size};

/// Most paths that comments name.
const NAMED: usize = 16;

pub(super) fn policy(watched: &Watched<'_>, watch: &WatchPlan, shown: &Shown) -> String {
    let mut text = format!(
        "# Proposed by `rbee-hive policy learn` from one run under another policy, its base: nothing here goes beyond that one. What this run\n\
         # did not come to is not in it. It ended so: {}.\n\
         # Environment, capabilities, sizes and what a request may set can't be watched: they are the base's own.\n\n",
        comment(watched.end)
    );
    let (mode, why) = network::mode(watched.seen, watch);
    let port = network::served_port(watched.seen).filter(|_| mode != NetworkMode::None);
    let command = Command::of(watched, port);
    line(&mut text, "description", &quoted(&format!("learned from {}", comment(&watched.command.join(" ")))), "");
    worker(&mut text, watched, watch, (&command, shown));
    readiness(&mut text, &command, watch);
    text.push_str("\n[limits]\n");
    limits::proposed(watched, watch).iter().for_each(|limit| line(&mut text, limit.key.name(), &limit_value(limit), &limit.reason));
    let _ = write!(text, "\n[network]\nmode = {}    # {why}\n", quoted(mode_name(mode)));
    filesystem(&mut text, watch, shown);
    devices(&mut text, watched, watch);
    environment(&mut text, watch);
    let _ = write!(text, "\n[seccomp]\nprofile = {}\n", quoted(watched.name));
    rest(&mut text, watch);
    not_granted(&mut text, watched);
    text
}

fn worker(text: &mut String, watched: &Watched<'_>, watch: &WatchPlan, (command, shown): (&Command, &Shown)) {
    let base = &watch.base.worker;
    let binary = watched.seen.program.as_deref().and_then(Path::to_str).or(watched.command.first().map(String::as_str)).unwrap_or_default();
    text.push_str("\n[worker]\n");
    line(text, "binary", &quoted(binary), "");
    line(text, "command", &list(&command.words), command.note);
    for (name, directories) in [("binary_dirs", &shown.binary_dirs), ("library_dirs", &shown.library_dirs)] {
        if !directories.is_empty() {
            let all: Vec<String> = directories.iter().map(|d| d.display().to_string()).collect();
            line(text, name, &list(&all), "used while learning");
        }
    }
    line(text, "stop_signal", &quoted(signal_name(base.stop.signal).unwrap_or("SIGTERM")), "");
    line(text, "stop_grace", &quoted(&format!("{}ms", base.stop.grace_ms)), "");
    if base.on_hive_exit == OnHiveExit::Kill {
        line(text, "on_hive_exit", &quoted("kill"), "");
    }
    if base.on_oom != OnOom::Continue {
        line(text, "on_oom", &choice(&base.on_oom), "");
    }
}

fn readiness(text: &mut String, command: &Command, watch: &WatchPlan) {
    let base = &watch.base.readiness;
    text.push_str("\n[readiness]\n");
    match command.port {
        true => line(text, "tcp", "true", "that it listens is all that was seen; write http = \"/…\" where it tells when it is ready"),
        false => line(text, "none", "true", "nothing to probe was seen"),
    }
    line(text, "start_timeout", &quoted(&format!("{}ms", base.start_timeout_ms)), "");
    line(text, "stall_timeout", &quoted(&format!("{}ms", base.stall_timeout_ms)), "");
}

fn filesystem(text: &mut String, watch: &WatchPlan, shown: &Shown) {
    text.push_str("\n[filesystem]\n");
    if let Some(root) = &watch.base.filesystem.root {
        line(text, "root", &quoted(&root.to_string_lossy()), "the base's own");
    }
    for (name, writable) in [("read_only", false), ("read_write", true)] {
        let _ = writeln!(text, "{name} = [");
        for path in shown.paths.iter().filter(|p| p.writable == writable) {
            // Only UTF-8 paths are observed.
            let name = quoted(&path.listed.path.to_string_lossy());
            let value = if path.listed.optional { format!("{{ path = {name}, optional = true }}") } else { name };
            let _ = writeln!(text, "    {value},    # {}", comment(&path.reason));
        }
        text.push_str("]\n");
    }
    line(text, "tmp_size", &quoted(&size(watch.base.filesystem.tmp_size)), "");
    line(text, "shm_size", &quoted(&size(watch.base.filesystem.shm_size)), "");
}

fn environment(text: &mut String, watch: &WatchPlan) {
    let base = &watch.base;
    text.push_str("\n[environment]\n");
    line(text, "pass", &list(&base.environment.pass), "");
    let set: Vec<String> = base.environment.set.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
    line(text, "set", &format!("{{ {} }}", set.join(", ")), "");
    text.push_str("\n[credentials]\n");
    line(text, "user", &quoted(&base.credentials.user), "");
    text.push_str("capabilities = [\n");
    for granted in &base.credentials.capabilities {
        let _ = writeln!(text, "    {{ name = {}, reason = {} }},", quoted(&granted.name), quoted(&granted.reason));
    }
    text.push_str("]\n");
}

/// What the base says and no watch can tell more of.
fn rest(text: &mut String, watch: &WatchPlan) {
    let base = &watch.base;
    let enforce = match base.landlock.enforce {
        LandlockMode::Required => "required",
        LandlockMode::IfAvailable => "if_available",
        LandlockMode::None => "none",
    };
    let _ = write!(text, "\n[landlock]\nenforce = {}\n", quoted(enforce));
    if let Some(reason) = &base.landlock.reason {
        line(text, "reason", &quoted(reason), "");
    }
    let when = match base.restart.when {
        RestartWhen::Never => "never",
        RestartWhen::OnFailure => "on-failure",
        RestartWhen::Always => "always",
    };
    let _ = write!(text, "\n[restart]\nwhen = {}\nmax_restarts = {}\n", quoted(when), base.restart.max_restarts);
    let words = base.request.may_set.iter().map(|what| match what {
        MaySet::Args => "args".to_owned(),
        MaySet::Env => "env".to_owned(),
        MaySet::Limits => "limits".to_owned(),
    });
    let _ = write!(text, "\n[request]\nmay_set = {}\n", list(&words.collect::<Vec<_>>()));
    process(text, &base.process);
    let VerifyPlan { interval_ms, on_drift } = base.verify;
    let _ = write!(text, "\n[verify]\ninterval = {}\non_drift = {}\n", quoted(&format!("{interval_ms}ms")), choice(&on_drift));
    let (memory, enforce) = (quoted(&base.pressure.memory_word()), choice(&base.pressure.enforce));
    let _ = write!(text, "\n[pressure]\nmemory = {{ value = {memory}, enforce = {enforce} }}\n");
    idle(text, base.idle);
}

fn idle(text: &mut String, IdlePlan { after_ms, action, max_warm }: IdlePlan) {
    let Some(after_ms) = after_ms else { return };
    let _ = write!(text, "\n[idle]\nafter = {}\n", quoted(&format!("{after_ms}ms")));
    // What was learnt may be a worker without a port, which nothing would wake.
    if action != IdleAction::Freeze {
        line(text, "action", &choice(&action), "");
    }
    max_warm.iter().for_each(|n| line(text, "max_warm", &n.to_string(), ""));
}

fn process(text: &mut String, process: &ProcessSection) {
    let ProcessSection { umask, oom_score_adj, scheduler, nice, io_class, io_priority, numa, timer_slack_ns } = process;
    let _ = write!(text, "\n[process]\numask = \"{umask:04o}\"\noom_score_adj = {oom_score_adj}\n");
    let mut given = |name: &str, value: Option<String>| value.iter().for_each(|value| line(text, name, value, ""));
    given("scheduler", scheduler.as_ref().map(choice));
    given("nice", nice.map(|n| format!("{{ value = {}, enforce = {} }}", n.value, choice(&n.enforce))));
    given("io_class", io_class.as_ref().map(choice));
    given("io_priority", io_priority.map(|p| p.to_string()));
    given("numa", numa.as_ref().map(|n| format!("{{ value = {}, enforce = {} }}", choice(&n.value), choice(&n.enforce))));
    given("timer_slack", timer_slack_ns.map(|ns| quoted(&format!("{ns}ns"))));
}

/// A choice by the word that a file has for it.
fn choice(choice: &impl serde::Serialize) -> String {
    quoted(serde_json::to_value(choice).ok().as_ref().and_then(serde_json::Value::as_str).unwrap_or_default())
}

/// Comments on what was asked for in vain: it is no need, and may be the reason of a poorer answer.
fn not_granted(text: &mut String, watched: &Watched<'_>) {
    for (title, paths) in
        [("looked for and not shown by the base", &watched.seen.missing), ("there, but not to be opened so", &watched.seen.refused)]
    {
        if paths.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n# {title}, while learning:");
        for path in paths.iter().take(NAMED) {
            let _ = writeln!(text, "#   {}", comment(&path.to_string_lossy()));
        }
        if paths.len() > NAMED {
            let _ = writeln!(text, "#   and {} more", paths.len() - NAMED);
        }
    }
}

fn limit_value(proposed: &Proposed) -> String {
    let value = match &proposed.limit.value {
        value @ LimitValue::Count(_) if proposed.key.has_unit() => quoted(&show::limit(proposed.key, value)),
        LimitValue::Count(n) => n.to_string(),
        LimitValue::Decimal(n) => format!("{n:?}"),
        LimitValue::Text(text) => quoted(text),
    };
    match proposed.limit.enforce {
        Enforce::Required => value,
        Enforce::IfAvailable => format!("{{ value = {value}, enforce = \"if_available\" }}"),
    }
}

fn mode_name(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Private => "private",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    }
}
