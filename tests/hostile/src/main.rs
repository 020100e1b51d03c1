//! A worker that tries what no worker may do, and says of each attempt what the kernel answered.
//!
//! ```text
//!  hostile-worker [NAME=VALUE…]                   makes every attempt but the deadly ones; the values are bait, laid out by the test
//!  hostile-worker only ATTEMPT [NAME=VALUE…]      makes this one
//!  hostile-worker list                            names and kinds
//!  hostile-worker outside ATTEMPT [NAME=VALUE…]   makes it where there is no sandbox: the proof that it can be done at all
//!
//!  name<TAB>refused<TAB>EPERM      the kernel said no
//!  name<TAB>untried<TAB>why        what it takes is not here: no proof of anything
//!  name<TAB>DONE<TAB>what it got   it worked: a hole in the sandbox
//! ```
//! Without `outside` it ends at once where it sees no sandbox. What is not harmless is made outside only with RBEE_TEST_THROW_AWAY=1.
//! Must never know: which sandbox it is in.
#![forbid(unsafe_code)]

mod attempt;
mod attempts;
mod bait;
mod raw;

use std::io::{self, Write};
use std::process::ExitCode;

use attempt::{Attempt, Kind};

/// This is no sandbox, or no place for that attempt.
const NOT_HERE: u8 = 64;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    bait::set(&words);
    let named = |attempt: &&Attempt| words.get(1).is_some_and(|name| name == attempt.name);
    match words.first().map(String::as_str) {
        Some("list") => report(attempts::all().map(|a| format!("{}\t{}", a.name, kind(a.kind)))),
        Some("only") if in_a_sandbox() => report(attempts::all().filter(named).map(line)),
        Some("outside") => match attempts::all().find(named) {
            Some(attempt) if may_be_made_outside(attempt) => report([line(attempt)].into_iter()),
            _ => not_here("that attempt is not made outside of a sandbox on this machine"),
        },
        _ if in_a_sandbox() => report(attempts::all().filter(|a| a.kind != Kind::Deadly).map(line)),
        _ => not_here("this is no sandbox (it has capabilities, or no no_new_privs): nothing was tried"),
    }
}

fn line(attempt: &Attempt) -> String {
    format!("{}\t{}", attempt.name, (attempt.act)().line())
}

/// Prints each line as soon as it is known, so that a worker that is killed has told what it did before.
fn report(lines: impl Iterator<Item = String>) -> ExitCode {
    let mut hole = false;
    let mut out = io::stdout();
    for line in lines {
        hole |= line.contains("\tDONE\t");
        // Nobody reads it any more: there is nothing left to report to.
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
    ExitCode::from(u8::from(hole))
}

fn not_here(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "hostile-worker: {why}");
    ExitCode::from(NOT_HERE)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Harmless => "harmless",
        Kind::Harmful => "harmful",
        Kind::Flood => "flood",
        Kind::Deadly => "deadly",
    }
}

fn may_be_made_outside(attempt: &Attempt) -> bool {
    let thrown_away = std::env::var_os("RBEE_TEST_THROW_AWAY").is_some_and(|v| v == "1");
    match attempt.kind {
        Kind::Harmless => true,
        Kind::Harmful | Kind::Deadly => thrown_away,
        Kind::Flood => false,
    }
}

/// Every sandbox worth the name drops these; on the host, as root or not, one of them is there.
fn in_a_sandbox() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.contains("NoNewPrivs:\t1") && status.contains("CapEff:\t0000000000000000")
}
