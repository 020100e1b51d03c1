//! The target `launcher` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_tests::run("launcher", data));
