//! One text, one line: escapes what would start a new line or steer a terminal, and bounds the length.
//!
//! Owns the list of characters that are never sent as they are. Must never know where the text comes from.

use std::borrow::Cow;

/// Longest text of an event or an error, in bytes; a longer one is cut and ends in [`CUT_MARK`].
pub(crate) const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Longest line of a stream, in bytes: the longest text and the names before it.
pub(crate) const MAX_LINE_BYTES: usize = MAX_TEXT_BYTES + 256;

/// Stands at the end of a text that was cut.
const CUT_MARK: &str = "…";

/// `text` with its control characters escaped as Rust writes them (`\n`, `\u{1b}`).
///
/// A backslash stays as it is, so that escaping twice changes nothing.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            // Not `escape_debug`: it leaves some of the characters below as they are.
            match character {
                '\n' | '\r' | '\t' => safe.extend(character.escape_default()),
                other => safe.extend(other.escape_unicode()),
            }
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// `text` cut to `bound` bytes, at a character's edge.
///
/// Cut only what is already redacted: half a secret matches no rule.
pub(crate) fn cut(mut text: String, bound: usize) -> String {
    if text.len() <= bound {
        return text;
    }
    text.truncate(text.floor_char_boundary(bound.saturating_sub(CUT_MARK.len())));
    text.push_str(CUT_MARK);
    text
}

/// Whether a character is a control, a line separator, or one that reorders what a terminal shows.
fn is_unsafe(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{CUT_MARK, MAX_TEXT_BYTES, cut, escaped, is_unsafe};
    use proptest::prelude::*;

    #[test]
    fn controls_are_escaped() {
        assert_eq!(escaped("a\nb\r\tc\0\u{1b}[31m"), r"a\nb\r\tc\u{0}\u{1b}[31m");
        assert_eq!(escaped("\u{85}\u{2028}\u{2029}"), r"\u{85}\u{2028}\u{2029}");
    }

    #[test]
    fn bidirectional_overrides_are_escaped() {
        assert_eq!(escaped("a\u{202e}b\u{2066}"), r"a\u{202e}b\u{2066}");
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(escaped(r"Größe 2 GiB \n 🐝"), r"Größe 2 GiB \n 🐝");
    }

    #[test]
    fn a_text_at_the_bound_is_whole_and_one_byte_more_is_cut() {
        let whole = "x".repeat(MAX_TEXT_BYTES);
        assert_eq!(cut(whole.clone(), MAX_TEXT_BYTES), whole);
        let short = cut("x".repeat(MAX_TEXT_BYTES + 1), MAX_TEXT_BYTES);
        assert!(short.ends_with(CUT_MARK));
        assert_eq!(short.len(), MAX_TEXT_BYTES);
    }

    #[test]
    fn a_cut_falls_between_characters() {
        for shift in 0..4 {
            let short = cut("x".repeat(shift) + &"🐝".repeat(MAX_TEXT_BYTES), MAX_TEXT_BYTES);
            assert!(short.ends_with(CUT_MARK) && short.len() <= MAX_TEXT_BYTES);
        }
    }

    proptest! {
        #[test]
        fn the_result_is_one_line_and_escaping_again_changes_nothing(text in any::<String>()) {
            let once = escaped(&text).into_owned();
            prop_assert!(!once.contains(is_unsafe));
            prop_assert_eq!(escaped(&once).into_owned(), once);
        }
    }
}
