//! What stands before a connection as its PROXY header, through a whole gateway.
//! Read `tests/it/fuzzed/proxied.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/wellformed/grammar.rs"]
mod grammar;
#[path = "../../tests/it/wellformed/oracle.rs"]
mod oracle;
#[path = "../../tests/it/wellformed/origin.rs"]
mod origin;
#[path = "../../tests/it/fuzzed/place.rs"]
mod place;
#[path = "../../tests/smuggling/message.rs"]
mod message;
#[path = "../../tests/it/fuzzed/proxied.rs"]
mod target;

use std::sync::LazyLock;

static STAGE: LazyLock<target::Stage> = LazyLock::new(target::Stage::start);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| STAGE.bear(bytes));
