//! Gateways on one store that do not all hold the same keys or the same version: none ever runs a key again
//! that another has run, whatever it can read.

use std::iter::once;

use tempfile::TempDir;

use super::{KeyFiles, NEW, OLD, names, run, sharing};
use crate::harness::{Gate, Gateway, GatewayPlan, Reply, Upstream, post, until};
use crate::servers::redis::RedisServer;

const ACCEPT: &str = "accept_unsealed = true";

/// What a gateway says to a request of this key: a replay of which answer, or which problem.
fn says(gateway: &Gateway, key: &str) -> String {
    let answer = gateway.ask(&post("/payments").key(key));
    if answer.status == 201 {
        format!("{} {}", answer.word().unwrap(), answer.text())
    } else {
        answer.problem().1
    }
}

/// The bytes of the only record on `redis`.
fn only_record(redis: &RedisServer) -> (String, Vec<u8>) {
    let names = names(redis, "r");
    assert_eq!(names.len(), 1);
    let name = names.into_iter().next().unwrap();
    let bytes = run(redis, &[b"GET", name.as_bytes()]);
    (name, bytes)
}

/// Makes the only record one of the next format, of which this version knows head and lengths alone.
fn make_newer(redis: &RedisServer) -> Vec<u8> {
    let (name, mut bytes) = only_record(redis);
    bytes[2] = 3;
    let kept: String = run(redis, &[b"SET", name.as_bytes(), &bytes, b"KEEPTTL"]);
    assert_eq!(kept, "OK");
    bytes
}

#[test]
fn keys_are_rotated_without_one_wrong_answer() {
    let (redis, files, upstream) = (RedisServer::start(), KeyFiles::new(), Upstream::of_payments());
    let with = |keys: &[&str]| sharing(&redis, &upstream).store_line(&files.line(keys)).start();
    let old = with(&[OLD]);
    assert_eq!(says(&old, "first"), "executed payment 1");
    let learning = with(&[OLD, NEW]);
    assert_eq!(says(&learning, "first"), "replayed payment 1");
    drop(old);
    let sealing = with(&[NEW, OLD]);
    assert_eq!(says(&sealing, "first"), "replayed payment 1");
    assert_eq!(says(&sealing, "second"), "executed payment 2");
    assert_eq!(says(&learning, "second"), "replayed payment 2");
    drop(learning);
    let new = with(&[NEW]);
    assert_eq!(says(&new, "second"), "replayed payment 2");
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn keys_are_rotated_over_the_restarts_of_one_gateway_with_a_store_of_its_own() {
    let (dir, files, upstream) = (TempDir::new().unwrap(), KeyFiles::new(), Upstream::of_payments());
    let plan = GatewayPlan::before(&upstream).store(&format!("file:{}", dir.path().join("data").display()));
    for (keys, answer) in [
        ([OLD].as_slice(), "executed payment 1"),
        (&[OLD, NEW], "replayed payment 1"),
        (&[NEW, OLD], "replayed payment 1"),
        (&[NEW], "outcome-unknown"),
        (&[NEW, OLD], "replayed payment 1"),
    ] {
        let mut gateway = plan.clone().store_line(&files.line(keys)).start();
        assert_eq!(says(&gateway, "k"), answer, "{} keys", keys.len());
        gateway.signal("TERM");
        assert_eq!(gateway.exit_code(), Some(0));
    }
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_record_whose_key_was_taken_away_too_early_is_unknown_and_never_runs_again() {
    let (redis, files, upstream) = (RedisServer::start(), KeyFiles::new(), Upstream::of_payments());
    let with = |keys: &[&str]| sharing(&redis, &upstream).store_line(&files.line(keys));
    assert_eq!(says(&with(&[OLD]).start(), "k"), "executed payment 1");
    let new = with(&[NEW]).policy("on_unknown = \"retry\"").start();
    assert_eq!(says(&new, "k"), "outcome-unknown");
    until("the log tells which key is missing", || new.log().contains("unknown-key"));
    // Given back, it opens again.
    assert_eq!(says(&with(&[NEW, OLD]).start(), "k"), "replayed payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_gateway_without_the_key_beside_one_with_it_runs_nothing_twice() {
    let (redis, files, upstream) = (RedisServer::start(), KeyFiles::new(), Upstream::of_payments());
    let with = sharing(&redis, &upstream).store_line(&files.line(&[OLD])).start();
    let without = sharing(&redis, &upstream).policy("on_unknown = \"retry\"").start();
    assert_eq!(says(&with, "sealed"), "executed payment 1");
    assert_eq!(says(&without, "sealed"), "outcome-unknown");
    assert_eq!(says(&without, "plain"), "executed payment 2");
    assert_eq!(says(&with, "plain"), "outcome-unknown");
    until("the log tells what is not sealed", || with.log().contains("accept_unsealed is off"));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_claim_that_another_gateway_cannot_read_is_unknown_to_it_and_is_settled_by_its_owner() {
    let (redis, files, gate) = (RedisServer::start(), KeyFiles::new(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let owner = sharing(&redis, &upstream).store_line(&files.line(&[OLD])).start();
    let others = [None, Some(files.line(&[NEW]))].map(|line| {
        let plan = sharing(&redis, &upstream).policy("on_unknown = \"retry\"");
        line.iter().fold(plan, |plan, line| plan.store_line(line)).start()
    });
    let mut client = owner.send(&post("/payments").key("k"));
    upstream.request(1);
    for other in &others {
        assert_eq!(says(other, "k"), "outcome-unknown");
    }
    gate.open();
    assert_eq!(client.read().word().as_deref(), Some("executed"));
    assert_eq!(says(&owner, "k"), "replayed payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn sealing_is_switched_on_without_one_wrong_answer_and_later_insisted_on() {
    let (redis, files, upstream) = (RedisServer::start(), KeyFiles::new(), Upstream::of_payments());
    let plan = sharing(&redis, &upstream);
    let before = plan.start();
    assert_eq!(says(&before, "plain"), "executed payment 1");
    let prepared = plan.clone().store_line(&files.line(&["open-only", OLD])).start();
    assert_eq!(says(&prepared, "plain"), "replayed payment 1");
    assert_eq!(says(&prepared, "still plain"), "executed payment 2");
    assert_eq!(says(&before, "still plain"), "replayed payment 2");
    drop(before);
    let sealed = plan.clone().store_line(&files.line(&[OLD]));
    let sealing = sealed.clone().store_line(ACCEPT).start();
    assert_eq!(says(&sealing, "plain"), "replayed payment 1");
    assert_eq!(says(&sealing, "sealed"), "executed payment 3");
    assert_eq!(says(&prepared, "sealed"), "replayed payment 3");
    drop(prepared);
    let strict = sealed.start();
    assert_eq!(says(&strict, "sealed"), "replayed payment 3");
    assert_eq!(says(&strict, "plain"), "outcome-unknown");
    assert_eq!(upstream.executions(), 3);
}

#[test]
fn compression_is_switched_on_and_off_without_one_wrong_answer() {
    let redis = RedisServer::start();
    let body = "{\"id\":\"pay_17\",\"status\":\"captured\"}".repeat(1000);
    let answer = body.clone();
    let upstream = Upstream::by(move |_| Reply::answer(201).body(&answer));
    let off = sharing(&redis, &upstream).start();
    let on = sharing(&redis, &upstream).store_line("compression = \"zstd\"").start();
    assert_eq!(says(&on, "small"), format!("executed {body}"));
    assert_eq!(says(&off, "large"), format!("executed {body}"));
    for gateway in [&on, &off] {
        assert_eq!(says(gateway, "small"), format!("replayed {body}"));
        assert_eq!(says(gateway, "large"), format!("replayed {body}"));
    }
    // The small one stands whole in its record, the large one apart.
    assert_eq!((names(&redis, "r").len(), names(&redis, "b").len()), (2, 1));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn an_answer_of_the_next_format_is_unknown_to_this_version_and_is_left_as_it_is() {
    let (redis, upstream) = (RedisServer::start(), Upstream::of_payments());
    let gateway = sharing(&redis, &upstream).policy("on_unknown = \"retry\"").start();
    assert_eq!(says(&gateway, "k"), "executed payment 1");
    let newer = make_newer(&redis);
    for _ in 0..3 {
        assert_eq!(says(&gateway, "k"), "outcome-unknown");
    }
    until("the log tells the format", || gateway.log().contains("its format is 3"));
    assert_eq!(only_record(&redis).1, newer);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_claim_of_the_next_format_is_unknown_to_this_version_and_its_owner_settles_it() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    // The owner never reads its claim, so it is as good as one of the next version.
    let plan = sharing(&redis, &upstream).policy("on_unknown = \"retry\"");
    let (owner, other) = (plan.start(), plan.start());
    let mut client = owner.send(&post("/payments").key("k"));
    upstream.request(1);
    let newer = make_newer(&redis);
    for _ in 0..3 {
        assert_eq!(says(&other, "k"), "outcome-unknown");
    }
    assert_eq!(only_record(&redis).1, newer);
    gate.open();
    assert_eq!(client.read().word().as_deref(), Some("executed"));
    for gateway in [&owner, &other] {
        assert_eq!(says(gateway, "k"), "replayed payment 1");
    }
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_sealed_record_that_was_changed_in_the_store_is_unknown_and_never_runs_again() {
    let (redis, files, upstream) = (RedisServer::start(), KeyFiles::new(), Upstream::of_payments());
    let gateway = sharing(&redis, &upstream).store_line(&files.line(&[OLD])).start();
    assert_eq!(says(&gateway, "k"), "executed payment 1");
    let (name, bytes) = only_record(&redis);
    // Head, metadata, body; then cut short.
    for (at, byte) in [30, 120, bytes.len() - 1].into_iter().map(|at| (at, bytes[at] ^ 1)) {
        let damaged: Vec<u8> =
            bytes[..at].iter().copied().chain(once(byte)).chain(bytes[at + 1..].iter().copied()).collect();
        run::<()>(&redis, &[b"SET", name.as_bytes(), &damaged, b"KEEPTTL"]);
        assert_eq!(says(&gateway, "k"), "outcome-unknown", "byte {at}");
    }
    run::<()>(&redis, &[b"SET", name.as_bytes(), &bytes[..100], b"KEEPTTL"]);
    assert_eq!(says(&gateway, "k"), "outcome-unknown");
    run::<()>(&redis, &[b"SET", name.as_bytes(), &bytes, b"KEEPTTL"]);
    assert_eq!(says(&gateway, "k"), "replayed payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_sealed_record_that_was_moved_to_another_key_is_unknown_there() {
    let (redis, files, upstream) = (RedisServer::start(), KeyFiles::new(), Upstream::of_payments());
    let gateway = sharing(&redis, &upstream).store_line(&files.line(&[OLD])).start();
    assert_eq!(says(&gateway, "mine"), "executed payment 1");
    let (mine, bytes) = only_record(&redis);
    assert_eq!(says(&gateway, "theirs"), "executed payment 2");
    let theirs = names(&redis, "r").into_iter().find(|name| *name != mine).unwrap();
    run::<()>(&redis, &[b"SET", theirs.as_bytes(), &bytes, b"KEEPTTL"]);
    assert_eq!(says(&gateway, "theirs"), "outcome-unknown");
    until("the log tells that it is forged", || gateway.log().contains("forged"));
    assert_eq!(upstream.executions(), 2);
}
