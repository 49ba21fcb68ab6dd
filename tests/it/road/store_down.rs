//! The store is down, slow, full, or comes back.

use std::time::Duration;

use onceway::clock;

use crate::harness::{Gate, GatewayPlan, Reply, Unlistened, Upstream, get, post, until};
use crate::servers::redis::RedisServer;

fn on(redis: &RedisServer, upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).store(&redis.url()).store_line("timeout = \"300ms\"")
}

#[test]
fn a_gateway_starts_without_its_store_and_refuses_only_what_it_has_to_protect() {
    let nobody = Unlistened::port();
    let upstream = Upstream::of_payments();
    let url = nobody.url().replace("http://", "redis://");
    let gateway = GatewayPlan::before(&upstream).store(&url).launch();
    assert_eq!(gateway.readiness().status, 503);
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (503, "store-unavailable".into()));
    assert_eq!(gateway.ask(&post("/payments")).text(), "payment 1");
    assert_eq!(gateway.ask(&get("/elsewhere")).text(), "payment 2");
    assert_eq!(upstream.executions_of("k"), 0);
}

#[test]
fn a_store_that_is_killed_and_restarted_fails_closed_meanwhile_and_heals() {
    let mut redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let gateway = on(&redis, &upstream).store_line("local_cache = \"0\"").start();
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 1");
    redis.kill();
    for key in ["k", "new"] {
        let answer = gateway.ask(&post("/payments").key(key));
        assert_eq!(answer.problem(), (503, "store-unavailable".into()), "{key}");
        assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    }
    until("the gateway says that it is not ready", || gateway.readiness().status == 503);
    redis.restart();
    until("the gateway is ready again", || gateway.readiness().status == 200);
    until("the answer is replayed", || gateway.ask(&post("/payments").key("k")).status == 201);
    let replay = gateway.ask(&post("/payments").key("k"));
    assert_eq!((replay.text(), replay.word().as_deref()), ("payment 1".into(), Some("replayed")));
    assert_eq!(gateway.ask(&post("/payments").key("new")).word().as_deref(), Some("executed"));
    assert_eq!((upstream.executions_of("k"), upstream.executions_of("new")), (1, 1));
}

#[test]
fn a_finished_answer_is_replayed_from_memory_while_the_store_is_down() {
    let mut redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let gateway = on(&redis, &upstream).start();
    gateway.ask(&post("/payments").key("k"));
    redis.kill();
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("replayed"));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_store_that_is_too_slow_fails_closed_and_what_it_does_late_claims_nothing() {
    let redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let gateway = on(&redis, &upstream).start();
    redis.freeze();
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (503, "store-unavailable".into()));
    redis.thaw();
    // The claim arrives when the store goes on. It was never sent, and its owner knows that.
    until("the key can be used", || gateway.ask(&post("/payments").key("k")).status == 201);
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 1");
    assert_eq!(upstream.executions_of("k"), 1);
}

#[tokio::test]
async fn a_store_without_memory_fails_closed() {
    let redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let gateway = on(&redis, &upstream).start();
    redis.text("CONFIG SET maxmemory 1").await;
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (503, "store-unavailable".into()));
    redis.text("CONFIG SET maxmemory 0").await;
    until("the key can be used", || gateway.ask(&post("/payments").key("k")).status == 201);
    assert_eq!(upstream.executions_of("k"), 1);
}

#[tokio::test]
async fn a_store_that_takes_no_writes_fails_closed() {
    let redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let gateway = on(&redis, &upstream).start();
    redis.text("REPLICAOF 127.0.0.1 1").await;
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (503, "store-unavailable".into()));
    redis.text("REPLICAOF NO ONE").await;
    until("the key can be used", || gateway.ask(&post("/payments").key("k")).status == 201);
    assert_eq!(upstream.executions_of("k"), 1);
}

#[test]
fn requests_are_forwarded_unprotected_where_the_route_puts_service_above_safety() {
    let mut redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let gateway = on(&redis, &upstream).policy("on_store_error = \"forward\"").start();
    redis.kill();
    for number in 1..=2 {
        let answer = gateway.ask(&post("/payments").key("k"));
        assert_eq!(answer.text(), format!("payment {number}"));
        assert_eq!(answer.word().as_deref(), Some("unprotected"));
    }
    until("it is logged", || gateway.log().matches("forwarded unprotected").count() == 2);
}

#[test]
fn an_answer_that_the_store_does_not_take_is_delivered_all_the_same_and_kept_later() {
    let (mut redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = on(&redis, &upstream).policy("commit_timeout = \"300ms\"").store_line("local_cache = \"0\"");
    let gateway = plan.start();
    let mut client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    redis.kill();
    gate.open();
    let first = client.read();
    assert_eq!((first.text(), first.word().as_deref()), ("payment 1".into(), Some("unstored")));
    redis.restart();
    until("the answer is kept", || gateway.ask(&post("/payments").key("k")).status == 201);
    let replay = plan.start().ask(&post("/payments").key("k"));
    assert_eq!((replay.text(), replay.word().as_deref()), ("payment 1".into(), Some("replayed")));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_waits_for_a_store_that_hangs_no_longer_than_for_one_that_is_away() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = GatewayPlan::before(&upstream).store(&redis.url()).policy("commit_timeout = \"100ms\"");
    let plan = plan.store_line("timeout = \"20s\"").store_line("session_ttl = \"60s\"");
    let mut gateway = plan.start();
    let mut client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    redis.freeze();
    gate.open();
    let began = clock::monotonic();
    let first = client.read();
    assert_eq!((first.text(), first.word().as_deref()), ("payment 1".into(), Some("unstored")));
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for the store: {:?}", began.elapsed());
    // The commit is under way, and the drain waits for it.
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("stopping"));
    redis.thaw();
    assert_eq!(gateway.exit_code(), Some(0));
    let replay = plan.start().ask(&post("/payments").key("k"));
    assert_eq!((replay.text(), replay.word().as_deref()), ("payment 1".into(), Some("replayed")));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_that_the_store_has_not_taken_yet_is_told_as_unstored_to_retries_too() {
    let (mut redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = on(&redis, &upstream).policy("commit_timeout = \"300ms\"").start();
    let mut client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    redis.kill();
    gate.open();
    assert_eq!(client.read().word().as_deref(), Some("unstored"));
    let retry = gateway.ask(&post("/payments").key("k"));
    assert_eq!((retry.text(), retry.word().as_deref()), ("payment 1".into(), Some("unstored")));
    assert_eq!(retry.header("idempotent-replayed").as_deref(), Some("true"));
    redis.restart();
    let is_replayed = || gateway.ask(&post("/payments").key("k")).word().as_deref() == Some("replayed");
    until("the store has it", is_replayed);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_store_that_is_away_for_a_moment_when_the_answer_comes_is_waited_for() {
    let (mut redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = on(&redis, &upstream).policy("commit_timeout = \"20s\"").start();
    let mut client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    redis.kill();
    gate.open();
    until("the commit fails", || gateway.log().contains("did not take the outcome"));
    redis.restart();
    let first = client.read();
    assert_eq!((first.text(), first.word().as_deref()), ("payment 1".into(), Some("executed")));
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_unknown_and_never_taken_for_absent() {
    let redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let gateway = on(&redis, &upstream).store_line("local_cache = \"0\"").start();
    gateway.ask(&post("/payments").key("k"));
    let keys: Vec<Vec<u8>> = redis::from_redis_value(redis.raw(&[b"KEYS", b"onceway:r:*"]).await).unwrap();
    for damage in [&b"\xffgarbage"[..], b"", b"ONCE"] {
        redis.raw(&[b"SET", &keys[0], damage]).await;
        let retry = gateway.ask(&post("/payments").key("k"));
        assert_eq!(retry.problem(), (409, "outcome-unknown".into()), "{damage:?}");
    }
    assert_eq!((keys.len(), upstream.executions()), (1, 1));
}

#[test]
fn a_route_that_observes_forwards_everything_and_logs_what_would_have_been() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("mode = \"observe\"").start();
    for (body, number, word) in [("a", 1, "executed"), ("a", 2, "unprotected"), ("b", 3, "unprotected")] {
        let answer = gateway.ask(&post("/payments").key("k").body(body));
        assert_eq!((answer.text(), answer.word().as_deref()), (format!("payment {number}"), Some(word)));
    }
    for would_be in ["would_be=\"replayed\"", "would_be=\"mismatch\""] {
        until("it is logged", || gateway.log().contains(would_be));
    }
}

#[tokio::test]
async fn an_answer_is_put_back_where_the_store_forgot_the_claim() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = on(&redis, &upstream).store_line("local_cache = \"0\"").start();
    let mut client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    redis.text("FLUSHALL").await;
    gate.open();
    assert_eq!(client.read().text(), "payment 1");
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("replayed"));
    assert_eq!(upstream.executions(), 1);
}
