//! What somebody can make the gateway say who writes to its store, where records are not sealed.

use bytes::Bytes;
use onceway::protocol::record::{Phase, Record, Seen, Settled, UnixMillis};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use onceway::store::{Store as _, Swapped};

use crate::harness::{Ask, Gateway, GatewayPlan, Upstream, get, post};
use crate::records::{LONG, after};
use crate::servers::redis::RedisServer;

/// A gateway that asks its store each time, and that store.
struct Site {
    redis: RedisServer,
    gateway: Gateway,
    upstream: Upstream,
}

impl Site {
    fn new() -> Self {
        let (redis, upstream) = (RedisServer::start(), Upstream::of_payments());
        let plan = GatewayPlan::before(&upstream).store(&redis.url()).store_line("local_cache = \"0\"");
        Self { gateway: plan.start(), redis, upstream }
    }

    /// Executes a request, and writes `phase` into its record.
    fn plant(&self, key: &str, phase: Phase) -> Ask {
        let names = || self.redis.ask::<Vec<String>>("KEYS onceway:r:*").unwrap();
        let before = names();
        let ask = post("/payments").key(key);
        assert_eq!(self.gateway.ask(&ask).word().as_deref(), Some("executed"));
        let name = names().into_iter().find(|name| !before.contains(name)).unwrap();
        let digits = name.trim_start_matches("onceway:r:{").trim_end_matches('}');
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect();
        let place = StorageKey::from_bytes(bytes.try_into().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = self.redis.store().await;
            let Seen::Record(found) = store.fetch(&place).await.unwrap() else { panic!("no record") };
            let planted: Record = after(&found, phase);
            let swapped = store.swap(&place, found.version, &planted, LONG).await.unwrap();
            assert_eq!(swapped, Swapped::Done);
        });
        ask
    }
}

fn head(status: u16, lines: &[(&str, &str)]) -> SavedHead {
    let line = |(name, value): &(&str, &str)| ((*name).to_owned(), Bytes::from((*value).to_owned()));
    SavedHead { status, headers: lines.iter().map(line).collect() }
}

fn settled() -> Settled {
    Settled { at: UnixMillis(1_700_000_000_000), keep_for: LONG }
}

fn done(head: SavedHead, trailers: &[(&str, &str)]) -> Phase {
    let trailers = self::head(200, trailers).headers;
    let body = Bytes::from_static(b"okHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL");
    Phase::Done { saved: SavedResponse { head, body, trailers }, settled: settled() }
}

#[test]
fn a_planted_record_that_the_gateway_would_never_have_kept_is_unknown_and_never_said() {
    let site = Site::new();
    let many: Vec<(String, &str)> = (0..40_000).map(|at| (format!("x-{at}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let planted = [
        ("a length that is too short", done(head(200, &[("content-length", "2")]), &[])),
        ("a length that is too long", done(head(200, &[("content-length", "2000")]), &[])),
        ("a coding", done(head(200, &[("transfer-encoding", "chunked")]), &[])),
        ("a connection option", done(head(200, &[("connection", "close")]), &[])),
        ("a change of protocol", done(head(101, &[("upgrade", "h2c")]), &[])),
        ("an interim status", done(head(100, &[]), &[])),
        ("a status that is none", done(head(20, &[]), &[])),
        ("a value of two lines", done(head(200, &[("x-a", "b\r\nset-cookie: evil=1")]), &[])),
        ("a name of two lines", done(head(200, &[("x-a: b\r\nset-cookie", "evil=1")]), &[])),
        ("the gateway's own word", done(head(200, &[("idempotency-status", "executed")]), &[])),
        ("a name that is not as it is kept", done(head(200, &[("X-A", "b")]), &[])),
        ("a trailer that frames", done(head(200, &[]), &[("content-length", "9")])),
        ("a trailer of two lines", done(head(200, &[]), &[("x-a", "b\r\nc: d")])),
        ("more fields than fit", done(head(200, &many), &[])),
        (
            "a head without its body, of two lines",
            Phase::DoneWithoutBody { head: head(201, &[("location", "/\r\nx: y")]), settled: settled() },
        ),
    ];
    for (number, (what, phase)) in planted.into_iter().enumerate() {
        let ask = site.plant(&format!("k{number}"), phase);
        let mut client = site.gateway.client();
        let told = client.send(&ask).read();
        assert_eq!(told.problem(), (409, "outcome-unknown".into()), "{what}: {}", told.shown());
        // The connection is still in step: what comes next is the answer to what is asked next.
        let next = client.send(&get("/elsewhere")).read();
        assert!(next.text().starts_with("payment "), "{what}: {}", next.shown());
    }
    assert_eq!(site.upstream.executions_of("k0"), 1);
}

#[test]
fn a_planted_record_of_the_usual_form_is_believed_where_records_are_not_sealed() {
    let site = Site::new();
    let saved = head(202, &[("content-type", "text/plain"), ("set-cookie", "a=1"), ("date", "x")]);
    let told = site.gateway.ask(&site.plant("k", done(saved, &[("x-sum", "1")])));
    assert_eq!((told.status, told.word().as_deref()), (202, Some("replayed")));
    assert_eq!(told.header("set-cookie").as_deref(), Some("a=1"));
}
