//! The facts that every sandbox must hold, each as an act that works outside and fails in `rbee-hive run`, by root and by an ordinary user.
//!
//! `scripts/peers` asks the same of other sandboxes.

use sandbox_tests::facts::{Bait, FACTS, Fact, Outcome, outcomes, script};
use sandbox_tests::runner::{BEYOND_AN_ORDINARY_USER, Runner};
use test_support::{require_root, skip};

/// Facts at least that are seen to be no fact outside.
const LEAST: usize = 40;

/// The acts that worked under `runner`, of those that work outside.
fn open(runner: Runner) -> Vec<&'static str> {
    let bait = Bait::lay();
    let script = script(&bait);
    let outside = outcomes(&Runner::Outside.run(&script, &bait.shared()));
    let printed = runner.run(&script, &bait.shared());
    let inside = outcomes(&printed);
    let untried = |n: usize| inside[n] == Outcome::Untried && outside[n] != Outcome::Untried;
    let missing: Vec<&str> = (0..FACTS.len()).filter(|n| untried(*n)).map(|n| FACTS[n].act).collect();
    assert!(missing.is_empty(), "not tried inside: {missing:?}\n{printed}");
    let proven = outside.iter().filter(|o| **o == Outcome::Open).count();
    assert!(proven >= LEAST, "only {proven} acts work outside: {outside:?}");
    let worked = |(fact, outcome): (&Fact, &Outcome)| (*outcome == Outcome::Open).then_some(fact.act);
    FACTS.iter().zip(&inside).filter_map(worked).collect()
}

#[test]
fn what_works_outside_fails_in_a_sandbox_of_root() {
    require_root!();
    assert_eq!(open(Runner::RbeeHive), Vec::<&str>::new());
}

#[test]
fn what_works_outside_fails_in_a_sandbox_of_an_ordinary_user() {
    require_root!();
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) || number("/proc/sys/user/max_user_namespaces") == Some(0) {
        skip!("unprivileged user namespaces");
    }
    let open: Vec<&str> = open(Runner::RbeeHiveNobody).into_iter().filter(|act| !BEYOND_AN_ORDINARY_USER.contains(act)).collect();
    assert_eq!(open, Vec::<&str>::new());
}
