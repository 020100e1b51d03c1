//! The two files by which a test tells processes where to fail, and hears that they did (`src/sandbox/src/fail_point`).
//!
//! Must never know: which points there are.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_support::poll;

/// As many bytes as the points read at once.
const BLOCK: usize = 4096;

/// The board of one hive.
#[derive(Debug)]
pub struct Board {
    set: File,
    hits: PathBuf,
    /// Every point that is passed is told, and no hit is forgotten.
    trace: bool,
}

/// One line that a process has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whether something was done there, and not only passed.
    pub fired: bool,
    /// `<process>.<point>`.
    pub point: String,
    /// The subject.
    pub who: String,
    /// The process, by the number that it knows itself.
    pub pid: i32,
}

/// To be given to `HiveOptions::before_start`: makes the files and names them to the hive.
///
/// # Panics
/// Where they can't be made.
pub fn put_up(directory: &Path, command: &mut Command) {
    let board = directory.join("fail-points");
    fs::create_dir_all(&board).expect("make a directory for the fail-points");
    for name in ["set", "hits"] {
        OpenOptions::new().create(true).append(true).open(board.join(name)).expect("make a file for the fail-points");
    }
    command.env("RBEE_FAIL_POINTS", board);
}

impl Board {
    /// The board of the hive in this directory.
    ///
    /// # Panics
    /// Where there is none.
    pub fn of(directory: &Path) -> Self {
        let board = directory.join("fail-points");
        let set = OpenOptions::new().write(true).open(board.join("set")).expect("open the setting of the fail-points");
        Self { set, hits: board.join("hits"), trace: false }
    }

    /// From now on every point that is passed is told, and no hit is forgotten.
    pub fn trace(&mut self) {
        self.trace = true;
        self.clear();
    }

    /// Sets lines as `fail_point` describes them; what was set before is no more, and what was hit is forgotten.
    ///
    /// # Panics
    /// Where they are too long, or can't be written.
    pub fn set(&self, lines: &str) {
        let lines = if self.trace { format!("{lines}\ntrace") } else { lines.to_owned() };
        let mut block = vec![b' '; BLOCK];
        block[..lines.len()].copy_from_slice(lines.as_bytes());
        self.set.write_all_at(&block, 0).expect("set the fail-points");
        if !self.trace {
            fs::write(&self.hits, "").expect("forget the hits");
        }
    }

    /// Nothing is set any more. The hits stay.
    ///
    /// # Panics
    /// Where it can't be written.
    pub fn clear(&self) {
        let mut block = vec![b' '; BLOCK];
        let lines = if self.trace { "trace" } else { "" };
        block[..lines.len()].copy_from_slice(lines.as_bytes());
        self.set.write_all_at(&block, 0).expect("clear the fail-points");
    }

    /// What was hit since the last setting.
    pub fn hits(&self) -> Vec<Hit> {
        let text = fs::read_to_string(&self.hits).unwrap_or_default();
        text.lines().filter_map(Hit::parse).collect()
    }

    /// The first point that has fired, waited for.
    pub fn fired(&self, limit: Duration) -> Option<Hit> {
        poll(limit, || self.hits().into_iter().find(|hit| hit.fired))
    }
}

impl Hit {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        let mut word = || words.next();
        Some(Self { fired: word()? == "fired", point: word()?.to_owned(), who: word()?.to_owned(), pid: word()?.parse().ok()? })
    }
}
