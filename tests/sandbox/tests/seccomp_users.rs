//! Every call that the shipped profile allows has a user who is named in `seccomp_users.toml`; what nobody is known to need is found here.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a file that is not as a test needs it ends the test")]

use std::collections::{BTreeMap, BTreeSet};

use toml::Table;

const PROFILE: &str = include_str!("../../../policies/seccomp/inference.toml");
const USERS: &str = include_str!("seccomp_users.toml");

/// The calls of every `[[kind]]` of a file.
fn calls(text: &str, kind: &str) -> BTreeSet<String> {
    let table: Table = text.parse().expect("TOML");
    let entries = table.get(kind).and_then(|v| v.as_array()).cloned().unwrap_or_default();
    let lists = entries.iter().filter_map(|e| e.get("calls")?.as_array().cloned()).flatten();
    lists.filter_map(|c| c.as_str().map(str::to_owned)).collect()
}

#[test]
fn no_call_is_allowed_without_a_user() {
    let allowed = calls(PROFILE, "allow");
    assert!(allowed.len() > 100, "the profile is not read");
    let kinds: BTreeMap<&str, BTreeSet<String>> = ["traced", "known"].map(|kind| (kind, calls(USERS, kind))).into();
    let named: BTreeSet<String> = kinds.values().flatten().cloned().collect();
    let without: Vec<_> = allowed.difference(&named).collect();
    assert!(without.is_empty(), "allowed, and no user is named in seccomp_users.toml: {without:?}");
    println!("{} allowed; {} seen in use", allowed.len(), allowed.intersection(&kinds["traced"]).count());
}

#[test]
fn what_is_seen_in_use_is_allowed_or_refused_with_an_errno() {
    let answered: BTreeSet<String> = calls(PROFILE, "allow").union(&calls(PROFILE, "refuse")).cloned().collect();
    let killed: Vec<_> = calls(USERS, "traced").difference(&answered).cloned().collect();
    assert!(killed.is_empty(), "a traced program would be killed for {killed:?}");
}

#[test]
fn no_user_is_named_for_a_call_that_is_not_allowed_and_each_call_stands_where_it_is_known_best() {
    let allowed = calls(PROFILE, "allow");
    let (traced, known) = (calls(USERS, "traced"), calls(USERS, "known"));
    let stale: Vec<_> = known.difference(&allowed).collect();
    assert!(stale.is_empty(), "[[known]] names what the profile does not allow: {stale:?}");
    let seen: Vec<_> = known.intersection(&traced).collect();
    assert!(seen.is_empty(), "[[known]] names what was seen in use: {seen:?}");
}
