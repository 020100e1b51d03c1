//! Tables for people: columns side by side, no lines, no colour.

use comfy_table::{CellAlignment, Table};

/// On which side a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// A table with `columns`, each line indented by `indent` blanks; cells must be clean already. Empty without rows.
pub(crate) fn table(columns: &[(&str, Align)], rows: Vec<Vec<String>>, indent: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.iter().map(|(name, _)| name.to_uppercase()));
    table.add_rows(rows);
    for (index, (_, align)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if *align == Align::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let blank = " ".repeat(indent);
    table.lines().map(|line| format!("{blank}{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_names_without_colour() {
        let text = table(
            &[("id", Align::Left), ("pid", Align::Right)],
            vec![vec!["w1".into(), "7".into()], vec!["long".into(), "4242".into()]],
            2,
        );
        assert_eq!(text, "  ID     PID\n  w1       7\n  long  4242\n");
    }

    #[test]
    fn no_rows_are_no_text() {
        assert_eq!(table(&[("id", Align::Left)], vec![], 0), "");
    }
}
