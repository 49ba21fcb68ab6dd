//! What stands in a store.
//! Read `tests/it/fuzzed/records.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/fuzzed/records.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::bear(bytes));
