//! Paths that change while somebody looks: a thread swaps a link, and the act is tried until it works or has been tried often enough.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use crate::attempt::{IntoErrno, Outcome, attempts};
use crate::bait;

/// Tries of one race.
const ROUNDS: usize = 2_000;

attempts! {
    Harmless "race a link to a host's file" => race_to_bait(),
    Harmless "race a link to core_pattern" => race("/proc/sys/kernel/core_pattern", "", open_to_write),
    Harmless "race a directory to the host's home of root" => race("/root", "", |p| fs::read_dir(p).map(drop)),
    Harmless "race a link to the init's root" => race("/proc/1/root", "etc", |p| fs::read_dir(p).map(drop)),
    Harmful "race a link under a rename to /usr" => race("/usr", "hostile-raced", |p| fs::write(p, "x")),
}

fn open_to_write(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

fn race_to_bait() -> Outcome {
    bait::get("file").map_or(Outcome::Untried("no bait"), |file| race(file, "", |p| fs::read(p).map(drop)))
}

/// `path` is a link to `target` half of the time, and to nothing the other half; the act gets `path/below`.
fn race(target: &str, below: &str, act: fn(&Path) -> std::io::Result<()>) -> Outcome {
    let directory = PathBuf::from(format!("/tmp/hostile-race-{}", std::process::id()));
    let _ = fs::create_dir(&directory);
    let (path, spare) = (directory.join("p"), directory.join("spare"));
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (stop, path, target) = (Arc::clone(&stop), path.clone(), target.to_owned());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for end in ["/nowhere", target.as_str()] {
                    let _ = symlink(end, &spare);
                    let _ = fs::rename(&spare, &path);
                }
            }
        })
    };
    let aim = if below.is_empty() { path } else { path.join(below) };
    let mut last = Errno::ENOENT;
    let done = (0..ROUNDS).any(|_| match act(&aim) {
        Ok(()) => true,
        Err(e) => {
            let errno = e.into_errno();
            // Of the two ends of the link the real one's answer is what counts.
            if errno != Errno::ENOENT {
                last = errno;
            }
            false
        }
    });
    stop.store(true, Ordering::Relaxed);
    let _ = swapper.join();
    let _ = fs::remove_dir_all(&directory);
    if done { Outcome::Done("one of the tries got through".into()) } else { Outcome::Refused(last) }
}
