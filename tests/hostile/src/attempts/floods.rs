//! More of everything than a worker may have. Each gives back what it took, so that the next one starts from nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

use crate::attempt::{Outcome, attempts};

/// More than a policy of the tests allows of anything.
const MANY: usize = 256;

attempts! {
    Flood "flood processes" => processes(),
    Flood "flood threads" => threads(),
    Flood "flood descriptors" => until_refused(|_| File::open("/dev/null")),
    Flood "flood pipes" => until_refused(|_| rustix::pipe::pipe().map_err(io::Error::from)),
    Flood "flood sockets" => until_refused(|_| std::net::UdpSocket::bind("127.0.0.1:0")),
    Flood "flood /tmp" => fill("/tmp/fill"),
    Flood "flood /dev/shm" => fill("/dev/shm/fill"),
    Flood "flood its home" => fill("fill"),
    Flood "flood /run/worker" => fill("/run/worker/fill"),
    Flood "flood /run/worker with names" => names("/run/worker"),
}

fn until_refused<T>(make: impl FnMut(usize) -> io::Result<T>) -> Outcome {
    match (0..MANY * 16).map(make).collect::<io::Result<Vec<T>>>() {
        Ok(all) => Outcome::Done(format!("{} of them", all.len())),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

/// Children that wait for their standard input to end, which it does with this program.
fn processes() -> Outcome {
    let mut children: Vec<Child> = Vec::new();
    let start = || Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let refused = (0..MANY).find_map(|_| match start() {
        Ok(child) => {
            children.push(child);
            None
        }
        Err(e) => Some(e),
    });
    let number = children.len();
    for mut child in children {
        drop(child.stdin.take());
        let _ = child.wait();
    }
    match refused {
        Some(e) => Outcome::from(Err::<(), _>(e)),
        None => Outcome::Done(format!("{number} processes")),
    }
}

fn threads() -> Outcome {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    let mut all = Vec::new();
    let refused = (0..MANY).find_map(|_| {
        let receiver = std::sync::Arc::clone(&receiver);
        let wait = move || drop(receiver.lock().map(|end| end.recv().is_err()));
        match std::thread::Builder::new().stack_size(16 << 10).spawn(wait) {
            Ok(thread) => {
                all.push(thread);
                None
            }
            Err(e) => Some(e),
        }
    });
    let number = all.len();
    // Each sees the end of the channel, one after the other.
    drop(sender);
    for thread in all {
        let _ = thread.join();
    }
    match refused {
        Some(e) => Outcome::from(Err::<(), _>(e)),
        None => Outcome::Done(format!("{number} threads")),
    }
}

/// 64 MiB, more than a scratch directory of the tests' policy holds.
fn fill(path: &str) -> io::Result<()> {
    let block = vec![1u8; 1 << 20];
    let mut file = File::create(path)?;
    let result = (0..64).try_for_each(|_| file.write_all(&block));
    drop(file);
    fs::remove_file(path)?;
    result
}

fn names(directory: &str) -> Outcome {
    let path = |n: usize| format!("{directory}/name-{n}");
    let outcome = until_refused(|n| File::create(path(n)).map(drop));
    (0..MANY * 16).take_while(|n| fs::remove_file(path(*n)).is_ok()).for_each(drop);
    outcome
}
