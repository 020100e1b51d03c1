//! The lines of all keys and list entries of one text.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Paths with their lines. Empty for a text that is no TOML: whoever parses it says so.
pub(super) fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut scan = Scan { line: &|offset| starts.partition_point(|start| *start <= offset), found: &mut found };
        scan.walk_table("", table.get_ref());
    }
    found
}

struct Scan<'s> {
    line: &'s dyn Fn(usize) -> usize,
    found: &'s mut BTreeMap<String, usize>,
}

impl Scan<'_> {
    fn walk_table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            self.found.insert(path.clone(), (self.line)(key.span().start));
            self.walk_value(&path, value);
        }
    }

    // Nesting is bounded by the TOML parser's own limit.
    fn walk_value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.walk_table(path, table),
            DeValue::Array(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.found.insert(path.clone(), (self.line)(entry.span().start));
                    self.walk_value(&path, entry);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_a_key_has_its_line() {
        let text = "include = [\n  \"x\",\n  \"y\",\n]\nnetwork.mode = \"host\"\n\n[limits]\ncpus = 1.0 # why\nmemory_max = { value = \"1GiB\",\n  enforce = \"required\" }\n";
        let lines = lines(text);
        let line = |path: &str| lines.get(path).copied();
        assert_eq!([line("include"), line("include[0]"), line("include[1]")], [Some(1), Some(2), Some(3)]);
        assert_eq!((line("network.mode"), line("limits.cpus"), line("limits.memory_max")), (Some(5), Some(8), Some(9)));
        assert_eq!(line("limits.memory_max.enforce"), Some(10));
    }

    #[test]
    fn an_entry_of_a_list_of_tables_is_where_its_header_is() {
        let lines = lines("[[allow]]\nreason = \"a\"\n\n[[allow]]\nreason = \"b\"\n");
        assert_eq!((lines["allow[0]"], lines["allow[1]"], lines["allow[1].reason"]), (1, 4, 5));
    }

    #[test]
    fn what_is_no_toml_has_no_lines() {
        assert!(lines("[a\n").is_empty());
    }
}
