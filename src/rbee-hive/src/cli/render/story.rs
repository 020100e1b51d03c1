//! The story of a worker: how it ended, what proves that, what to change, and what happened when.

use rbee_hive_api::WorkerStory;

use super::part;
use crate::cli::output::clean;

/// Nothing of a worker that has only begun, and nothing that was not told.
pub(crate) fn story(story: &WorkerStory) -> String {
    let mut text = String::new();
    if let Some(verdict) = &story.verdict {
        text += &format!("\n{} {}: {}\n", clean(&story.state), clean(verdict.kind.name()), clean(&verdict.message));
    }
    text += &story.summary.as_ref().map_or_else(String::new, |line| format!("{}\n", clean(line)));
    text += &part("Evidence", &lines(story.evidence.iter().map(|e| e.text.clone())));
    text += &part("What to change", &lines(story.remedies.iter().cloned()));
    text += &part("Last probe", &lines(story.last_probe.iter().cloned()));
    text += &part("Timeline", &timeline(story));
    text += &part("Last lines", &lines(story.log_tail.iter().map(|l| format!("{} {}", l.time, l.text))));
    text
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.map(|line| format!("  {}\n", clean(&line))).collect()
}

/// A jump in the numbers is where events are left out, if any are.
fn timeline(story: &WorkerStory) -> String {
    let mut text = lines(story.timeline.iter().map(|m| format!("{} {} {}", m.time, m.kind, m.text)));
    if story.timeline_left_out > 0 {
        text += &format!("  {} events in the middle of it are left out\n", story.timeline_left_out);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_is_told_with_its_proof_and_what_to_change_and_cannot_steer_a_terminal() {
        let told: WorkerStory = serde_json::from_value(json!({
            "state": "failed", "created_at": "A", "verdict": {"kind": "oom_killed", "peak": 2, "message": "the kernel killed it"},
            "summary": "memory_max 2 GiB, peak 2 GiB: raise it", "evidence": [{"figure": "memory_max", "value": 2, "text": "memory_max 2 GiB"}],
            "remedies": ["raise it\u{1b}[2J"], "timeline": [{"seq": 1, "time": "T", "kind": "state", "text": "starting"}], "timeline_left_out": 5,
            "log_tail": [{"time": "T2", "stream": "stderr", "text": "about to fail", "partial": false}]
        }))
        .unwrap();
        let text = story(&told);
        for line in [
            "failed oom_killed: the kernel killed it\n",
            "memory_max 2 GiB, peak 2 GiB: raise it\n",
            "  T state starting\n",
            "  5 events in the middle",
            "  T2 about to fail\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        let alive: WorkerStory = serde_json::from_value(json!({"state": "ready", "created_at": "A"})).unwrap();
        assert_eq!(story(&alive), "");
    }
}
