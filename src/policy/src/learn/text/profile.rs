//! The profile's file.

use std::fmt::Write as _;

use super::super::Watched;
use super::words::{comment, list, quoted};
use crate::seccomp::{Allow, Condition, Refuse};

pub(in crate::learn) fn profile(watched: &Watched<'_>, allowed: &[Allow], refused: &[Refuse]) -> String {
    let mut text = format!(
        "# Proposed by `rbee-hive policy learn`. What stands nowhere here was not called while learning, and is a violation.\n\n\
         description = {}\n",
        quoted(&format!("learned from {}", comment(&watched.command.join(" "))))
    );
    for entry in allowed {
        let _ = write!(text, "\n[[allow]]\nreason = {}\ncalls = {}\n", quoted(&entry.reason), list(&entry.calls));
    }
    for entry in refused {
        let _ = write!(text, "\n[[refuse]]\nreason = {}\ncalls = {}\n", quoted(&entry.reason), list(&entry.calls));
        let errno = format!("{:?}", entry.errno).to_uppercase();
        let _ = writeln!(text, "errno = {}", quoted(&errno));
        if !entry.when.is_empty() {
            let conditions: Vec<String> = entry.when.iter().map(condition).collect();
            let _ = writeln!(text, "when = [{}]", conditions.join(", "));
        }
        if let Some(capability) = &entry.unless_capability {
            let _ = writeln!(text, "unless_capability = {}", quoted(capability));
        }
    }
    text
}

fn condition(condition: &Condition) -> String {
    let numbers = |all: &[u32]| all.iter().map(|n| format!("{n:#x}")).collect::<Vec<_>>().join(", ");
    let mut parts = vec![format!("arg = {}", condition.arg)];
    parts.extend(condition.mask.map(|mask| format!("mask = {mask:#x}")));
    parts.extend(condition.any_bit.map(|bits| format!("any_bit = {bits:#x}")));
    for (name, values) in [("is", &condition.is), ("is_not", &condition.is_not)] {
        if !values.is_empty() {
            parts.push(format!("{name} = [{}]", numbers(values)));
        }
    }
    format!("{{ {} }}", parts.join(", "))
}
