//! Clients that cut their connection while they are answered: what they have asked for is done or is not, and is told as it is.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crash_tests::machine::{Life, Machine, Owner, descriptors};
use crash_tests::random::Random;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, pid, port, require_root, time_factor};

/// How often each request is cut.
const CUTS: u64 = 12;

/// Sends a request and goes away after a while, at the latest with the answer's first bytes.
fn cut(hive: &Hive, (method, params): (&str, &Value), after: Duration) {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let head = "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let mut stream = UnixStream::connect(hive.socket()).expect("connect");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("send a request");
    stream.set_read_timeout(Some(after.max(Duration::from_micros(1)))).expect("set a time limit");
    // Whether it was answered by then is as it may be.
    let _ = stream.read(&mut [0; 16]);
}

fn owner(hive: &Hive) -> Owner {
    // No port: others use the range, too, and one that is left would show as a socket.
    Owner { directory: hive.directory().to_path_buf(), cgroup_root: hive.cgroup_root().to_owned(), ports: 1..=0 }
}

fn sockets(hive: &Hive) -> usize {
    descriptors(hive.pid().as_raw()).get("socket").copied().unwrap_or(0)
}

#[track_caller]
fn nothing_is_left(hive: &Hive, before: &Machine, open: usize) {
    eventually("all as it was before", Duration::from_secs(10), || {
        let same = Machine::look(&owner(hive)).differences(before).is_empty() && sockets(hive) <= open;
        same.then_some(())
    });
}

fn moment(random: &mut Random) -> Duration {
    Duration::from_micros(random.below(80_000 * u64::from(time_factor())))
}

/// The worker as it comes to rest: not there, ended, or ready and alive.
fn settled(hive: &Hive, id: &str) -> Option<Value> {
    eventually("the worker to be told as it is", Duration::from_secs(20), || match hive.rpc("worker_status", json!({"worker_id": id})) {
        Err(error) => {
            assert_eq!(error.kind(), "not_found", "{error}");
            Some(None)
        }
        Ok(view) => match view["state"].as_str() {
            Some("ready") => Life::of(pid(&view)).map(|_| Some(view)),
            Some("stopped" | "failed") => Some(Some(view)),
            _ => None,
        },
    })
}

#[test]
fn a_client_that_goes_away_during_a_start_leaves_a_whole_worker_or_none() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let mut random = Random::seeded(1);
    let (before, open) = (Machine::look(&owner(&hive)), sockets(&hive));
    for number in 0..CUTS {
        let id = format!("c{number}");
        cut(&hive, ("worker_spawn", &json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu"})), moment(&mut random));
        // A start goes on when nobody waits for it.
        if let Some(view) = settled(&hive, &id) {
            assert_eq!(view["state"], "ready", "{view}");
            assert_eq!(http_get(port(&view), "/health").expect("it serves").status, 200);
            hive.call("worker_delete", json!({"worker_id": id}));
        }
    }
    nothing_is_left(&hive, &before, open);
}

#[test]
fn a_client_that_goes_away_during_a_stop_or_a_delete_has_stopped_it_or_not() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let mut random = Random::seeded(2);
    for number in 0..CUTS {
        let id = format!("c{number}");
        let method = *random.one_of(&["worker_stop", "worker_delete"]);
        let worker = hive.mock(&id, &[]);
        let life = Life::of(pid(&worker)).expect("it lives");
        cut(&hive, (method, &json!({"worker_id": id})), moment(&mut random));
        match settled(&hive, &id) {
            Some(view) if view["state"] == "ready" => assert!(life.goes_on()),
            Some(view) => {
                assert_eq!((&view["verdict"]["kind"], &view["verdict"]["by"]), (&json!("stopped"), &json!("request")), "{view}");
                assert!(!life.goes_on());
            }
            None => assert!(!life.goes_on()),
        }
        let _ = hive.rpc("worker_delete", json!({"worker_id": id}));
        assert!(!life.goes_on(), "a deleted worker lives");
    }
    let left: Vec<_> = Machine::look(&owner(&hive)).cgroups.into_iter().filter(|path| path.to_string_lossy().contains("/w-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn clients_that_go_away_while_they_read_logs_and_events_take_nothing_with_them() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = hive.mock("talks", &[]);
    for _ in 0..3 {
        let _ = http_get(port(&worker), "/log?bytes=500000");
    }
    let mut random = Random::seeded(3);
    // What the hive makes once and keeps is no leak.
    cut(&hive, ("worker_logs", &json!({"worker_id": "talks", "tail": 10_000})), Duration::from_millis(50));
    let (before, open) = (Machine::look(&owner(&hive)), sockets(&hive));
    for _ in 0..CUTS {
        cut(&hive, ("worker_logs", &json!({"worker_id": "talks", "tail": 10_000})), moment(&mut random));
        let mut follow = UnixStream::connect(hive.socket()).expect("connect");
        follow.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("ask for events");
        follow.set_read_timeout(Some(moment(&mut random).max(Duration::from_micros(1)))).expect("set a time limit");
        let _ = follow.read(&mut [0; 64]);
    }
    nothing_is_left(&hive, &before, open);
    assert_eq!(hive.call("worker_status", json!({"worker_id": "talks"}))["state"], "ready");
}
