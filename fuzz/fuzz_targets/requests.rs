//! Bytes are what a caller says on one connection: the upstream gets only what came from exactly one well-formed
//! request each, in order, and nothing panics.
//!
//! The whole gateway runs in this process, started as `onceway serve` starts it, with a store in memory; callers and
//! the upstream are on loopback sockets. So the fuzzer sees the coverage of hyper and of every room at once, no
//! private room has to be opened for it, and what it finds is what a caller could do.
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

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use libfuzzer_sys::fuzz_target;

use origin::Origin;

struct Place {
    origin: Origin,
    gateway: SocketAddr,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let origin = Origin::start();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\nforwarded = \"replace\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"memory:\"\n\
         [upstreams.default]\nurl = \"{}\"\n[[routes]]\npath = \"/guarded\"\n",
        origin.url()
    );
    // A task's panic is caught by the runtime; here it ends the run, as an input that was found.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
    let file = std::env::temp_dir().join(format!("onceway-fuzz-{}.toml", std::process::id()));
    std::fs::write(&file, text).expect("a temporary file");
    let config = onceway::config::load(&file).expect("the configuration above");
    std::fs::remove_file(&file).ok();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let running = runtime.block_on(onceway::gateway::start(config)).expect("a gateway");
    let gateway = running.listen_addr();
    // Both live for as long as the process.
    Box::leak(Box::new((runtime, running)));
    Place { origin, gateway }
});

static NEXT: AtomicU32 = AtomicU32::new(0);

// The first byte says where the bytes are split into two writes.
fuzz_target!(|bytes: &[u8]| {
    let Some((split, bytes)) = bytes.split_first() else { return };
    let from = caller::address(NEXT.fetch_add(1, Ordering::Relaxed));
    caller::say(PLACE.gateway, from, bytes, usize::from(*split));
    for caller in [from.to_string(), String::new()] {
        if let Some(objection) = oracle::objection(bytes, &PLACE.origin.take_from(&caller)) {
            panic!("{objection}");
        }
    }
});
