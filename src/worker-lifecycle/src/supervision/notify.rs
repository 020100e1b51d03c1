//! What a worker says by sd_notify(3), and what is kept of it.
//!
//! A datagram is `NAME=value` lines from a process that nobody trusts: each name counts once, the first time, as systemd has it; what is
//! unknown, empty or no number is passed over; times are bounded.

use std::time::Duration;

use tokio::time::Instant;

/// Most lines of a datagram that are looked at.
const MAX_LINES: usize = 64;
/// Longest status text, characters.
const MAX_STATUS: usize = 256;
/// Longest time that one message can ask for: who needs more says so again.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// `READY=1`
    Ready,
    /// `RELOADING=1`
    Reloading,
    /// `STOPPING=1`
    Stopping,
    /// `STATUS=…`, without control characters; empty takes it back.
    Status(String),
    /// `WATCHDOG=1`
    Ping,
    /// `WATCHDOG=trigger`
    Trigger,
    /// `WATCHDOG_USEC=…`: how long it may say nothing from now on.
    PingWithin(Duration),
    /// `EXTEND_TIMEOUT_USEC=…`: how long from now it must not be given up.
    Extend(Duration),
    /// `ERRNO=…`
    Errno(i32),
}

/// What a datagram says, in its order.
pub(crate) fn parse(text: &str) -> Vec<Word> {
    let mut seen: Vec<&str> = Vec::new();
    let mut words = Vec::new();
    for (name, value) in text.lines().take(MAX_LINES).filter_map(|line| line.split_once('=')) {
        if seen.contains(&name) {
            continue;
        }
        if let Some(word) = word(name, value) {
            seen.push(name);
            words.push(word);
        }
    }
    words
}

fn word(name: &str, value: &str) -> Option<Word> {
    match (name, value) {
        ("READY", "1") => Some(Word::Ready),
        ("RELOADING", "1") => Some(Word::Reloading),
        ("STOPPING", "1") => Some(Word::Stopping),
        ("STATUS", text) => Some(Word::Status(text.chars().filter(|c| !c.is_control()).take(MAX_STATUS).collect())),
        ("WATCHDOG", "1") => Some(Word::Ping),
        ("WATCHDOG", "trigger") => Some(Word::Trigger),
        ("WATCHDOG_USEC", micros) => time(micros).map(Word::PingWithin),
        ("EXTEND_TIMEOUT_USEC", micros) => time(micros).map(Word::Extend),
        ("ERRNO", number) => number.parse().ok().filter(|errno| *errno > 0).map(Word::Errno),
        _ => None,
    }
}

/// Never zero: a watchdog can't be switched off by whom it watches.
fn time(micros: &str) -> Option<Duration> {
    let micros = micros.parse::<u64>().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros).min(MAX_TIME))
}

/// What readiness needs to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notified {
    /// It has said `READY=1`.
    pub(crate) ready: bool,
    /// Before this moment it must not be given up.
    pub(crate) extended: Option<Instant>,
}

/// What a watchdog needs to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pings {
    /// How many there were.
    pub(crate) count: u64,
    /// How often it has said `WATCHDOG=trigger`.
    pub(crate) triggers: u64,
    /// How long it may say nothing, where it has said that itself.
    pub(crate) within: Option<Duration>,
    /// Before this moment silence does not count.
    pub(crate) extended: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_word_of_sd_notify_is_understood_and_others_are_passed_over() {
        let text = "READY=1\nMAINPID=7\nSTATUS=loading 5 %\nRELOADING=1\nMONOTONIC_USEC=3\nSTOPPING=1\nWATCHDOG=1\nWATCHDOG_USEC=2000000\n\
                    EXTEND_TIMEOUT_USEC=30000000\nERRNO=12\nX_OWN=1\nnonsense\n=\nFDSTORE=1";
        let all = [
            Word::Ready,
            Word::Status("loading 5 %".into()),
            Word::Reloading,
            Word::Stopping,
            Word::Ping,
            Word::PingWithin(Duration::from_secs(2)),
            Word::Extend(Duration::from_secs(30)),
            Word::Errno(12),
        ];
        assert_eq!(parse(text), all);
        assert_eq!(parse("WATCHDOG=trigger"), [Word::Trigger]);
        assert_eq!(parse("STATUS=a=b"), [Word::Status("a=b".into())]);
    }

    #[test]
    fn a_name_counts_once_and_what_is_no_value_does_not() {
        assert_eq!(parse("STATUS=first\nSTATUS=second\nREADY=0\nREADY=1"), [Word::Status("first".into()), Word::Ready]);
        for nothing in
            ["READY=yes", "WATCHDOG=0", "WATCHDOG_USEC=0", "WATCHDOG_USEC=-1", "EXTEND_TIMEOUT_USEC=soon", "ERRNO=-2", "ERRNO=x", ""]
        {
            assert_eq!(parse(nothing), [], "{nothing:?}");
        }
    }

    #[test]
    fn no_message_asks_for_longer_than_an_hour_and_no_text_is_longer_than_its_bound() {
        assert_eq!(parse(&format!("EXTEND_TIMEOUT_USEC={}", u64::MAX)), [Word::Extend(MAX_TIME)]);
        assert_eq!(parse(&format!("WATCHDOG_USEC={}", u64::MAX)), [Word::PingWithin(MAX_TIME)]);
        let words = parse(&format!("STATUS=\u{1b}[31m{}\t\u{7f}", "ü".repeat(4096)));
        let [Word::Status(text)] = words.as_slice() else { panic!("{words:?}") };
        assert!(text.starts_with("[31mü") && text.chars().count() == MAX_STATUS, "{text}");
        let many = "READY=0\n".repeat(MAX_LINES) + "READY=1";
        assert_eq!(parse(&many), [], "what comes after the last line that is looked at");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_is_told_unbounded(text in "(?s).{0,300}|([A-Z_]{0,20}=(.{0,40}|[0-9]{1,30})\n){0,80}") {
            let words = parse(&text);
            prop_assert!(words.len() <= MAX_LINES);
            for word in words {
                match word {
                    Word::Status(text) => {
                        prop_assert!(text.chars().count() <= MAX_STATUS && !text.chars().any(char::is_control));
                    }
                    Word::PingWithin(time) | Word::Extend(time) => prop_assert!(!time.is_zero() && time <= MAX_TIME),
                    Word::Errno(errno) => prop_assert!(errno > 0),
                    _ => {}
                }
            }
        }
    }
}
