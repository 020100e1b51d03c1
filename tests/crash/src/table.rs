//! The table of faults: injected, survived, lost, by process and step.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::{Action, Fault};
use crate::points::Process;
use crate::run::Outcome;

/// Counts of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Faults that happened.
    pub injected: usize,
    /// After which all was as it should be.
    pub survived: usize,
    /// After which it was not.
    pub lost: usize,
    /// That never happened, because the step was not come to.
    pub not_reached: usize,
}

/// What was injected, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<(Process, &'static str, &'static str), Row>,
    lost: Vec<String>,
}

impl Table {
    /// Takes a fault up.
    pub fn add(&mut self, fault: &Fault, outcome: &Outcome) {
        let what = match fault.action {
            Action::Kill => "killed",
            Action::Fail(_) => "error",
            Action::Delay(_) => "delay",
        };
        let row = self.rows.entry((fault.point.process, fault.point.name, what)).or_default();
        match outcome {
            Outcome::NotReached => row.not_reached += 1,
            Outcome::Survived => {
                row.injected += 1;
                row.survived += 1;
            }
            Outcome::Lost(why) => {
                row.injected += 1;
                row.lost += 1;
                self.lost.push(format!("{fault}\n    {}", why.join("\n    ")));
            }
        }
    }

    /// All rows together.
    pub fn sum(&self) -> Row {
        self.rows.values().fold(Row::default(), |sum, row| sum.plus(row))
    }

    /// What was lost, and by which fault.
    pub fn lost(&self) -> &[String] {
        &self.lost
    }
}

impl Row {
    fn plus(self, other: &Self) -> Self {
        Self {
            injected: self.injected + other.injected,
            survived: self.survived + other.survived,
            lost: self.lost + other.lost,
            not_reached: self.not_reached + other.not_reached,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |out: &mut fmt::Formatter<'_>, (process, step, what): (&str, &str, &str), row: &Row| {
            let Row { injected, survived, lost, not_reached } = row;
            writeln!(out, "{process:<9} {step:<31} {what:<7} {injected:>8} {survived:>8} {lost:>5} {not_reached:>11}")
        };
        writeln!(
            out,
            "{:<9} {:<31} {:<7} {:>8} {:>8} {:>5} {:>11}",
            "process", "step", "fault", "injected", "survived", "lost", "not reached"
        )?;
        let mut of_process: BTreeMap<Process, Row> = BTreeMap::new();
        for ((process, step, what), row) in &self.rows {
            line(out, (&process.to_string(), step, what), row)?;
            let sum = of_process.entry(*process).or_default();
            *sum = sum.plus(row);
        }
        for (process, row) in &of_process {
            line(out, (&process.to_string(), "all steps", ""), row)?;
        }
        line(out, ("all", "", ""), &self.sum())
    }
}
