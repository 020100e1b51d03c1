//! The target `seccomp_profile` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_tests::run("seccomp_profile", data));
