//! Everything that reads what others wrote, each as a function over bytes that must come to an end and must not panic.
//!
//! ```text
//!  seeds/TARGET/*  ──►  tests/seeds.rs   each seed, and seeds with a few bytes changed: with every `cargo test`
//!                  ──►  libfuzzer/       the same functions under cargo-fuzz: scripts/fuzz
//! ```
//! A function here also asserts what must hold of whatever was read. Must never know: who calls it.
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::expect_used, reason = "a finding is a panic: that is how a fuzzer hears of it")]

mod kernel_text;
mod launcher;
mod policy;
mod rpc;
mod units;

// The hive is a program, and no library: its front is read from where it is.
#[path = "../../../src/rbee-hive/src/json.rs"]
mod json;
#[path = "../../../src/rbee-hive/src/params/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the hive uses all of it")]
mod params;

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; `libfuzzer/fuzz_targets` has one file for each.
pub const TARGETS: &[Target] = &[
    ("policy", policy::policy),
    ("seccomp_profile", policy::seccomp_profile),
    ("rpc", rpc::rpc),
    ("launcher", launcher::launcher),
    ("kernel_text", kernel_text::kernel_text),
    ("units", units::units),
];

/// Runs the target `name`.
///
/// # Panics
/// When it finds something, or there is none of that name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(data);
}

/// Text in two parts, parted by a NUL; the second one may be missing.
fn two_texts(data: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(data).ok()?;
    Some(text.split_once('\0').unwrap_or((text, "")))
}
