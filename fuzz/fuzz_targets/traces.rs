//! The field that says which trace a request belongs to.
//! Read `tests/it/fuzzed/traces.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/fuzzed/traces.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::bear(bytes));
