//! What comes of a forward: the caller's answer, the record, and what a retry then meets.

use crate::harness::{
    Answer, Babel, Gate, Gateway, GatewayPlan, Reply, Unlistened, Unresponsive, Upstream, post, until,
};

fn retry(gateway: &Gateway) -> Answer {
    gateway.ask(&post("/payments").key("k"))
}

/// Asks once and expects an answer that nobody knows the outcome of, from the gateway with `status`; the
/// retry is told so and does not run.
fn expect_unknown(gateway: &Gateway, status: u16) {
    let first = gateway.ask(&post("/payments").key("k"));
    assert_eq!(first.problem(), (status, "outcome-unknown".into()), "{}", first.shown());
    assert_eq!(first.word().as_deref(), Some("unknown"));
    assert_eq!(retry(gateway).problem(), (409, "outcome-unknown".into()));
}

#[test]
fn a_refused_connection_releases_the_key() {
    let nobody = Unlistened::port();
    let gateway = GatewayPlan::before_url(&nobody.url()).start();
    for _ in 0..2 {
        let answer = retry(&gateway);
        assert_eq!(answer.problem(), (502, "upstream-unreachable".into()));
        assert_eq!(answer.word().as_deref(), Some("released"));
        assert_eq!(answer.header("proxy-status").as_deref(), Some("onceway; error=connection_refused"));
    }
}

#[test]
fn a_connection_that_is_not_made_in_time_releases_the_key() {
    let silent = Unresponsive::port();
    let gateway = GatewayPlan::before_url(&silent.url()).upstream("connect_timeout = \"200ms\"").start();
    for _ in 0..2 {
        let answer = retry(&gateway);
        assert_eq!(answer.problem(), (504, "upstream-unreachable".into()));
        assert_eq!(answer.word().as_deref(), Some("released"));
        assert_eq!(answer.header("proxy-status").as_deref(), Some("onceway; error=connection_timeout"));
    }
}

#[test]
fn a_name_that_does_not_resolve_releases_the_key() {
    // No label may be longer than 63 bytes, so no server is asked.
    let gateway = GatewayPlan::before_url(&format!("http://{}:80", "n".repeat(64))).start();
    for _ in 0..2 {
        let answer = retry(&gateway);
        assert_eq!(answer.problem(), (502, "upstream-unreachable".into()));
        assert_eq!(answer.word().as_deref(), Some("released"));
        assert_eq!(answer.header("proxy-status").as_deref(), Some("onceway; error=dns_error"));
    }
}

#[test]
fn a_handshake_that_fails_releases_the_key() {
    let babel = Babel::port();
    let gateway = GatewayPlan::before_url(&babel.https_url()).start();
    for _ in 0..2 {
        let answer = retry(&gateway);
        assert_eq!(answer.problem(), (502, "upstream-unreachable".into()));
        assert_eq!(answer.word().as_deref(), Some("released"));
    }
}

#[test]
fn a_key_released_because_nothing_was_sent_runs_when_the_upstream_is_back() {
    let upstream =
        Upstream::in_turn([Reply::answer(503).header("Retry-After", "1").body(""), Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).start();
    assert_eq!(retry(&gateway).word().as_deref(), Some("released"));
    assert_eq!(retry(&gateway).text(), "payment 2");
    assert_eq!(retry(&gateway).word().as_deref(), Some("replayed"));
}

#[test]
fn a_connection_closed_while_idle_costs_nothing_and_the_request_runs_once() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    assert_eq!(gateway.ask(&post("/payments").key("a")).text(), "payment 1");
    for key in ["b", "c", "d"] {
        upstream.close_connections();
        let answer = gateway.ask(&post("/payments").key(key));
        assert_eq!(answer.word().as_deref(), Some("executed"), "{}", answer.shown());
        assert_eq!(upstream.executions_of(key), 1);
    }
    assert_eq!(upstream.request(4).connection, 4);
}

#[test]
fn a_connection_is_used_again_while_it_lives() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    for key in ["a", "b", "c"] {
        gateway.ask(&post("/payments").key(key));
    }
    assert_eq!(upstream.request(3).connection, 1);
}

#[test]
fn a_reset_after_the_request_was_read_leaves_its_outcome_unknown() {
    let upstream = Upstream::always(Reply::default().reset());
    let gateway = GatewayPlan::before(&upstream).start();
    expect_unknown(&gateway, 502);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_reset_on_a_reused_connection_leaves_the_outcome_unknown_and_is_not_sent_again() {
    let upstream = Upstream::in_turn([Reply::payment(1), Reply::default().reset()]);
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    assert_eq!(gateway.ask(&post("/payments").key("other")).status, 201);
    expect_unknown(&gateway, 502);
    assert_eq!(upstream.request(2).connection, 1);
    assert_eq!(upstream.executions_of("k"), 1);
}

#[test]
fn an_end_without_an_answer_leaves_the_outcome_unknown() {
    let upstream = Upstream::always(Reply::default().close());
    let gateway = GatewayPlan::before(&upstream).start();
    expect_unknown(&gateway, 502);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_that_is_no_http_leaves_the_outcome_unknown() {
    for answer in
        ["SSH-2.0-OpenSSH_9\r\n\r\n", "HTTP/1.1 abc Odd\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"]
    {
        let upstream = Upstream::always(Reply::default().raw(answer).close());
        let gateway = GatewayPlan::before(&upstream).start();
        expect_unknown(&gateway, 502);
        assert_eq!(upstream.executions(), 1, "{answer:?}");
    }
}

#[test]
fn an_answer_cut_short_leaves_the_outcome_unknown() {
    let short = Reply::answer(201).header("Content-Length", "10").end_of_head().raw("12345").close();
    let unfinished = Reply::answer(201).begin_chunked().chunk("12345").close();
    let reset = Reply::answer(201).header("Content-Length", "10").end_of_head().raw("12345").reset();
    let garbled = Reply::answer(201).begin_chunked().chunk("12345").raw("zz\r\n").close();
    for reply in [short, unfinished, reset, garbled] {
        let upstream = Upstream::always(reply);
        let gateway = GatewayPlan::before(&upstream).start();
        expect_unknown(&gateway, 502);
        assert_eq!(upstream.executions(), 1);
    }
}

#[test]
fn an_answer_that_comes_after_the_timeout_is_kept_for_the_retry() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).upstream("response_timeout = \"200ms\"").start();
    let first = gateway.ask(&post("/payments").key("k"));
    assert_eq!(first.problem(), (504, "outcome-unknown".into()));
    assert_eq!(first.header("proxy-status").as_deref(), Some("onceway; error=http_response_timeout"));
    assert_eq!(retry(&gateway).problem(), (409, "outcome-unknown".into()));
    gate.open();
    until("the late answer is kept", || retry(&gateway).status == 201);
    assert_eq!(retry(&gateway).text(), "payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn nobody_listens_for_an_answer_after_the_window_for_late_ones() {
    let upstream = Upstream::always(Reply::default().await_end());
    let gateway = GatewayPlan::before(&upstream)
        .upstream("response_timeout = \"100ms\"")
        .policy("late_answer_window = \"100ms\"")
        .start();
    expect_unknown(&gateway, 504);
    until("the gateway hangs up", || upstream.open_connections() == 0);
    assert_eq!(retry(&gateway).problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn interim_answers_are_consumed_and_never_stored() {
    let early = Reply::answer(100).end_of_head().status(103).header("Link", "</style.css>").end_of_head();
    let upstream = Upstream::always(early.status(102).end_of_head().status(201).body("payment 1"));
    let gateway = GatewayPlan::before(&upstream).start();
    for word in ["executed", "replayed"] {
        let answer = retry(&gateway);
        assert_eq!((answer.status, answer.text()), (201, "payment 1".into()));
        assert_eq!((answer.word().as_deref(), answer.header("link")), (Some(word), None));
    }
}

#[test]
fn a_status_that_says_not_processed_releases_the_key() {
    for status in [401, 407, 408, 421, 425, 429] {
        let upstream = Upstream::in_turn([Reply::answer(status).body("not now"), Reply::payment(2)]);
        let gateway = GatewayPlan::before(&upstream).start();
        let first = retry(&gateway);
        assert_eq!((first.status, first.text()), (status, "not now".into()));
        assert_eq!(first.word().as_deref(), Some("released"), "{status}");
        assert_eq!(retry(&gateway).text(), "payment 2", "{status}");
    }
}

#[test]
fn unavailable_is_an_answer_to_keep_unless_it_says_when_to_come_again() {
    let upstream = Upstream::in_turn([Reply::answer(503).body("broken"), Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).start();
    assert_eq!(retry(&gateway).word().as_deref(), Some("executed"));
    assert_eq!((retry(&gateway).status, upstream.executions()), (503, 1));
}

#[test]
fn server_errors_release_the_key_where_the_route_says_so() {
    let upstream = Upstream::in_turn([Reply::answer(500).body("broken"), Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).policy("on_5xx = \"release\"").start();
    let first = retry(&gateway);
    assert_eq!((first.status, first.word().as_deref()), (500, Some("released")));
    assert_eq!(retry(&gateway).text(), "payment 2");
}

#[test]
fn server_errors_leave_the_outcome_unknown_where_the_route_says_so() {
    let upstream = Upstream::in_turn([Reply::answer(500).body("broken"), Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).policy("on_5xx = \"unknown\"").start();
    let first = retry(&gateway);
    assert_eq!(
        (first.status, first.text(), first.word().as_deref()),
        (500, "broken".into(), Some("unknown"))
    );
    assert_eq!(retry(&gateway).problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_change_of_protocol_that_nobody_asked_for_leaves_the_outcome_unknown() {
    let switching = Reply::answer(101).header("Connection", "upgrade").header("Upgrade", "x").end_of_head();
    let upstream = Upstream::always(switching);
    let gateway = GatewayPlan::before(&upstream).start();
    expect_unknown(&gateway, 502);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn the_answer_to_a_caller_that_left_is_kept_for_its_retry() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).policy("in_flight = \"wait\"").start();
    let client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    client.leave();
    let mut again = gateway.send(&post("/payments").key("k"));
    gate.open();
    let answer = again.read();
    assert_eq!((answer.text(), answer.word().as_deref()), ("payment 1".into(), Some("replayed")));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_caller_that_ends_its_side_after_its_request_still_gets_its_answer() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).start();
    for ask in [post("/payments").key("k"), post("/elsewhere")] {
        let mut client = gateway.send(&ask);
        client.finish_writing();
        upstream.request(1);
        gate.open();
        assert_eq!(client.read().text(), "payment 1");
    }
}

#[test]
fn two_guarded_requests_sent_at_once_on_one_connection_are_answered_in_order() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&post("/payments").key("a"));
    client.send(&post("/payments").key("b")).send(&post("/payments").key("a"));
    let answers = [client.read().text(), client.read().text(), client.read().text()];
    assert_eq!(answers, ["payment 1", "payment 2", "payment 1"]);
    assert_eq!((upstream.executions_of("a"), upstream.executions_of("b")), (1, 1));
}

#[test]
fn an_answer_does_not_wait_for_the_next_request_on_its_connection() {
    let gate = Gate::shut();
    let upstream = Upstream::in_turn([Reply::payment(1), Reply::payment(2).held_by(&gate)]);
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&post("/payments").key("a"));
    client.send(&post("/payments").key("b"));
    upstream.request(2);
    assert_eq!(client.read().text(), "payment 1");
    gate.open();
    assert_eq!(client.read().text(), "payment 2");
}

#[test]
fn a_caller_that_leaves_while_it_is_answered_finds_the_answer_when_it_comes_again() {
    let body = vec![b'x'; 1024 * 1024];
    let upstream = Upstream::always(Reply::answer(201).body(&body));
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&post("/payments").key("k"));
    client.read_head();
    client.leave();
    let replay = retry(&gateway);
    assert_eq!((replay.word().as_deref(), replay.body.len()), (Some("replayed"), body.len()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_whose_body_comes_after_the_timeout_is_kept_for_the_retry() {
    let gate = Gate::shut();
    let reply = Reply::answer(201).header("Content-Length", "9").end_of_head().raw("payment");
    let upstream = Upstream::always(reply.wait(&gate).raw(" 1"));
    let gateway = GatewayPlan::before(&upstream).upstream("response_timeout = \"200ms\"").start();
    expect_unknown(&gateway, 504);
    gate.open();
    until("the late answer is kept", || retry(&gateway).status == 201);
    assert_eq!((retry(&gateway).text(), upstream.executions()), ("payment 1".into(), 1));
}

#[test]
fn a_late_word_that_nothing_was_processed_releases_the_key() {
    let gate = Gate::shut();
    let upstream = Upstream::in_turn([Reply::answer(429).body("").held_by(&gate), Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).upstream("response_timeout = \"200ms\"").start();
    expect_unknown(&gateway, 504);
    gate.open();
    until("the key is released", || retry(&gateway).status == 201);
    assert_eq!(retry(&gateway).text(), "payment 2");
}

#[test]
fn a_waiter_is_told_as_soon_as_the_outcome_is_unknown() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::default().wait(&gate).reset());
    let plan = GatewayPlan::before(&upstream).policy("in_flight = \"wait\"").policy("wait_timeout = \"60s\"");
    let gateway = plan.start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let mut waiting = gateway.send(&post("/payments").key("k"));
    gate.open();
    assert_eq!(first.read().problem(), (502, "outcome-unknown".into()));
    assert_eq!(waiting.read().problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn waiters_for_a_key_that_is_released_run_it_one_after_the_other() {
    let gate = Gate::shut();
    let refused = Reply::answer(429).body("not now").held_by(&gate);
    let upstream = Upstream::in_turn([refused, Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).policy("in_flight = \"wait\"").start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let mut waiting: Vec<_> = (0..10).map(|_| gateway.send(&post("/payments").key("k"))).collect();
    gate.open();
    assert_eq!(first.read().status, 429);
    for client in &mut waiting {
        assert_eq!(client.read().text(), "payment 2");
    }
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn bytes_that_follow_an_answer_unasked_are_never_taken_for_the_next_answer() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let upstream = Upstream::by(move |request| Reply::payment(request.number).raw(forged));
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    for (number, key) in (1..).zip(["a", "b", "c", "d"]) {
        let answer = gateway.ask(&post("/payments").key(key));
        assert_eq!(answer.text(), format!("payment {number}"));
        assert_eq!(upstream.executions_of(key), 1);
    }
}

#[test]
fn a_parting_word_on_an_idle_connection_is_never_taken_for_the_next_answer() {
    let gate = Gate::shut();
    let parting = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let first = Reply::payment(1).wait(&gate).raw(parting).close();
    let upstream = Upstream::in_turn([first, Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    gateway.ask(&post("/payments").key("a"));
    gate.open();
    until("the upstream closes", || upstream.open_connections() == 0);
    let answer = gateway.ask(&post("/payments").key("b"));
    assert_eq!((answer.text(), answer.word().as_deref()), ("payment 2".into(), Some("executed")));
}

#[test]
fn an_answer_with_two_lengths_leaves_the_outcome_unknown() {
    let twofold = Reply::answer(201).header("Content-Length", "3").header("Content-Length", "4");
    let upstream = Upstream::always(twofold.end_of_head().raw("abcd").close());
    let gateway = GatewayPlan::before(&upstream).start();
    expect_unknown(&gateway, 502);
}

#[test]
fn an_interim_answer_and_then_nothing_leaves_the_outcome_unknown() {
    let upstream = Upstream::always(Reply::answer(103).end_of_head().close());
    let gateway = GatewayPlan::before(&upstream).start();
    expect_unknown(&gateway, 502);
}

#[test]
fn an_upstream_that_closes_after_every_answer_without_a_word_never_runs_a_request_twice() {
    let upstream = Upstream::by(|request| Reply::payment(request.number).close());
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    for number in 0..300 {
        let key = format!("k{number}");
        let answer = gateway.ask(&post("/payments").key(&key));
        // The end may cross the request: then nobody knows, and the gateway says so.
        assert!([201, 502].contains(&answer.status), "{}", answer.shown());
        let executions = upstream.executions_of(&key);
        assert!(executions == 1 || (executions == 0 && answer.status == 502), "{executions} of {key}");
    }
}

#[test]
fn an_answer_does_not_wait_for_the_rest_of_the_next_request() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let first = [post("/payments").key("a").head_bytes(), post("/payments").body_bytes()].concat();
    let mut client = gateway.client();
    client.say(&[&first[..], b"POST /paym"].concat());
    assert_eq!(client.read().text(), "payment 1");
}

#[test]
fn a_handshake_that_fails_is_told_as_such() {
    let babel = Babel::port();
    let gateway = GatewayPlan::before_url(&babel.https_url()).start();
    let answer = retry(&gateway);
    assert_eq!(answer.header("proxy-status").as_deref(), Some("onceway; error=tls_protocol_error"));
}
