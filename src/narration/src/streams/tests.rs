use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::bounds::Bounds;
use super::table::Table;
use super::{CUT_MARKER, JobEnd, JobStreams, Listener, MAX_JOB_LINES, MAX_JOBS, Next};
use proptest::prelude::*;

fn streams(bounds: Bounds) -> JobStreams {
    JobStreams { table: Arc::new(Mutex::new(Table::new(bounds))) }
}

fn with_job() -> JobStreams {
    let streams = JobStreams::new();
    assert!(streams.create("j"));
    streams
}

fn line(text: &str) -> Next {
    Next::Line(text.to_owned())
}

fn counter() -> (Arc<AtomicUsize>, Listener) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    (
        calls,
        Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }),
    )
}

fn calls(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

#[test]
fn lines_come_in_order_then_pending_then_the_end() {
    let streams = with_job();
    assert!(streams.push("j", "one"));
    assert!(streams.push("j", "two"));
    assert_eq!(streams.next("j", 0), line("one"));
    assert_eq!(streams.next("j", 1), line("two"));
    assert_eq!(streams.next("j", 2), Next::Pending);
    assert!(streams.finish("j", JobEnd::Done));
    assert_eq!(streams.next("j", 2), Next::End(JobEnd::Done));
    assert_eq!(streams.next("j", usize::MAX), Next::End(JobEnd::Done));
}

#[test]
fn an_ended_job_replays_from_its_first_line() {
    let streams = with_job();
    streams.push("j", "one");
    streams.finish("j", JobEnd::Cancelled);
    for _ in 0..2 {
        assert_eq!(streams.next("j", 0), line("one"));
        assert_eq!(streams.next("j", 1), Next::End(JobEnd::Cancelled));
    }
}

#[test]
fn an_unknown_job_takes_nothing() {
    let streams = with_job();
    assert!(!streams.push("k", "one"));
    assert!(!streams.finish("k", JobEnd::Done));
    assert_eq!(streams.next("k", 0), Next::Unknown);
    assert!(streams.subscribe("k", Arc::new(|| ())).is_none());
}

#[test]
fn creating_a_job_again_keeps_the_first() {
    let streams = with_job();
    streams.push("j", "one");
    assert!(!streams.create("j"));
    assert_eq!(streams.next("j", 0), line("one"));
}

#[test]
fn the_first_end_stands() {
    let streams = with_job();
    assert!(streams.finish("j", JobEnd::Cancelled));
    assert!(!streams.finish("j", JobEnd::Done));
    assert_eq!(streams.next("j", 0), Next::End(JobEnd::Cancelled));
}

#[test]
fn nothing_follows_the_end() {
    let streams = with_job();
    streams.finish("j", JobEnd::Done);
    assert!(!streams.push("j", "late"));
    assert_eq!(streams.next("j", 0), Next::End(JobEnd::Done));
}

#[test]
fn a_pushed_line_is_one_line() {
    let streams = with_job();
    streams.push("j", "a\n\ndata: [DONE]");
    assert_eq!(streams.next("j", 0), line(r"a\n\ndata: [DONE]"));
}

#[test]
fn an_end_is_kept_without_secrets() {
    let streams = with_job();
    streams.finish("j", JobEnd::Error { kind: "io".into(), message: "Bearer abc".into() });
    assert_eq!(streams.next("j", 0), Next::End(JobEnd::Error { kind: "io".into(), message: "Bearer [REDACTED]".into() }));
}

#[test]
fn after_the_last_kept_line_comes_one_marker() {
    let streams = with_job();
    for number in 0..MAX_JOB_LINES {
        assert!(streams.push("j", number.to_string()));
    }
    assert_eq!(streams.next("j", MAX_JOB_LINES), Next::Pending);
    assert!(streams.push("j", "too much"));
    assert!(!streams.push("j", "still too much"));
    assert_eq!(streams.next("j", MAX_JOB_LINES - 1), line(&(MAX_JOB_LINES - 1).to_string()));
    assert_eq!(streams.next("j", MAX_JOB_LINES), line(CUT_MARKER));
    assert_eq!(streams.next("j", MAX_JOB_LINES + 1), Next::Pending);
    assert!(streams.finish("j", JobEnd::Done));
    assert_eq!(streams.next("j", MAX_JOB_LINES + 1), Next::End(JobEnd::Done));
}

#[test]
fn the_bytes_of_a_job_are_bounded_too() {
    let streams = streams(Bounds { bytes: 5, ..Bounds::default() });
    streams.create("j");
    streams.push("j", "12345");
    streams.push("j", "6");
    streams.push("j", "");
    assert_eq!(streams.next("j", 0), line("12345"));
    assert_eq!(streams.next("j", 1), line(CUT_MARKER));
    assert_eq!(streams.next("j", 2), Next::Pending);
}

#[test]
fn the_last_thousand_jobs_are_kept() {
    let streams = JobStreams::new();
    for number in 0..=MAX_JOBS {
        let job_id = number.to_string();
        streams.create(&job_id);
        streams.finish(&job_id, JobEnd::Done);
    }
    assert_eq!(streams.next("0", 0), Next::Unknown);
    assert_eq!(streams.next("1", 0), Next::End(JobEnd::Done));
    assert_eq!(streams.next(&MAX_JOBS.to_string(), 0), Next::End(JobEnd::Done));
}

#[test]
fn ended_jobs_go_first_in_the_order_of_their_ends() {
    let streams = streams(Bounds { jobs: 3, ..Bounds::default() });
    for job_id in ["running", "second", "first"] {
        streams.create(job_id);
    }
    streams.finish("first", JobEnd::Done);
    streams.finish("second", JobEnd::Done);
    streams.create("a");
    assert_eq!(streams.next("first", 0), Next::Unknown);
    assert_ne!(streams.next("second", 0), Next::Unknown);
    streams.create("b");
    assert_eq!(streams.next("second", 0), Next::Unknown);
    assert_eq!(streams.next("running", 0), Next::Pending);
}

#[test]
fn with_no_ended_job_the_oldest_goes_and_its_readers_are_told() {
    let streams = streams(Bounds { jobs: 1, ..Bounds::default() });
    streams.create("old");
    let (count, listener) = counter();
    let _subscription = streams.subscribe("old", listener);
    assert!(streams.create("new"));
    assert_eq!(calls(&count), 1);
    assert_eq!(streams.next("old", 0), Next::Unknown);
    assert_eq!(streams.next("new", 0), Next::Pending);
}

#[test]
fn a_listener_is_called_after_each_change_and_only_then() {
    let streams = with_job();
    let (count, listener) = counter();
    let _subscription = streams.subscribe("j", listener).unwrap();
    assert_eq!(calls(&count), 0);
    streams.push("j", "one");
    assert_eq!(calls(&count), 1);
    streams.finish("j", JobEnd::Done);
    assert_eq!(calls(&count), 2);
    streams.push("j", "late");
    streams.finish("j", JobEnd::Cancelled);
    streams.create("other");
    assert_eq!(calls(&count), 2);
}

#[test]
fn a_dropped_subscription_is_not_called() {
    let streams = with_job();
    let (count, listener) = counter();
    let (other, other_listener) = counter();
    let subscription = streams.subscribe("j", listener);
    let _kept = streams.subscribe("j", other_listener);
    drop(subscription);
    streams.push("j", "one");
    assert_eq!((calls(&count), calls(&other)), (0, 1));
}

#[test]
fn a_subscription_of_an_evicted_job_leaves_its_namesake_alone() {
    let streams = streams(Bounds { jobs: 1, ..Bounds::default() });
    streams.create("j");
    let old = streams.subscribe("j", Arc::new(|| ()));
    streams.create("k");
    streams.create("j");
    let (count, listener) = counter();
    let _new = streams.subscribe("j", listener);
    drop(old);
    streams.push("j", "one");
    assert_eq!(calls(&count), 1);
}

#[test]
fn a_listener_may_call_the_streams() {
    let streams = Arc::new(with_job());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (reader, record) = (Arc::clone(&streams), Arc::clone(&seen));
    let _subscription = streams.subscribe("j", Arc::new(move || record.lock().unwrap().push(reader.next("j", 0))));
    streams.push("j", "one");
    assert_eq!(*seen.lock().unwrap(), [line("one")]);
}

#[test]
fn a_listener_that_owns_a_subscription_is_dropped_without_a_deadlock() {
    let streams = with_job();
    let inner = streams.subscribe("j", Arc::new(|| ()));
    let outer = streams.subscribe("j", Arc::new(move || assert!(inner.is_some())));
    drop(outer);
    let full = self::streams(Bounds { listeners: 1, ..Bounds::default() });
    full.create("j");
    let inner = full.subscribe("j", Arc::new(|| ()));
    assert!(full.subscribe("j", Arc::new(move || assert!(inner.is_some()))).is_none());
}

#[test]
fn listeners_of_a_job_are_bounded() {
    let streams = streams(Bounds { listeners: 1, ..Bounds::default() });
    streams.create("j");
    let first = streams.subscribe("j", Arc::new(|| ()));
    assert!(first.is_some());
    assert!(streams.subscribe("j", Arc::new(|| ())).is_none());
    drop(first);
    assert!(streams.subscribe("j", Arc::new(|| ())).is_some());
}

#[test]
fn a_subscription_may_outlive_the_streams() {
    let streams = with_job();
    let subscription = streams.subscribe("j", Arc::new(|| ()));
    drop(streams);
    drop(subscription);
}

#[test]
fn a_reader_on_another_thread_misses_no_line() {
    let streams = Arc::new(with_job());
    let (wake, woken) = std::sync::mpsc::sync_channel::<()>(1);
    let _subscription = streams.subscribe(
        "j",
        Arc::new(move || {
            // Full: the reader has yet to wake for an earlier change.
            let _ = wake.try_send(());
        }),
    );
    let writer = Arc::clone(&streams);
    let writing = std::thread::spawn(move || {
        for number in 0..2_000 {
            writer.push("j", number.to_string());
        }
        writer.finish("j", JobEnd::Done);
    });
    let mut position = 0;
    loop {
        match streams.next("j", position) {
            Next::Line(text) => {
                assert_eq!(text, position.to_string());
                position += 1;
            }
            Next::End(_) => break,
            Next::Pending => woken.recv_timeout(std::time::Duration::from_secs(20)).unwrap(),
            Next::Unknown => panic!("the job is gone"),
        }
    }
    writing.join().unwrap();
    assert_eq!(position, 2_000);
}

proptest! {
    #[test]
    fn no_more_jobs_than_the_bound_are_known(steps in proptest::collection::vec((0..12_u8, 0..3_u8), 0..60)) {
        let streams = streams(Bounds { jobs: 4, ..Bounds::default() });
        for (job, act) in steps {
            let job_id = job.to_string();
            match act {
                0 => {
                    streams.create(&job_id);
                    prop_assert_ne!(streams.next(&job_id, 0), Next::Unknown);
                }
                1 => {
                    streams.push(&job_id, "x");
                }
                _ => {
                    streams.finish(&job_id, JobEnd::Done);
                }
            }
            let known = (0..12_u8).filter(|job| streams.next(&job.to_string(), 0) != Next::Unknown).count();
            prop_assert!(known <= 4);
        }
    }
}
