//! A worker that runs out of memory, told to who follows events, its job, or the log.
//!
//! How often is the init's to bound. Must never know: where the figures come from.

use rbee_hive_sandbox::protocol::{MemoryPressure, OomKills, PressureSource};
use serde_json::{Value, json};

use super::Worker;
use crate::{About, EventKind};

/// Longest name of a process in a sentence; the kernel's are shorter.
const MAX_NAME: usize = 64;

impl Worker {
    /// It is short of memory, and nothing has been killed for that yet.
    pub(super) fn short_of_memory(&self, pressure: MemoryPressure) {
        self.tell_pressure(pressure_data(&pressure));
        let how = sentence(&pressure);
        tracing::warn!(worker = %self.id, source = ?pressure.source, "it is short of memory: {how}");
        self.story.tell("memory_pressure", "{} is short of memory: {}", &[&self.id, &how]);
    }

    /// The kernel has killed processes of it. Whether that is its end is for its init to say.
    pub(super) fn killed_for_want_of_memory(&self, kills: &OomKills) {
        self.tell_pressure(kills_data(kills));
        let whom = victims(kills);
        tracing::warn!(worker = %self.id, oom_kills = kills.oom_kills, "the kernel has killed of it for want of memory: {whom}");
        self.story.tell("oom_kill", "the kernel has killed of {} for want of memory: {}", &[&self.id, &whom]);
    }

    fn tell_pressure(&self, data: Value) {
        let generation = self.view.borrow().generation;
        self.tools.events.tell(EventKind::Pressure, About::worker(&self.id, generation), data);
    }
}

/// `{"resource": "memory", "source": "psi" | "memory.high" | "memory.max" | "usage", …}`; what was not measured is `null`.
fn pressure_data(pressure: &MemoryPressure) -> Value {
    let MemoryPressure { source, stalled_usec, breaches, memory_current, memory_max, unsaid } = pressure;
    json!({
        "resource": "memory",
        "source": source,
        "stalled_usec": stalled_usec,
        "breaches": breaches,
        "memory_current": memory_current,
        "memory_max": memory_max,
        "unsaid": unsaid,
    })
}

/// `{"resource": "memory", "source": "oom_kill", "oom_kills", "victims": [{"pid", "name", "memory", "bound"}]}`.
fn kills_data(kills: &OomKills) -> Value {
    let OomKills { oom_kills, victims } = kills;
    json!({"resource": "memory", "source": "oom_kill", "oom_kills": oom_kills, "victims": victims})
}

fn sentence(pressure: &MemoryPressure) -> String {
    let times = |what: &str| pressure.breaches.map_or_else(|| what.to_owned(), |n| format!("{what} ({n} times)"));
    let how = match pressure.source {
        PressureSource::Psi => "its tasks wait for memory".to_owned(),
        PressureSource::High => times("it is above memory_high"),
        PressureSource::Max => times("it has reached memory_max"),
        PressureSource::Usage => "it uses nine tenths of memory_max".to_owned(),
    };
    match (pressure.memory_current, pressure.memory_max) {
        (Some(current), Some(max)) => format!("{how}, {} of {} in use", mib(current), mib(max)),
        (Some(current), None) => format!("{how}, {} in use", mib(current)),
        _ => how,
    }
}

fn victims(kills: &OomKills) -> String {
    if kills.victims.is_empty() {
        return format!("{} in all, whom the kernel's log does not name", kills.oom_kills);
    }
    let one = |victim: &rbee_hive_sandbox::Victim| {
        let name: String = victim.name.chars().take(MAX_NAME).collect();
        format!("{name} (pid {}, {})", victim.pid, mib(victim.memory))
    };
    kills.victims.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::{OomBound, Victim};

    use super::*;

    #[test]
    fn what_was_not_measured_is_null_and_sources_have_the_contracts_names() {
        let pressure = MemoryPressure {
            source: PressureSource::High,
            stalled_usec: None,
            breaches: Some(3),
            memory_current: Some(1 << 20),
            memory_max: None,
            unsaid: 2,
        };
        let data = pressure_data(&pressure);
        assert_eq!((&data["resource"], &data["source"], &data["unsaid"]), (&json!("memory"), &json!("memory.high"), &json!(2)));
        assert!(data["memory_max"].is_null() && data["stalled_usec"].is_null(), "{data}");
        assert_eq!(sentence(&pressure), "it is above memory_high (3 times), 1.0 MiB in use");
    }

    #[test]
    fn victims_are_named_or_said_to_be_unnamed() {
        let victim = Victim { pid: 7, name: "python3".into(), memory: 3 << 20, bound: Some(OomBound::Worker) };
        let named = OomKills { oom_kills: 1, victims: vec![victim] };
        assert_eq!(victims(&named), "python3 (pid 7, 3.0 MiB)");
        let data = kills_data(&named);
        assert_eq!((&data["source"], &data["victims"][0]["bound"]), (&json!("oom_kill"), &json!("worker")));
        assert!(victims(&OomKills { oom_kills: 2, victims: vec![] }).starts_with("2 in all"));
    }
}
