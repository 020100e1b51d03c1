use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

use super::Narrator;
use crate::one_line::MAX_TEXT_BYTES;
use crate::{JobEnd, JobStreams, Narration, Next};

/// An event's level, and its fields sorted by name.
type Seen = (Level, Vec<String>);

/// Keeps each event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Seen>>>);

struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push(format!("{field}={value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push(format!("{field}={value}"));
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        fields.0.sort();
        self.0.lock().unwrap().push((*event.metadata().level(), fields.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn narrator() -> Narrator {
    let streams = Arc::new(JobStreams::new());
    streams.create("j");
    Narrator::new(streams)
}

fn told(narrator: &Narrator, event: crate::Event) -> Vec<Seen> {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || narrator.tell(event));
    let seen = log.0.lock().unwrap();
    seen.clone()
}

#[test]
fn an_event_of_a_job_reaches_its_stream() {
    let narrator = narrator();
    narrator.clone().tell(Narration::new("worker-lc", "spawn_port").job(Some("j")).context(8601).human("port {}"));
    assert_eq!(narrator.streams().next("j", 0), Next::Line("[worker-lc ] spawn_port     : port 8601".into()));
}

#[test]
fn an_event_without_a_job_reaches_no_stream() {
    let narrator = narrator();
    narrator.tell(Narration::new("a", "b").human("c"));
    assert_eq!(narrator.streams().next("j", 0), Next::Pending);
}

#[test]
fn an_event_of_an_unknown_or_ended_job_makes_no_stream_and_is_still_logged() {
    let narrator = narrator();
    assert_eq!(told(&narrator, Narration::new("a", "b").job(Some("k")).human("c")).len(), 1);
    assert_eq!(narrator.streams().next("k", 0), Next::Unknown);
    narrator.streams().finish("j", JobEnd::Done);
    assert_eq!(told(&narrator, Narration::new("a", "b").job(Some("j")).human("c")).len(), 1);
    assert_eq!(narrator.streams().next("j", 0), Next::End(JobEnd::Done));
}

#[test]
fn the_log_has_actor_action_and_job_id_at_info() {
    let seen = told(&narrator(), Narration::new("a", "b").job(Some("j")).human("c"));
    let fields = ["action=b", "actor=a", "job_id=j", "message=c"].map(String::from).to_vec();
    assert_eq!(seen, [(Level::INFO, fields)]);
}

#[test]
fn the_log_has_no_job_id_without_a_job() {
    let seen = told(&narrator(), Narration::new("a", "b").human("c"));
    let fields = ["action=b", "actor=a", "message=c"].map(String::from).to_vec();
    assert_eq!(seen, [(Level::INFO, fields)]);
}

#[test]
fn neither_the_log_nor_the_stream_has_a_secret() {
    let narrator = narrator();
    let seen = told(&narrator, Narration::new("a", "b").job(Some("j")).context("hunter2").human("password={}"));
    assert!(seen[0].1.contains(&"message=password=[REDACTED]".to_owned()));
    assert_eq!(narrator.streams().next("j", 0), Next::Line("[a         ] b              : password=[REDACTED]".into()));
}

#[test]
fn the_longest_text_reaches_the_stream_as_the_event_has_it() {
    let narrator = narrator();
    let event = Narration::new("a", "b").job(Some("j")).human(&"x".repeat(MAX_TEXT_BYTES + 1));
    let line = event.line();
    narrator.tell(event);
    assert_eq!(narrator.streams().next("j", 0), Next::Line(line));
}
