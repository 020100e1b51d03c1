//! Faults by seed: `RBEE_CRASH_COUNT` of them, from `RBEE_CRASH_SEED`. The table is printed, and kept in `target/test/crash-table.txt`.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crash_tests::arena::Arena;
use crash_tests::fault::{Action, Fault};
use crash_tests::points::{POINTS, Point, Scene};
use crash_tests::random::Random;
use crash_tests::run::{Outcome, run};
use crash_tests::table::Table;
use test_support::{hive_binary, hive_with_fail_points, require_root, time_factor};

const SEED: u64 = 20_261_127;
/// Faults where nobody says how many: each step once, and as many again at random.
const COUNT: usize = 2 * POINTS.len();
/// Most steps of a hundred that may not be come to.
const NOT_REACHED_PERCENT: usize = 5;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Where the build puts what tests leave: beside the programs.
fn report() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this test");
    own.ancestors().nth(3).expect("the target directory").join("test")
}

#[test]
fn no_fault_at_any_step_loses_leaves_doubles_or_invents_anything() {
    require_root!();
    let seed = number("RBEE_CRASH_SEED").unwrap_or(SEED);
    let count =
        number("RBEE_CRASH_COUNT").and_then(|n| usize::try_from(n).ok()).unwrap_or(COUNT / usize::try_from(time_factor()).unwrap_or(1));
    let only = number("RBEE_CRASH_ONLY").and_then(|n| usize::try_from(n).ok());
    let mut random = Random::seeded(seed);
    let order = Fault::order(&mut random);
    let (mut table, mut arena) = (Table::default(), None);
    let begun = Instant::now();
    for at in 0..count {
        let fault = Fault::choose(&mut random, at, &order);
        let (bystanders, pause) = (1 + random.below(4), Duration::from_micros(random.below(20_000)));
        if only.is_some_and(|only| only != at) {
            continue;
        }
        let stage = arena.get_or_insert_with(|| Arena::open(usize::try_from(bystanders).unwrap_or(1)));
        let start = Instant::now();
        let outcome = run(stage, &fault, pause);
        if std::env::var_os("RBEE_CRASH_VERBOSE").is_some() || matches!(outcome, Outcome::Lost(_)) {
            println!("{at:>4} {:>5} ms {fault} {outcome:?}", start.elapsed().as_millis());
        }
        table.add(&fault, &outcome);
        // What one fault has left is not told of the next ones; and now and then the number of bystanders changes.
        if matches!(outcome, Outcome::Lost(_)) || at % 25 == 24 {
            arena = None;
        }
    }
    drop(arena);
    let text = format!("seed {seed}, {count} faults, {:.0} s\n{table}", begun.elapsed().as_secs_f64());
    println!("{text}");
    std::fs::create_dir_all(report()).expect("make the directory of the report");
    std::fs::write(report().join("crash-table.txt"), &text).expect("write the report");
    assert!(table.lost().is_empty(), "lost, with seed {seed}:\n{}", table.lost().join("\n"));
    let sum = table.sum();
    assert!(sum.not_reached * 100 <= count * NOT_REACHED_PERCENT, "{} of {count} steps were not come to", sum.not_reached);
}

#[test]
fn faults_are_listed_for_every_point_that_is_passed_and_every_listed_point_is_passed() {
    require_root!();
    let mut arena = Arena::open(1);
    arena.board.trace();
    let point = POINTS.iter().find(|p| p.name == "main_reaped").expect("a point");
    for scene in
        [Scene::Spawn, Scene::Stop, Scene::Kill, Scene::Exit, Scene::Delete, Scene::LoseHive, Scene::Adopt, Scene::Boot, Scene::Shutdown]
    {
        // No fault: there is no such time.
        let _ = run(&mut arena, &Fault { point, scene, action: Action::Delay(0), policy: "keeps", nth: 999, busy: false }, Duration::ZERO);
    }
    let passed: BTreeSet<String> = arena.board.hits().into_iter().map(|hit| hit.point).collect();
    drop(arena);
    let from_outside = |p: &&Point| p.name == "at any time";
    let listed: BTreeSet<String> = POINTS.iter().filter(|p| !from_outside(p)).map(|p| format!("{}.{}", p.process, p.name)).collect();
    let differ: Vec<_> = passed.symmetric_difference(&listed).collect();
    assert!(differ.is_empty(), "listed or passed, and not both: {differ:?}");
}

#[test]
fn the_hive_that_is_shipped_has_no_fail_points() {
    let has = |path: PathBuf, text: &str| {
        let program = std::fs::read(path).expect("read a program");
        program.windows(text.len()).any(|window| window == text.as_bytes())
    };
    for text in ["RBEE_FAIL_POINTS", "spawn.plan_written"] {
        assert!(has(hive_with_fail_points(), text), "{text}: this test looks for the wrong thing");
        assert!(!has(hive_binary(), text), "{text}");
    }
}
