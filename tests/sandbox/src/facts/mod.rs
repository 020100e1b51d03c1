//! Facts that must hold of any sandbox, written once and asked of several: each is an act that works outside and fails inside.
//!
//! Owns: the acts, and what came of them. Must never know: how a sandbox is made ([`crate::runner`]).

mod bait;
mod list;

use std::collections::BTreeMap;

pub use bait::{Bait, make_segment};
pub use list::FACTS;

/// An act, and who says that it prevents it.
#[derive(Debug)]
pub struct Fact {
    /// The section of the list of facts.
    pub section: char,
    /// What must not be possible.
    pub act: &'static str,
    /// A shell script that succeeds when it was possible; 77: it could not be tried. `{word}` is bait.
    pub script: &'static str,
    /// Sandboxes other than ours that claim it.
    pub claimed_by: Claim,
}

/// Peers that claim a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// bubblewrap and crun.
    Both,
    /// bubblewrap.
    Bubblewrap,
    /// crun.
    Crun,
    /// Neither: the caller has to see to it.
    Neither,
}

/// What came of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It worked.
    Open,
    /// It failed.
    Held,
    /// It could not be tried.
    Untried,
}

/// All acts as one script, which prints `FACT number status` of each.
pub fn script(bait: &Bait) -> String {
    let mut text = String::from("exec 2>/dev/null\n");
    for (number, fact) in FACTS.iter().enumerate() {
        let act = bait.fill(fact.script);
        // In a shell of its own: what it changes of itself, or dies of, is over with it.
        text.push_str(&format!("( {act}\n) >/dev/null </dev/null\necho FACT {number} $?\n"));
    }
    text
}

/// Reads what such a script printed; an act without a line was not tried.
pub fn outcomes(printed: &str) -> Vec<Outcome> {
    let lines = printed.lines().filter_map(|line| {
        let mut words = line.strip_prefix("FACT ")?.split(' ');
        Some((words.next()?.parse::<usize>().ok()?, words.next()?.parse::<i32>().ok()?))
    });
    let found: BTreeMap<usize, i32> = lines.collect();
    let outcome = |number| match found.get(&number) {
        Some(0) => Outcome::Open,
        Some(77) | None => Outcome::Untried,
        Some(_) => Outcome::Held,
    };
    (0..FACTS.len()).map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_without_a_line_was_not_tried() {
        let found = outcomes("noise\nFACT 0 0\nFACT 1 1\nFACT 2 77\n");
        assert_eq!(found[..4], [Outcome::Open, Outcome::Held, Outcome::Untried, Outcome::Untried]);
        assert_eq!(found.len(), FACTS.len());
    }
}
