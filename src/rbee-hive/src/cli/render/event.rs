//! An event as one line.

use rbee_hive_api::Event;
use serde_json::Value;

use crate::cli::output::clean;

/// Time, number, worker, kind, and what happened.
pub(in crate::cli) fn event(event: &Event) -> String {
    let worker = event.worker_id.as_deref().unwrap_or("-");
    format!("{} {} {} {} {}\n", clean(&event.time), event.seq, clean(worker), clean(&event.kind), clean(&summary(event)))
}

fn summary(event: &Event) -> String {
    let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
    match event.kind.as_str() {
        "state" => match event.data["pid"].as_i64() {
            Some(pid) => format!("{} (pid {pid})", text("state")),
            None => text("state"),
        },
        "verdict" if event.data["message"].is_string() => text("message"),
        "drift" if event.data["drift"] == Value::Array(vec![]) => "as planned again".to_owned(),
        "cut" => format!("{} events are missing here: they came faster than they were read", event.data["missed"]),
        _ => event.data.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_is_one_line_that_cannot_steer_a_terminal() {
        let line = |kind: &str, data: Value| {
            let (time, worker_id) = ("T".to_owned(), Some("w\u{1b}1".to_owned()));
            super::event(&Event { seq: 7, time, worker_id, generation: None, kind: kind.into(), job_id: None, data })
        };
        assert!(line("state", json!({"state": "ready", "pid": 42})).ends_with("1 state ready (pid 42)\n"));
        assert!(line("state", json!({"state": "starting", "pid": null})).ends_with(" starting\n"));
        assert!(line("verdict", json!({"kind": "exited", "message": "it\nexited"})).ends_with(" it exited\n"));
        assert!(line("drift", json!({"drift": []})).ends_with(" as planned again\n"));
        assert!(line("cut", json!({"missed": 3})).contains("3 events are missing"));
        let other = line("weather", json!({"rain": true}));
        assert!(other.ends_with(" {\"rain\":true}\n") && !other.contains('\u{1b}'), "{other}");
    }
}
