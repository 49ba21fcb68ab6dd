//! Bodies that are not held in memory: they arrive piece by piece, wait for a slow reader, and are not kept.

use std::thread;
use std::time::Duration;

use crate::harness::{Answer, Gate, Gateway, GatewayPlan, Reply, Upstream, get, post, until};
use crate::servers::redis::RedisServer;

fn retry(gateway: &Gateway) -> Answer {
    gateway.ask(&post("/payments").key("k"))
}

#[test]
fn a_streamed_answer_cut_short_is_cut_short_for_the_caller_too_and_its_outcome_is_unknown() {
    let gate = Gate::shut();
    let long = "x".repeat(3000);
    let upstream = Upstream::always(Reply::answer(200).begin_chunked().chunk(&long).wait(&gate).close());
    let gateway = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"").start();
    let mut client = gateway.send(&post("/payments").key("k"));
    let head = client.read_head();
    gate.open();
    let first = client.read_after(head);
    assert_eq!((first.status, first.is_whole), (200, false));
    assert_eq!(retry(&gateway).problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_too_large_to_keep_streams_through_and_leaves_a_record_without_a_body() {
    let long = "x".repeat(3000);
    let upstream = Upstream::always(Reply::answer(200).chunked(&[&long, &long], &[]));
    let gateway = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"").start();
    let first = retry(&gateway);
    assert_eq!((first.body.len(), first.is_whole), (6000, true));
    assert_eq!(retry(&gateway).problem(), (409, "result-unavailable".into()));
    assert_eq!(upstream.executions(), 1);
}

/// Whoever has all bytes that were announced has the answer, though the gateway dies in the next moment.
#[test]
fn a_counted_answer_too_large_to_keep_is_whole_only_when_it_is_recorded() {
    let (redis, gate) = (RedisServer::start(), Gate::shut());
    let long = "x".repeat(3000);
    let answer = Reply::answer(200).header("Content-Length", "3004").end_of_head().raw(&long);
    let upstream = Upstream::always(answer.wait(&gate).raw("last"));
    let plan = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"");
    let plan = plan.store(&redis.url()).with_short_sessions();
    let mut gateway = plan.start();
    let mut client = gateway.send(&post("/payments").key("k"));
    let head = client.read_head();
    redis.freeze();
    gate.open();
    // It would come at once.
    thread::sleep(Duration::from_millis(300));
    gateway.kill();
    let first = client.read_after(head);
    redis.thaw();
    assert!(!first.is_whole, "it was given as whole before its record was written: {}", first.shown());
    let (successor, mut code) = (plan.start(), String::new());
    until("the end is known", || {
        code = retry(&successor).problem().1;
        code != "in-flight"
    });
    // What was on its way to the store may have arrived.
    assert!(["outcome-unknown", "result-unavailable"].contains(&code.as_str()), "{code}");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_event_stream_arrives_piece_by_piece_and_leaves_a_record_without_a_body() {
    let gate = Gate::shut();
    let events =
        Reply::answer(200).header("Content-Type", "text/event-stream; charset=utf-8").begin_chunked();
    let upstream =
        Upstream::always(events.chunk("data: 1\n\n").wait(&gate).chunk("data: 2\n\n").last_chunk());
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&post("/payments").key("k"));
    let head = client.read_head();
    assert_eq!(client.wire().chunk().unwrap(), b"data: 1\n\n");
    assert_eq!(retry(&gateway).problem(), (409, "in-flight".into()));
    gate.open();
    assert_eq!(client.read_after(head).text(), "data: 2\n\n");
    until("the stream is recorded", || retry(&gateway).problem().1 == "result-unavailable");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_that_lasts_until_the_connection_ends_is_not_kept() {
    let upstream = Upstream::always(Reply::answer(200).until_close("perhaps all"));
    let gateway = GatewayPlan::before(&upstream).start();
    let first = retry(&gateway);
    assert_eq!((first.text(), first.is_whole), ("perhaps all".into(), true));
    until("the answer is recorded", || retry(&gateway).problem().1 == "result-unavailable");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn the_stream_to_a_caller_that_left_is_followed_to_its_end_and_recorded() {
    let gate = Gate::shut();
    let long = "x".repeat(3000);
    let reply = Reply::answer(200).begin_chunked().chunk(&long).wait(&gate).chunk(&long).last_chunk();
    let upstream = Upstream::always(reply);
    let gateway = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"").start();
    let mut client = gateway.send(&post("/payments").key("k"));
    client.read_head();
    client.leave();
    gate.open();
    until("the stream is recorded", || retry(&gateway).problem().1 == "result-unavailable");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_unprotected_stream_arrives_piece_by_piece() {
    let gate = Gate::shut();
    let upstream = Upstream::always(
        Reply::answer(200).begin_chunked().chunk("one").wait(&gate).chunk("two").last_chunk(),
    );
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&get("/stream"));
    let head = client.read_head();
    assert_eq!(client.wire().chunk().unwrap(), b"one");
    gate.open();
    assert_eq!(client.read_after(head).text(), "two");
}

#[test]
fn an_unprotected_upload_arrives_piece_by_piece() {
    let upstream = Upstream::by(|request| Reply::answer(200).body(&request.body));
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    client.send_head(&post("/upload").chunked(&[], &[])).say(b"3\r\none\r\n");
    upstream.await_bytes(b"one");
    client.say(b"3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(client.read().text(), "onetwo");
}

#[test]
fn a_long_answer_waits_for_a_slow_caller_instead_of_piling_up() {
    const LENGTH: usize = 64 * 1024 * 1024;
    for ask in [get("/stream"), post("/payments").key("k")] {
        let upstream = Upstream::always(Reply::answer(200).body(vec![b'x'; LENGTH]));
        let gateway = GatewayPlan::before(&upstream).start();
        let mut client = gateway.send(&ask);
        let head = client.read_head();
        let taken = upstream.sent_bytes_at_rest();
        assert!(taken < LENGTH, "{taken} bytes were taken that nobody read");
        assert_eq!(client.read_after(head).body.len(), LENGTH);
    }
}
