//! The upstream never gets a request that did not come from exactly one well-formed one.
//!
//! `mutate.rs` makes bytes, `caller.rs` says them, `origin.rs` takes what the gateway makes of them, and `oracle.rs`
//! compares the two by the grammar of `grammar.rs`. `scripts/fuzz` does the same for as long as one likes, with
//! bytes that look for new ways through the gateway.

pub(crate) mod caller;
pub(crate) mod grammar;
pub(crate) mod mutate;
pub(crate) mod oracle;
pub(crate) mod origin;

use std::sync::atomic::{AtomicU32, Ordering};

use fastrand::Rng;

use crate::harness::{Gateway, GatewayPlan};
use crate::spellings::{number, seeded};
use oracle::Got;
use origin::Origin;

/// Connections, unless the environment's `CONNECTIONS` says otherwise.
const CONNECTIONS: u32 = 3_000;

/// Callers at a time.
const CALLERS: u32 = 4;

fn gateway_before(origin: &Origin) -> Gateway {
    GatewayPlan::before_url(&origin.url())
        .without_routes()
        .route("/guarded", "")
        .server("forwarded = \"replace\"")
        .server("threads = 2")
        .logged("warn,onceway::gateway=info")
        .start()
}

/// What reaches the upstream when a caller sends `bytes`.
fn got_of(bytes: &[u8]) -> Vec<Got> {
    let origin = Origin::start();
    let gateway = gateway_before(&origin);
    caller::say(gateway.listen_addr(), caller::address(1), bytes, bytes.len());
    drop(gateway);
    origin.into_all().into_values().flatten().collect()
}

#[test]
fn the_upstream_gets_only_what_came_from_exactly_one_well_formed_request() {
    let (origin, seed) = (Origin::start(), seeded().u64(..));
    let gateway = gateway_before(&origin);
    let (next, listen) = (AtomicU32::new(0), gateway.listen_addr());
    let connections = number("CONNECTIONS").unwrap_or(CONNECTIONS);
    let sent_by = |number: u32| {
        let mut random = Rng::with_seed(seed.wrapping_add(number.into()));
        (mutate::bytes(&mut random, &number.to_string()), random.usize(..200))
    };
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while let number @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && number < connections
                {
                    let (bytes, split) = sent_by(number);
                    caller::say(listen, caller::address(number), &bytes, split);
                }
            });
        }
    });
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    drop(gateway);
    let got = origin.into_all();
    let strangers = got.get("").map(|got| format!("{got:?} from nobody"));
    let objections = (0..connections).filter_map(|number| {
        let got = got.get(&caller::address(number).to_string())?;
        oracle::objection(&sent_by(number).0, got)
    });
    let objections: Vec<_> = strangers.into_iter().chain(objections).collect();
    assert!(
        objections.is_empty(),
        "{} objections\n{}",
        objections.len(),
        objections[..objections.len().min(400)].join("\n\n")
    );
}

/// Nothing of these reaches the upstream.
fn expect_nothing_of(cases: &[&str]) {
    for case in cases {
        let got = got_of(case.as_bytes());
        assert!(got.is_empty(), "{case:?} became {got:?}");
    }
}

#[test]
fn a_head_with_a_bare_line_feed_goes_nowhere() {
    expect_nothing_of(&[
        "POST /guarded HTTP/1.1\r\nHost: h\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\nok",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\nhello",
        "\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    ]);
}

#[test]
fn an_absolute_target_does_not_hide_a_wrong_host() {
    expect_nothing_of(&[
        "GET http://h/a HTTP/1.1\r\nAccept: */*\r\n\r\n",
        "GET http://h/a HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n",
        "GET http://h/a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "GET http://h/a HTTP/1.1\r\nHost: h@x\r\n\r\n",
    ]);
}

#[test]
fn a_foreign_byte_in_connection_does_not_hide_its_options() {
    let bytes = "DELETE /a HTTP/1.1\r\nHost: h\r\nConnection: close,\u{e9} x-named\r\nX-Named: y\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let got = got_of(bytes.as_bytes());
    assert!(oracle::objection(bytes.as_bytes(), &got).is_none(), "{got:?}");
}
