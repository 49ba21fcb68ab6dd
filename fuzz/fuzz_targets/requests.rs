//! What a caller says on one connection, through a whole gateway.
//! Read `tests/it/fuzzed/requests.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/wellformed/caller.rs"]
mod caller;
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
#[path = "../../tests/it/fuzzed/requests.rs"]
mod target;

use std::sync::LazyLock;

static STAGE: LazyLock<target::Stage> = LazyLock::new(target::Stage::start);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| STAGE.bear(bytes));
