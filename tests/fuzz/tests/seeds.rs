//! The fuzzer's seeds, as they are and with some bytes changed, with every run of the suite: no fuzzer is needed for that.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz_tests::{TARGETS, run};
use proptest::prelude::*;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

/// A target's seeds: its own, and for policies the shipped ones.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    files(&here.join("seeds").join(target), &mut found);
    match target {
        "policy" => files(&here.join("../../policies"), &mut found),
        "seccomp_profile" => files(&here.join("../../policies/seccomp"), &mut found),
        _ => {}
    }
    found.sort();
    found.into_iter().map(|path| (path.clone(), fs::read(path).unwrap_or_default())).collect()
}

#[test]
fn every_target_has_seeds_and_a_file_for_the_fuzzer() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/fuzz_targets");
    let mut files: Vec<String> =
        fs::read_dir(here).unwrap().map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let mut names: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
    for (name, _) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 3, "{name} has {} seeds", seeds.len());
        assert!(seeds.iter().all(|(_, seed)| (1..=16 * 1024).contains(&seed.len())), "{name}: a seed is small");
    }
}

#[test]
fn no_seed_is_a_finding() {
    for (name, target) in TARGETS {
        for (path, seed) in seeds(name) {
            println!("{name}: {}", path.display());
            target(&seed);
        }
    }
}

/// One change to a text: a byte set, a stretch taken out, or one doubled.
fn change(text: &mut Vec<u8>, (kind, at, length, byte): (u8, usize, usize, u8)) {
    let at = at % (text.len() + 1);
    let end = (at + length).min(text.len());
    match kind {
        0 if at < text.len() => text[at] = byte,
        1 => drop(text.drain(at..end)),
        2 => {
            let doubled = text[at..end].to_vec();
            text.splice(at..at, doubled);
        }
        _ => text.insert(at, byte),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_seed_is_no_finding(which in any::<prop::sample::Index>(), changes in prop::collection::vec((0u8..4, any::<usize>(), 1usize..64, any::<u8>()), 1..6)) {
        for (name, _) in TARGETS {
            let seeds = seeds(name);
            let mut text = which.get(&seeds).1.clone();
            changes.iter().for_each(|one| change(&mut text, *one));
            run(name, &text);
        }
    }
}
