//! A hive that is somebody else's by now: it speaks the launcher's protocol by itself and asks for what it must not get.
//!
//! ```text
//!  compromised-hive attack DIR CGROUP_ROOT HIVE   one line an attempt; waits for a line on stdin before the next one
//!  compromised-hive hello DIR CGROUP_ROOT HIVE    how the launcher greets, or why it does not
//!  compromised-hive watch                         whether fanotify_init(2) is to be had here
//! ```
//! It starts the launcher as a hive does and then drops its privileges as a hive does. Who started it looks at what came of it all.
//! Must never know: how the launcher decides.
#![forbid(unsafe_code)]

mod attempt;
mod attempts;
mod descriptors;
mod launcher;

use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use attempt::Expected;
use launcher::{Answer, Launcher};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["attack", directory, root, hive] => Place::new(directory, root, hive).and_then(|place| attack(&place)),
        ["hello", directory, root, hive] => Place::new(directory, root, hive).and_then(|place| hello(&place)),
        ["watch"] => watch(),
        _ => Err(io::Error::other("usage: compromised-hive attack|hello DIR CGROUP_ROOT HIVE, or watch")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "compromised-hive: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the launcher works.
struct Place {
    directory: PathBuf,
    cgroup_root: String,
    hive: PathBuf,
}

impl Place {
    fn new(directory: &str, root: &str, hive: &str) -> io::Result<Self> {
        Ok(Self { directory: directory.into(), cgroup_root: root.to_owned(), hive: hive.into() })
    }
}

fn hello(place: &Place) -> io::Result<()> {
    let (mut launcher, greeting) = Launcher::start(place)?;
    say(&greeting.op, &[&greeting.kind, &greeting.message])?;
    launcher.shut_down()
}

/// Says each attempt's name, what was expected and what came, and waits until it has been looked at.
fn attack(place: &Place) -> io::Result<()> {
    let (mut launcher, greeting) = Launcher::start(place)?;
    say("hello", &[&greeting.op, &greeting.message])?;
    launcher::become_nobody()?;
    let (_held, control) = descriptors::held()?;
    let honest = launcher.ask(&attempts::honest(), vec![control])?;
    say("honest", &[&honest.op, &honest.message])?;
    wait_to_be_looked_at()?;
    for attempt in attempts::all() {
        let answer = match attempt.expected {
            Expected::Refused(_) => launcher.ask(&attempt.message, attempt.descriptors(&launcher, &place.directory)?)?,
            Expected::Unread => {
                launcher.tell(&attempt.message, attempt.descriptors(&launcher, &place.directory)?)?;
                launcher.still_answers()?
            }
        };
        row(&attempt.name, attempt.expected.text(), &answer)?;
        wait_to_be_looked_at()?;
    }
    flood(&mut launcher, "a flood of spawns", |seq| Ok((attempts::spawn_of(seq, "no-such-policy"), descriptors::control()?)))?;
    flood(&mut launcher, "a flood of look-ups", |seq| Ok((attempts::find_of(seq, "no-such-policy"), vec![])))?;
    after_the_end(&mut launcher)
}

/// A message, and the descriptors that go with it.
type Sent = (Vec<u8>, Vec<OwnedFd>);

/// More requests than can wait: the launcher's time, memory and descriptors are not a hive's to fill.
fn flood(launcher: &mut Launcher, name: &str, request: impl Fn(u64) -> io::Result<Sent>) -> io::Result<()> {
    const MANY: usize = 3000;
    let mut answers = Vec::new();
    for seq in (2_000_000..).take(MANY) {
        let (message, fds) = request(seq)?;
        launcher.tell(&message, fds)?;
        while let Some(answer) = launcher.hear_within(Duration::ZERO)? {
            answers.push(answer.kind);
        }
    }
    // Those that wait for their time get it: a thousand, at the configured rate.
    while answers.len() < MANY {
        let answer =
            launcher.hear_within(Duration::from_secs(60))?.ok_or_else(|| io::Error::other(format!("{name}: not each was answered")))?;
        answers.push(answer.kind);
    }
    let full = answers.iter().filter(|kind| *kind == "at_capacity").count();
    let kind = if full > 0 { "at_capacity" } else { "unknown_policy" };
    row(name, "at_capacity", &Answer { op: "refused".into(), kind: kind.into(), message: format!("{full} of {MANY}") })?;
    wait_to_be_looked_at()
}

fn after_the_end(launcher: &mut Launcher) -> io::Result<()> {
    launcher.tell(attempts::SHUTDOWN, vec![])?;
    let answer = launcher.ask(&attempts::spawn_of(9_000_000, "mock"), descriptors::control()?)?;
    row("a spawn after the shutdown", "shutting_down", &answer)?;
    launcher.wait()?;
    wait_to_be_looked_at()
}

/// A call of the deny-list that needs no privilege elsewhere.
fn watch() -> io::Result<()> {
    use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags};
    // nix has no name for it.
    const FAN_REPORT_FID: u32 = 0x200;
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::from_bits_retain(FAN_REPORT_FID);
    match Fanotify::init(flags, EventFFlags::O_RDONLY) {
        Ok(_) => say("watch", &["DONE"]),
        Err(errno) => say("watch", &[&format!("{errno:?}")]),
    }
}

fn row(name: &str, expected: &str, answer: &Answer) -> io::Result<()> {
    say("row", &[name, expected, if answer.op == "refused" { &answer.kind } else { &answer.op }, &answer.message])
}

/// One line of fields; a text from outside stays in its own.
fn say(first: &str, fields: &[&str]) -> io::Result<()> {
    let mut line = first.to_owned();
    for field in fields {
        line.push('\t');
        line.extend(field.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }));
    }
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

fn wait_to_be_looked_at() -> io::Result<()> {
    match io::stdin().lock().read_line(&mut String::new())? {
        0 => Err(io::Error::other("nobody looks any more")),
        _ => Ok(()),
    }
}
