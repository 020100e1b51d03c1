//! Lines, lists and texts of a TOML file that a worker's words can't break out of.

use std::fmt::Write as _;

/// Longest line of a list.
const WIDTH: usize = 120;
/// Longest comment, characters.
const LONGEST: usize = 400;

pub(super) fn line(text: &mut String, key: &str, value: &str, reason: &str) {
    let _ = match reason {
        "" => writeln!(text, "{key} = {value}"),
        reason => writeln!(text, "{key} = {value}    # {}", comment(reason)),
    };
}

/// In one line, whatever a worker may have put into it.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(LONGEST).collect()
}

pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list in one line, or in as many as it needs.
pub(super) fn list(words: &[String]) -> String {
    let mut lines = vec![String::new()];
    for word in words {
        let word = format!("{}, ", quoted(word));
        if lines.last().is_some_and(|l| !l.is_empty() && l.len() + word.len() > WIDTH) {
            lines.push(String::new());
        }
        lines.last_mut().into_iter().for_each(|l| l.push_str(&word));
    }
    let lines: Vec<&str> = lines.iter().map(|l| l.trim_end()).collect();
    format!("[{}]", lines.join("\n    ").trim_end_matches(','))
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n => format!("{n}B"),
    }
}
