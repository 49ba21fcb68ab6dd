//! A line of the key's field.
//! Read `tests/it/fuzzed/keys.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/fuzzed/keys.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::bear(bytes));
