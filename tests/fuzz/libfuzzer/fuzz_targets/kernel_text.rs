//! The target `kernel_text` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_tests::run("kernel_text", data));
