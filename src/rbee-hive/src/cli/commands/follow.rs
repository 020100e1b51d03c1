//! How far a followed log has been shown, and how its lines are written.
//!
//! The hive gives the lines that are later than a time. It is asked for those of the last shown time again, since a look may come while
//! the init is writing several of one time, and those that were there before are left out here.

use jiff::{SignedDuration, Timestamp};
use rbee_hive_api::{LogLine, LogPage};
use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::output::{Output, Screen, clean_line};

/// The last line's time, and how many lines of that very time have been shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    last: Option<Timestamp>,
    shown: usize,
    begun: Begun,
}

/// Whether a page has been shown, be it an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Begun {
    #[default]
    No,
    Yes,
}

impl Cursor {
    /// Whether anything was read before.
    pub(super) fn has_begun(&self) -> bool {
        self.begun == Begun::Yes
    }

    /// The time to ask for what is later than it: just before the last line's.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.last.and_then(|last| last.checked_sub(SignedDuration::from_nanos(1)).ok())
    }

    /// Whether `page` begins after what was shown last.
    pub(super) fn misses(&self, page: &LogPage) -> bool {
        let first = page.lines.first().and_then(time_of);
        matches!((self.last, first), (Some(last), Some(first)) if first > last)
    }

    /// The lines of `page` that have not been shown.
    pub(super) fn fresh<'p>(&self, page: &'p LogPage) -> impl Iterator<Item = &'p LogLine> {
        let last = self.last;
        let mut again = self.shown;
        page.lines.iter().filter(move |line| match (last, time_of(line)) {
            (Some(last), Some(time)) if time < last => false,
            (Some(last), Some(time)) if time == last && again > 0 => {
                again -= 1;
                false
            }
            _ => true,
        })
    }

    /// Notes that `page` has been shown.
    pub(super) fn advance(&mut self, page: &LogPage) {
        self.begun = Begun::Yes;
        let Some(time) = page.lines.iter().rev().find_map(time_of) else { return };
        let of_that_time = page.lines.iter().filter(|l| time_of(l) == Some(time)).count();
        match self.last {
            // A rotation may have taken some of them away: those shown stay shown.
            Some(last) if last == time => self.shown = self.shown.max(of_that_time),
            Some(last) if last > time => {}
            _ => {
                self.last = Some(time);
                self.shown = of_that_time;
            }
        }
    }
}

fn time_of(line: &LogLine) -> Option<Timestamp> {
    line.time.parse().ok()
}

/// Writes log lines, and joins the parts of long ones.
pub(super) struct Writer<'o, 'w> {
    output: &'o mut Output<'w>,
    form: Form,
    /// The stream whose line has not ended.
    open: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl<'o, 'w> Writer<'o, 'w> {
    /// As text.
    pub(super) fn new(output: &'o mut Output<'w>) -> Self {
        Self { output, form: Form::Text, open: None }
    }

    /// As one JSON object a line.
    pub(super) fn json(output: &'o mut Output<'w>) -> Self {
        Self { output, form: Form::Json, open: None }
    }

    /// One line, or a part of one.
    pub(super) fn line(&mut self, line: &LogLine) -> Result<(), CliError> {
        if self.form == Form::Json {
            return self.output.json_line(&json!(line));
        }
        if self.open.as_ref().is_some_and(|stream| *stream != line.stream) {
            self.end()?;
        }
        match self.output.screen() {
            Screen::Terminal => self.output.text(&clean_line(&line.text))?,
            Screen::Pipe => self.output.text(&line.text)?,
        }
        if line.partial {
            self.open = Some(line.stream.clone());
            return Ok(());
        }
        self.open = None;
        self.output.text("\n")
    }

    /// Ends a line that is still open.
    pub(super) fn end(&mut self) -> Result<(), CliError> {
        match self.open.take() {
            Some(_) => self.output.text("\n"),
            None => Ok(()),
        }
    }

    /// Hands over what is buffered.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u32, text: &str) -> LogLine {
        LogLine { time: format!("2026-01-01T00:00:{second:02}.5Z"), stream: "stdout".into(), text: text.into(), partial: false }
    }

    fn page(lines: &[LogLine]) -> LogPage {
        LogPage { lines: lines.to_vec(), truncated: false }
    }

    fn shown(cursor: &mut Cursor, page: &LogPage) -> Vec<String> {
        let texts = cursor.fresh(page).map(|l| l.text.clone()).collect();
        cursor.advance(page);
        texts
    }

    #[test]
    fn each_line_is_shown_once_also_where_times_are_equal() {
        let (a, b, c, d) = (line(1, "a"), line(2, "b"), line(2, "c"), line(3, "d"));
        let mut cursor = Cursor::default();
        assert_eq!(shown(&mut cursor, &page(&[a.clone(), b.clone()])), ["a", "b"]);
        assert_eq!(cursor.since().unwrap().to_string(), "2026-01-01T00:00:02.499999999Z");
        assert_eq!(shown(&mut cursor, &page(&[b.clone(), c.clone()])), ["c"]);
        assert_eq!(shown(&mut cursor, &page(&[b.clone(), c.clone()])), [""; 0]);
        assert_eq!(shown(&mut cursor, &page(&[])), [""; 0]);
        assert_eq!(shown(&mut cursor, &page(&[b, c, d])), ["d"]);
    }

    #[test]
    fn a_gap_is_noticed() {
        let mut cursor = Cursor::default();
        assert!(!cursor.misses(&page(&[line(1, "a")])));
        shown(&mut cursor, &page(&[line(1, "a")]));
        assert!(!cursor.misses(&page(&[line(1, "a"), line(2, "b")])));
        assert!(cursor.misses(&page(&[line(9, "z")])));
    }

    #[test]
    fn parts_are_joined_and_streams_kept_apart() {
        let part = |stream: &str, text: &str, partial| LogLine { time: String::new(), stream: stream.into(), text: text.into(), partial };
        let mut bytes = vec![];
        let mut output = Output::to(&mut bytes);
        let mut writer = Writer::new(&mut output);
        for line in [
            part("stdout", "a", true),
            part("stdout", "b", false),
            part("stdout", "c", true),
            part("stderr", "d", false),
            part("stdout", "e", true),
        ] {
            writer.line(&line).unwrap();
        }
        writer.end().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "ab\nc\nd\ne\n");
    }

    #[test]
    fn as_json_each_line_is_an_object() {
        let mut bytes = vec![];
        let mut output = Output::to(&mut bytes);
        Writer::json(&mut output).line(&line(1, "a")).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["text"], "a");
    }
}
