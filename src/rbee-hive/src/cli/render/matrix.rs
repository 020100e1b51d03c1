//! A square of short words, in blocks that fit a terminal.

use crate::cli::output::shorten;

/// Columns of one block: a name and eight words of nine characters are 80.
const BLOCK: usize = 8;
/// Columns altogether; a square of more is read by no person.
const MAX: usize = 32;

/// What `cell` says of each (row, column), a dash where it says nothing.
pub(super) fn matrix(names: &[&str], cell: impl Fn(usize, usize) -> Option<String>) -> String {
    let shown = names.len().min(MAX);
    let columns: Vec<usize> = (0..shown).collect();
    let mut text = String::new();
    for block in columns.chunks(BLOCK) {
        let line = |name: &str, words: Vec<String>| {
            let words: String = words.iter().map(|w| format!("{:>9}", shorten(w, 8))).collect();
            format!("{:<8}{words}\n", shorten(name, 8))
        };
        text.push_str(&line("", block.iter().map(|c| names[*c].to_owned()).collect()));
        for row in &columns {
            let word = |column: &usize| cell(*row, *column).unwrap_or_else(|| "-".to_owned());
            text.push_str(&line(names[*row], block.iter().map(word).collect()));
        }
    }
    if names.len() > MAX {
        text.push_str(&format!("and {} more: --json has them all\n", names.len() - MAX));
    }
    text
}
