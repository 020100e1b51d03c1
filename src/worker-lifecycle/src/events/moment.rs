//! An event in a few words, for the story of its worker.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EventKind, HiveEvent};

/// Longest text, characters.
const MAX_TEXT: usize = 240;

/// What happened to a worker at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The event's number.
    pub seq: u64,
    /// RFC 3339 in UTC.
    pub time: String,
    /// The event's kind.
    pub kind: String,
    /// A few words.
    pub text: String,
}

impl Moment {
    pub(super) fn of(event: &HiveEvent) -> Self {
        let text = text(event.kind, &event.data);
        Self { seq: event.seq, time: event.time.clone(), kind: event.kind.name().into(), text: text.chars().take(MAX_TEXT).collect() }
    }
}

fn text(kind: EventKind, data: &Value) -> String {
    let word = |name: &str| data[name].as_str().unwrap_or_default();
    match kind {
        EventKind::State => match data["pid"].as_i64() {
            Some(pid) => format!("{}, pid {pid}", word("state")),
            None => word("state").to_owned(),
        },
        EventKind::Verdict => word("message").to_owned(),
        EventKind::Stop if data["hastens"] == true => {
            format!("a stop hastens the one before: {} ms of grace ({})", data["grace_ms"], word("by"))
        }
        EventKind::Stop => format!("a stop with {} ms of grace ({})", data["grace_ms"], word("by")),
        EventKind::Signal => format!("signal {} was sent on request", data["signal"]),
        EventKind::Deleted => "off the list".to_owned(),
        EventKind::Limits => format!("other limits: {}", names(&data["changed"])),
        EventKind::Pressure if word("source") == "oom_kill" => format!("the kernel has killed for want of memory: {}", victims(data)),
        EventKind::Pressure => format!("short of {} ({})", word("resource"), word("source")),
        EventKind::Drift if data["drift"].as_array().is_some_and(Vec::is_empty) => "the sandbox is as planned again".to_owned(),
        EventKind::Drift => format!("no longer as planned: {}", names(&data["drift"])),
        EventKind::Idle => format!("idle: {}", word("action")),
        EventKind::Lease => format!("lease {}: {}", word("act"), names(&data["devices"])),
        EventKind::Device | EventKind::Cut => data.to_string(),
    }
}

fn names(list: &Value) -> String {
    let words: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    words.join("; ")
}

fn victims(data: &Value) -> String {
    let one = |victim: &Value| Some(format!("{} (pid {})", victim["name"].as_str()?, victim["pid"].as_i64()?));
    let named: Vec<String> = data["victims"].as_array().into_iter().flatten().filter_map(one).collect();
    if named.is_empty() { format!("{} processes in all, without names", data["oom_kills"]) } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_has_its_words_and_they_are_bounded() {
        let told = [
            (EventKind::State, json!({"state": "ready", "pid": 7}), "ready, pid 7"),
            (EventKind::State, json!({"state": "stopped", "pid": null}), "stopped"),
            (EventKind::Verdict, json!({"kind": "exited", "message": "it exited"}), "it exited"),
            (EventKind::Stop, json!({"by": "request", "grace_ms": 5000, "hastens": false}), "a stop with 5000 ms of grace (request)"),
            (
                EventKind::Stop,
                json!({"by": "request", "grace_ms": 0, "hastens": true}),
                "a stop hastens the one before: 0 ms of grace (request)",
            ),
            (EventKind::Signal, json!({"signal": 10}), "signal 10 was sent on request"),
            (EventKind::Limits, json!({"limits": {}, "changed": ["cpus", "memory_max"]}), "other limits: cpus; memory_max"),
            (EventKind::Pressure, json!({"resource": "memory", "source": "psi"}), "short of memory (psi)"),
            (
                EventKind::Pressure,
                json!({"resource": "memory", "source": "oom_kill", "oom_kills": 1, "victims": [{"name": "a", "pid": 7}]}),
                "the kernel has killed for want of memory: a (pid 7)",
            ),
            (EventKind::Drift, json!({"drift": []}), "the sandbox is as planned again"),
            (EventKind::Drift, json!({"drift": ["x", "y"]}), "no longer as planned: x; y"),
            (EventKind::Lease, json!({"act": "acquired", "devices": ["GPU-0", "GPU-1"]}), "lease acquired: GPU-0; GPU-1"),
            (EventKind::Idle, json!({"action": "freeze"}), "idle: freeze"),
        ];
        for (kind, data, words) in told {
            assert_eq!(text(kind, &data), words);
        }
        let event = HiveEvent {
            seq: 1,
            time: "T".into(),
            worker_id: None,
            generation: None,
            kind: EventKind::Device,
            job_id: None,
            data: json!({"text": "é".repeat(1000)}),
        };
        assert_eq!(Moment::of(&event).text.chars().count(), MAX_TEXT);
    }
}
