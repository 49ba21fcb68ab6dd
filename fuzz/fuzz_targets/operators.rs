//! What an operator says of an unknown outcome, through a whole gateway.
//! Read `tests/it/fuzzed/operators.rs` for what must hold.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/fuzzed/place.rs"]
mod place;
#[path = "../../tests/smuggling/message.rs"]
mod message;
#[path = "../../tests/it/fuzzed/operators.rs"]
mod target;

use std::sync::LazyLock;

static STAGE: LazyLock<target::Stage> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("onceway-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    target::Stage::start(&folder)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| STAGE.bear(bytes));
