//! Foreign text made harmless.
//!
//! A worker is not trusted, and what it prints reaches an operator's terminal, where escape sequences rename windows, paint over
//! lines and, in some, type commands.

/// One line without control characters, each replaced by U+FFFD; line feeds and tabs become blanks.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { harmless(c) }).collect()
}

/// The same with tabs kept, for log lines.
pub(crate) fn clean_line(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { c } else { harmless(c) }).collect()
}

fn harmless(c: char) -> char {
    // Besides C0 and C1 the marks that reorder text (Unicode's Bidi_Control): they make a line read other than it is.
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || reorders { '\u{fffd}' } else { c }
}

/// `text` cleaned and cut to `width` characters, with an ellipsis where something is missing.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(clean("a\u{1b}[2J\tb\nc\u{9b}d\u{7f}"), "a\u{fffd}[2J b c\u{fffd}d\u{fffd}");
        assert_eq!(clean("invoice\u{202e}txt.exe"), "invoice\u{fffd}txt.exe");
        assert_eq!(clean_line("a\tb\r"), "a\tb\u{fffd}");
        assert_eq!(clean("grün 模型"), "grün 模型");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdefg", 6), "abcde…");
    }
}
