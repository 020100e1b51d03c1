//! The way to a worker and from it: what the hive forwards passes whole and in bounds, and there is no other way.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use sandbox_tests::Sandboxed;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, port, require_root, within};

/// A server in perl: `SCRIPT` sees its port as `$ARGV[0]`.
fn perl(script: &str) -> String {
    let listen = "use Socket; socket(L, AF_INET, SOCK_STREAM, 0); setsockopt(L, SOL_SOCKET, SO_REUSEADDR, 1); \
                  bind(L, pack_sockaddr_in($ARGV[0], INADDR_ANY)) or die; listen(L, 1000) or die;";
    format!(
        "[worker]\nbinary = \"/usr/bin/perl\"\ncommand = [\"{{binary}}\", \"-e\", '{listen} {script}', \"{{port}}\"]\n\
         [readiness]\ntcp = true\n[limits]\nopen_files = 2048\n"
    )
}

/// Answers with how much it was sent, and only once the client has said that this was all.
const COUNTS_TO_THE_END: &str =
    "while (accept(C, L)) { $n = 0; while (($r = sysread(C, $b, 65536)) > 0) { $n += $r } syswrite(C, \"got $n\"); close(C) }";
/// Keeps every connection until its client goes.
const KEEPS: &str = "use IO::Select; $s = IO::Select->new(\\*L); while (1) { for $h ($s->can_read) { if ($h == \\*L) { accept(my $c, L); $s->add($c) } \
                     else { sysread($h, $b, 65536) or do { $s->remove($h); close($h) } } } }";

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(within(Duration::from_secs(10)))).expect("set a time-out");
    stream
}

fn ask(worker: &Value, path: &str) -> Value {
    let reply = http_get(port(worker), path).expect("the worker answers");
    serde_json::from_str(&reply.text()).unwrap_or_else(|e| panic!("{path}: {e}: {}", reply.text()))
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("counts", &perl(COUNTS_TO_THE_END)));
    let worker = spawn(&hive, "w", "counts");
    let sent = vec![b'x'; 3 << 20];
    let mut stream = connect(port(&worker));
    stream.write_all(&sent).expect("send");
    // As long as it has not said so there is no answer …
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("set a time-out");
    let mut answer = Vec::new();
    let early = stream.read_to_end(&mut answer).expect_err("it waits for the end");
    assert_eq!((early.kind(), answer.len()), (std::io::ErrorKind::WouldBlock, 0), "{early}");
    // … and when it has, the other direction goes on.
    stream.shutdown(Shutdown::Write).expect("say that this is all");
    stream.set_read_timeout(Some(within(Duration::from_secs(10)))).expect("set a time-out");
    stream.read_to_end(&mut answer).expect("an answer, and its end");
    assert_eq!(String::from_utf8_lossy(&answer), format!("got {}", sent.len()));
}

#[test]
fn connections_to_one_worker_are_bounded_and_do_not_starve_another() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("keeps", &perl(KEEPS)));
    let (worker, sibling) = (spawn(&hive, "keeps", "keeps"), spawn(&hive, "sibling", "mock"));
    let inside = || {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", worker["pid"])).expect("its sockets");
        let ours = format!(":{:04X}", port(&worker));
        // Local address and state: ESTABLISHED on the side of the server.
        table
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .filter(|w| w.len() > 3 && w[1].ends_with(&ours) && w[3] == "01")
            .count()
    };
    let mut clients: Vec<TcpStream> = (0..200).map(|_| connect(port(&worker))).collect();
    eventually("all of a number below the bound to get through", Duration::from_secs(20), || (inside() >= 200).then_some(()));
    clients.extend((0..150).map(|_| connect(port(&worker))));
    eventually("the bound to be reached", Duration::from_secs(20), || (inside() >= 256).then_some(()));
    assert!(ask(&sibling, "/info")["pid"].is_i64(), "the sibling answers meanwhile");
    assert_eq!(hive.call("worker_status", json!({"worker_id": "keeps"}))["state"], "ready", "and the hive");
    assert_eq!(inside(), 256, "the others wait outside");
    // Those that waited take the places that come free.
    drop(clients.drain(..150));
    eventually("the next ones to get through", Duration::from_secs(20), || (inside() == 200).then_some(()));
}

#[test]
fn a_connection_ends_with_its_worker() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = spawn(&hive, "w", "mock");
    let mut stream = connect(port(&worker));
    stream.write_all(b"GET /stream?chunks=1000&delay_ms=100 HTTP/1.1\r\nHost: x\r\n\r\n").expect("send");
    let mut some = [0u8; 64];
    assert!(stream.read(&mut some).expect("it streams") > 0);
    hive.call("worker_stop", json!({"worker_id": "w", "grace_ms": 0}));
    let mut rest = Vec::new();
    // A reset is an end as well.
    let ended = stream.read_to_end(&mut rest).map_err(|e| e.kind());
    assert!(matches!(ended, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)), "{ended:?}");
    assert!(TcpStream::connect(("127.0.0.1", port(&worker))).is_err(), "nobody listens there any more");
}

#[test]
fn no_worker_reaches_another_or_the_hive_or_the_host() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let (one, two) = (spawn(&hive, "one", "mock"), spawn(&hive, "two", "mock"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let host = listener.local_addr().expect("an address").port();
    for (what, target) in [("another worker", port(&two)), ("the hive", hive.port()), ("the host", host)] {
        assert!(TcpStream::connect(("127.0.0.1", target)).is_ok(), "from the host {what} can be reached");
        let answer = ask(&one, &format!("/connect?addr=127.0.0.1:{target}"));
        // Refused by its own loopback, where nobody listens.
        assert_eq!((&answer["ok"], &answer["errno"]), (&json!(false), &json!(111)), "{what}: {answer}");
    }
    let own = ask(&one, &format!("/connect?addr=127.0.0.1:{}", port(&one)));
    assert_eq!(own["ok"], true, "its own port is there: {own}");
    for outside in ["192.0.2.1:80", "169.254.169.254:80", "8.8.8.8:53"] {
        let answer = ask(&one, &format!("/connect?addr={outside}"));
        assert_eq!(answer["errno"], 101, "there is no way out: {answer}");
    }
    for socket in [hive.socket().display().to_string(), hive.state_dir().join("workers/two/init.sock").display().to_string()] {
        let answer = ask(&one, &format!("/connect?addr=unix:{socket}"));
        assert_eq!(answer["errno"], 2, "{socket}: {answer}");
    }
}

#[test]
fn what_a_worker_listens_on_beside_its_port_is_reached_by_nobody() {
    require_root!();
    let other = "socket(O, AF_INET, SOCK_STREAM, 0); bind(O, pack_sockaddr_in(9000, INADDR_ANY)) or die; listen(O, 5); ";
    let hive = Hive::start(HiveOptions::default().policy("two", &perl(&format!("{other} {COUNTS_TO_THE_END}"))));
    let worker = spawn(&hive, "w", "two");
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", worker["pid"])).expect("its sockets");
    assert!(table.contains(":2328 "), "it listens on port 9000: {table}");
    assert!(TcpStream::connect("127.0.0.1:9000").is_err(), "and the host sees nothing of it");
    connect(port(&worker));
}

#[test]
fn on_the_hosts_network_a_worker_is_no_client_of_the_hive() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let script = format!(
        "use Socket; socket(S, AF_INET, SOCK_STREAM, 0); connect(S, pack_sockaddr_in({}, inet_aton(q(127.0.0.1)))) or die qq(refused: $!\\n); \
         $b = q({{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"worker_list\"}}); \
         syswrite(S, qq(POST /rpc HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\nConnection: close\\r\\nContent-Length: ) . \
         length($b) . qq(\\r\\n\\r\\n$b)); print <S>",
        hive.port()
    );
    let outside = std::process::Command::new("perl").args(["-e", &script]).output().expect("perl");
    assert!(String::from_utf8_lossy(&outside.stdout).starts_with("HTTP/1.1 200"), "from the host it is served: {outside:?}");
    let policy = "[worker]\nbinary = \"unused\"\n[network]\nmode = \"host\"\n";
    let inside = Sandboxed::with_policy(policy).run(&["/usr/bin/perl", "-e", &script]);
    assert!(!inside.stdout.contains(" 200 ") && !inside.stdout.contains("result"), "{inside:?}");
    assert!(inside.stdout.contains("403") || inside.stdout.contains("forbidden") || inside.stderr.contains("refused"), "{inside:?}");
}
