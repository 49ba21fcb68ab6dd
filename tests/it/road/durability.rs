//! What the gateway does about a store that would not keep what it acknowledges, and what `check --online` says.

use crate::harness::{GatewayPlan, Unlistened, Upstream, post, until};
use crate::servers::redis::RedisServer;
use crate::servers::redis::set;

fn on(redis: &RedisServer, upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).store(&redis.url())
}

fn a_redis_that_evicts() -> RedisServer {
    let redis = RedisServer::start();
    set(&redis, "maxmemory-policy", "volatile-ttl");
    redis
}

#[test]
fn a_redis_that_evicts_claims_is_refused_at_the_start() {
    let (redis, upstream) = (a_redis_that_evicts(), Upstream::of_payments());
    assert_eq!(on(&redis, &upstream).fail(), (Some(1), true));
}

#[test]
fn a_redis_that_evicts_claims_is_used_where_that_is_accepted_and_warned_of() {
    let (redis, upstream) = (a_redis_that_evicts(), Upstream::of_payments());
    let gateway = on(&redis, &upstream).store_line("accept_eviction = true").start();
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
    until("the risk is told", || gateway.log().contains("volatile-ttl"));
}

#[test]
fn a_redis_that_was_away_at_the_start_takes_no_claim_before_it_is_known_to_keep_them() {
    let (redis, upstream) = (a_redis_that_evicts(), Upstream::of_payments());
    redis.freeze();
    let gateway = on(&redis, &upstream).store_line("timeout = \"200ms\"").launch();
    redis.thaw();
    until("the fault is found", || gateway.log().contains("breaks the guarantee"));
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (503, "store-unavailable".into()));
    assert_eq!(gateway.readiness().status, 503);
    set(&redis, "maxmemory-policy", "noeviction");
    until("the gateway is ready", || gateway.readiness().status == 200);
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn check_online_tells_how_well_the_store_keeps_its_records_and_who_answers() {
    let (redis, upstream) = (RedisServer::start(), Upstream::of_payments());
    let (code, shown) = on(&redis, &upstream).check_online();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("appendonly yes") && shown.contains("upstream default"), "{shown}");
    set(&redis, "maxmemory-policy", "allkeys-lru");
    let (code, shown) = on(&redis, &upstream).check_online();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("refused, unless store.accept_eviction = true: "), "{shown}");
}

#[test]
fn check_online_ends_with_1_where_the_store_or_an_upstream_does_not_answer() {
    let (nobody, upstream) = (Unlistened::port(), Upstream::of_payments());
    let store = nobody.url().replace("http://", "redis://");
    let (code, shown) = GatewayPlan::before(&upstream).store(&store).check_online();
    assert!(code == Some(1) && shown.contains("store             failed to use it: "), "{shown}");
    let (code, shown) = GatewayPlan::before_url(&nobody.url()).check_online();
    assert!(code == Some(1) && shown.contains("failed to connect: "), "{shown}");
}

#[test]
fn check_online_names_the_server_that_takes_no_connection() {
    let (nobody, upstream) = (Unlistened::port(), Upstream::of_payments());
    let away = nobody.url().replace("http://", "");
    let servers = format!("servers = [\"{}\", \"{away}\"]", upstream.authority());
    let (code, shown) = GatewayPlan::before(&upstream).upstream(&servers).check_online();
    assert!(code == Some(1) && shown.contains(&format!("ask {away} of the upstream \"default\"")), "{shown}");
}

#[test]
fn check_online_makes_no_directory() {
    let upstream = Upstream::of_payments();
    let dir = tempfile::TempDir::new().unwrap();
    let store = dir.path().join("data");
    let plan = GatewayPlan::before(&upstream).store(&format!("file:{}", store.display()));
    let (code, shown) = plan.check_online();
    assert!(code == Some(0) && shown.contains("made at the first start"), "{shown}");
    assert!(!store.exists());
}
