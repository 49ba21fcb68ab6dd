//! A path and the steps by which a server reads it.
//! Read `tests/it/fuzzed/paths.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/spellings/readers.rs"]
mod readers;
#[path = "../../tests/it/spellings/site.rs"]
mod site;
#[path = "../../tests/it/spellings/sites.rs"]
mod sites;
#[path = "../../tests/it/spellings/steps.rs"]
mod steps;
#[path = "../../tests/it/fuzzed/paths.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::bear(bytes));
