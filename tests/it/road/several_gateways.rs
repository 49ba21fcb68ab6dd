//! Several gateways before one upstream, on one Redis.

use std::time::Duration;

use crate::harness::{Client, Gate, Gateway, GatewayPlan, Reply, Upstream, now, post, until};
use crate::servers::redis::RedisServer;

/// A plan for gateways that share `redis`; one that dies is known to be dead after little more than a second.
fn sharing(redis: &RedisServer, upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).store(&redis.url()).with_short_sessions()
}

/// Two gateways, and a request under way on the first one.
fn with_one_in_flight(plan: &GatewayPlan, upstream: &Upstream) -> (Gateway, Gateway, Client) {
    let (owner, other) = (plan.start(), plan.start());
    let client = owner.send(&post("/payments").key("k"));
    upstream.request(1);
    (owner, other, client)
}

/// How many records somebody waits for.
fn watched(redis: &RedisServer) -> usize {
    count(redis, &["PUBSUB", "CHANNELS", "onceway:w:*"])
}

/// How many gateways say that they live.
fn sessions(redis: &RedisServer) -> usize {
    count(redis, &["KEYS", "onceway:s:*"])
}

fn count(redis: &RedisServer, words: &[&str]) -> usize {
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let found: Vec<String> = redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap();
    found.len()
}

#[test]
fn an_answer_from_one_gateway_is_replayed_by_another_however_large() {
    let redis = RedisServer::start();
    let upstream = Upstream::by(|request| Reply::answer(201).body(&request.body));
    let plan = sharing(&redis, &upstream).policy("fingerprint_body = \"off\"");
    let (one, other) = (plan.start(), plan.start());
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 1024 * 1024] {
        let ask = post("/payments").key(&format!("k{size}")).body(vec![b'x'; size]);
        let (first, replay) = (one.ask(&ask), other.ask(&ask));
        assert_eq!((replay.word().as_deref(), replay.body.len()), (Some("replayed"), size));
        assert_eq!((first.status, first.body), (replay.status, replay.body));
    }
    assert_eq!(upstream.executions(), 5);
}

#[test]
fn hundreds_of_duplicates_at_once_on_both_gateways_run_exactly_once() {
    let redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let plan = sharing(&redis, &upstream).policy("in_flight = \"wait\"");
    let gateways = [plan.start(), plan.start()];
    let mut clients: Vec<_> = (0..400).map(|number| gateways[number % 2].client()).collect();
    for client in &mut clients {
        client.send(&post("/payments").key("k"));
    }
    let words: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            let answer = client.read();
            assert_eq!(answer.text(), "payment 1", "{}", answer.shown());
            answer.word().unwrap()
        })
        .collect();
    assert_eq!(words.iter().filter(|word| *word == "executed").count(), 1);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn many_keys_each_asked_for_on_both_gateways_at_once_run_once_each() {
    let redis = RedisServer::start();
    let upstream =
        Upstream::by(|request| Reply::answer(201).body(request.header("idempotency-key").unwrap()));
    let plan = sharing(&redis, &upstream).policy("in_flight = \"wait\"");
    let gateways = [plan.start(), plan.start()];
    let keys: Vec<String> = (0..100).map(|number| format!("k{number}")).collect();
    let mut clients = Vec::new();
    for key in keys.iter().chain(&keys).chain(&keys) {
        clients.push((key, gateways[clients.len() % 2].send(&post("/payments").key(key))));
    }
    for (key, client) in &mut clients {
        assert_eq!(&client.read().text(), *key);
    }
    for key in &keys {
        assert_eq!(upstream.executions_of(key), 1, "{key}");
    }
}

#[test]
fn a_waiter_on_another_gateway_is_woken_when_the_answer_is_there() {
    const ROUNDS: u32 = 4;
    let redis = RedisServer::start();
    let gates: Vec<Gate> = (0..ROUNDS).map(|_| Gate::shut()).collect();
    let replies: Vec<_> = gates.iter().map(|gate| Reply::payment(1).held_by(gate)).collect();
    let upstream = Upstream::by(move |request| replies[request.number - 1].clone());
    let plan = sharing(&redis, &upstream).policy("in_flight = \"wait\"");
    let (owner, other) = (plan.start(), plan.start());
    let mut took = Duration::ZERO;
    for (number, gate) in (1..).zip(&gates) {
        let ask = post("/payments").key(&format!("k{number}"));
        let mut first = owner.send(&ask);
        upstream.request(number);
        let mut waiter = other.send(&ask);
        until("the waiter watches the record", || watched(&redis) == 1);
        gate.open();
        first.read();
        let answered = now();
        assert_eq!(waiter.read().word().as_deref(), Some("replayed"));
        took += answered.elapsed();
        until("the waiter watches no more", || watched(&redis) == 0);
    }
    // Without being woken, each would look again after a second.
    assert!(took < Duration::from_millis(500) * ROUNDS, "{took:?} for {ROUNDS} waits");
}

#[test]
fn a_claim_whose_owner_was_killed_is_in_flight_until_its_session_lapsed_then_unknown_and_never_runs_again() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let (mut owner, other, _client) = with_one_in_flight(&sharing(&redis, &upstream), &upstream);
    owner.kill();
    let retry = || other.ask(&post("/payments").key("k")).problem();
    assert_eq!(retry(), (409, "in-flight".into()));
    until("the session lapses", || retry().1 == "outcome-unknown");
    gate.open();
    for _ in 0..3 {
        assert_eq!(retry(), (409, "outcome-unknown".into()));
    }
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_waiter_is_told_that_the_outcome_is_unknown_when_the_owner_was_killed() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = sharing(&redis, &upstream).policy("in_flight = \"wait\"").policy("wait_timeout = \"60s\"");
    let (mut owner, other, _client) = with_one_in_flight(&plan, &upstream);
    let mut waiter = other.send(&post("/payments").key("k"));
    until("the waiter watches the record", || watched(&redis) == 1);
    owner.kill();
    assert_eq!(waiter.read().problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_gateway_frozen_for_longer_than_its_session_lives_runs_nothing_twice_and_its_late_answer_lands() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let (owner, other, mut client) = with_one_in_flight(&sharing(&redis, &upstream), &upstream);
    owner.freeze();
    let retry = || other.ask(&post("/payments").key("k"));
    until("its session lapses", || retry().problem().1 == "outcome-unknown");
    gate.open();
    assert_eq!(retry().problem(), (409, "outcome-unknown".into()));
    owner.signal("CONT");
    let first = client.read();
    assert_eq!((first.text(), first.word().as_deref()), ("payment 1".into(), Some("executed")));
    let replay = retry();
    assert_eq!((replay.text(), replay.word().as_deref()), ("payment 1".into(), Some("replayed")));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_frozen_gateway_takes_no_request_before_it_is_known_to_live_again() {
    let redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let plan = sharing(&redis, &upstream);
    let (frozen, other) = (plan.start(), plan.start());
    frozen.freeze();
    let mut client = frozen.send(&post("/payments").key("k"));
    until("its session lapses", || sessions(&redis) == 1);
    assert_eq!(other.ask(&post("/payments").key("k")).text(), "payment 1");
    frozen.signal("CONT");
    let answer = client.read();
    assert!([201, 503].contains(&answer.status), "{}", answer.shown());
    until("it serves again", || frozen.ask(&post("/payments").key("k")).text() == "payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_gateway_that_ends_in_order_leaves_no_claim_in_doubt_for_longer_than_it_must() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = sharing(&redis, &upstream).server("drain_timeout = \"100ms\"");
    let (mut owner, other, mut client) = with_one_in_flight(&plan, &upstream);
    owner.signal("TERM");
    assert_eq!(client.read().problem(), (502, "outcome-unknown".into()));
    assert_eq!(owner.exit_code(), Some(0));
    assert_eq!(other.ask(&post("/payments").key("k")).problem(), (409, "outcome-unknown".into()));
    assert_eq!(sessions(&redis), 1);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn gateways_of_different_namespaces_know_nothing_of_each_other() {
    let redis = RedisServer::start();
    let upstream = Upstream::of_payments();
    let one = sharing(&redis, &upstream).store_line("namespace = \"one\"").start();
    let two = sharing(&redis, &upstream).store_line("namespace = \"two\"").start();
    for gateway in [&one, &two] {
        assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
    }
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_frozen_owner_whose_claim_was_taken_over_does_not_overwrite_its_successor() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::in_turn([Reply::payment(1).held_by(&gate), Reply::payment(2)]);
    let plan = sharing(&redis, &upstream).policy("on_unknown = \"retry\"").store_line("local_cache = \"0\"");
    let (owner, other, mut client) = with_one_in_flight(&plan, &upstream);
    owner.freeze();
    let retry = || other.ask(&post("/payments").key("k"));
    until("the claim is taken over", || retry().text() == "payment 2");
    gate.open();
    owner.signal("CONT");
    let first = client.read();
    assert_eq!((first.text(), first.word().as_deref()), ("payment 1".into(), Some("unstored")));
    // Until it has renewed its session, the owner rightly refuses everything.
    until("the owner serves again", || owner.readiness().status == 200);
    for gateway in [&other, &owner] {
        assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 2");
    }
    assert_eq!(upstream.executions(), 2);
}
