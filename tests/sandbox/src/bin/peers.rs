//! Prints who holds what: the facts of the suite asked of rbee-hive, of bubblewrap and of crun.
//!
//! Ends with 1 when an act that works outside works in `rbee-hive run` as well, or in a peer that claims to prevent it: the one would be a
//! hole, the other a suite that is wrong or a peer that is broken. Ends with 77 when it cannot run here.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::process::ExitCode;

use sandbox_tests::facts::{Bait, Claim, FACTS, Fact, Outcome, outcomes, script};
use sandbox_tests::runner::{BEYOND_AN_ORDINARY_USER, Runner};

const PEERS: [Runner; 4] = [Runner::RbeeHive, Runner::RbeeHiveNobody, Runner::Bubblewrap, Runner::Crun];

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("needs root: crun and rbee-hive make cgroups and mounts");
        return ExitCode::from(77);
    }
    let bait = Bait::lay();
    let script = script(&bait);
    let (present, absent): (Vec<Runner>, Vec<Runner>) = PEERS.into_iter().partition(|r| r.missing().is_none());
    for runner in &absent {
        println!("needs {}: {} is left out", runner.missing().unwrap_or_default(), runner.name());
    }
    let ask = |runner: Runner| {
        let printed = runner.run(&script, &bait.shared());
        let found = outcomes(&printed);
        if found.iter().all(|o| *o == Outcome::Untried) {
            println!("{} did not run: {}", runner.name(), printed.trim());
            return None;
        }
        Some(found)
    };
    let outside = ask(Runner::Outside).unwrap_or_default();
    let number = present.len();
    let columns: Vec<(Runner, Vec<Outcome>)> = present.into_iter().filter_map(|r| Some((r, ask(r)?))).collect();
    if outside.is_empty() || columns.len() < number {
        return ExitCode::FAILURE;
    }
    let wrong = print_table(&outside, &columns);
    for line in &wrong {
        println!("{line}");
    }
    match (wrong.is_empty(), absent.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(77),
        (true, true) => ExitCode::SUCCESS,
    }
}

/// Prints it; gives what must not be.
fn print_table(outside: &[Outcome], columns: &[(Runner, Vec<Outcome>)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut held = vec![(0, 0); columns.len()];
    println!(
        "  {:<54} {:<8} {}",
        "an act that must fail inside",
        "outside",
        columns.iter().map(|c| format!("{:<17}", c.0.name())).collect::<String>()
    );
    for (number, fact) in FACTS.iter().enumerate() {
        let mut cells = String::new();
        for (column, (runner, found)) in columns.iter().enumerate() {
            let (claimed, outcome) = (claims(*runner, fact), found[number]);
            if outside[number] == Outcome::Open {
                held[column].1 += 1;
                held[column].0 += u32::from(outcome == Outcome::Held);
                if claimed && outcome != Outcome::Held {
                    wrong.push(format!("{}: \"{}\" is claimed to fail and does not", runner.name(), fact.act));
                }
            }
            let mark = if claimed { "" } else { " (no claim)" };
            cells.push_str(&format!("{:<17}", format!("{}{mark}", word(outcome, "fails", "WORKS"))));
        }
        println!("{} {:<54} {:<8} {}", fact.section, fact.act, word(outside[number], "fails", "works"), cells.trim_end());
    }
    for ((runner, _), (held, of)) in columns.iter().zip(&held) {
        println!("{}: {held} of {of} acts that work outside fail inside", runner.name());
    }
    wrong
}

fn word(outcome: Outcome, held: &'static str, open: &'static str) -> &'static str {
    match outcome {
        Outcome::Held => held,
        Outcome::Open => open,
        Outcome::Untried => "untried",
    }
}

fn claims(runner: Runner, fact: &Fact) -> bool {
    match runner {
        Runner::Outside => false,
        Runner::RbeeHive => true,
        Runner::RbeeHiveNobody => !BEYOND_AN_ORDINARY_USER.contains(&fact.act),
        Runner::Bubblewrap => matches!(fact.claimed_by, Claim::Both | Claim::Bubblewrap),
        Runner::Crun => matches!(fact.claimed_by, Claim::Both | Claim::Crun),
    }
}
