//! The text of a configuration.
//! Read `tests/it/fuzzed/configs.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/fuzzed/configs.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::bear(bytes));
