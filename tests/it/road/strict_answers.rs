//! Answers that two readers would read differently: none reaches a caller as well-formed, and none is kept.

use crate::harness::{GatewayPlan, Reply, Upstream, ask, get, post};

/// Heads and bodies that a strict reader refuses.
const DOUBTFUL: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nA: \u{1}\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    "ok, says HTTP/0.9\r\n\r\n",
];

#[test]
fn an_answer_that_reads_in_more_than_one_way_is_none() {
    for raw in DOUBTFUL {
        let upstream = Upstream::always(Reply::default().raw(raw).await_end());
        let gateway = GatewayPlan::before(&upstream).start();
        assert_eq!(gateway.ask(&get("/elsewhere")).status, 502, "{raw:?}");
        for status in [502, 409] {
            let answer = gateway.ask(&post("/payments").key("k"));
            assert_eq!(answer.problem(), (status, "outcome-unknown".into()), "{raw:?}");
        }
        assert_eq!(upstream.executions(), 2, "{raw:?}");
    }
}

#[test]
fn bytes_after_an_answer_go_to_nobody() {
    let extra = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let smuggling = Reply::default().raw([answer, extra].concat());
        let upstream = Upstream::in_turn([smuggling, Reply::answer(200).body("good")]);
        let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
        let first = gateway.ask(&ask(method, "/a"));
        assert_eq!(first.body, b"", "{method} {answer:?}");
        assert_eq!(gateway.ask(&get("/b")).text(), "good", "{method} {answer:?}");
        assert_eq!(upstream.request(2).connection, 2, "{method} {answer:?}");
    }
}

#[test]
fn an_answer_of_an_old_server_is_taken_as_it_is() {
    let upstream = Upstream::always(Reply::default().raw("HTTP/1.0 200 OK\r\n\r\nold but whole").close());
    let gateway = GatewayPlan::before(&upstream).start();
    let answer = gateway.ask(&get("/elsewhere"));
    assert_eq!((answer.status, answer.text(), answer.is_whole), (200, "old but whole".into(), true));
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "old but whole");
}

#[test]
fn interim_answers_without_end_are_not_waited_out() {
    let early = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let upstream = Upstream::always(Reply::default().raw(early).await_end());
    let answer = GatewayPlan::before(&upstream).start().ask(&post("/payments").key("k"));
    assert_eq!(answer.problem(), (502, "outcome-unknown".into()));
}

#[test]
fn a_connection_on_which_head_was_answered_with_a_length_carries_no_other_request() {
    let head = Reply::answer(200).header("Content-Length", "4").end_of_head();
    let upstream = Upstream::in_turn([head, Reply::answer(200).body("own")]);
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    assert_eq!(gateway.ask(&ask("HEAD", "/elsewhere")).status, 200);
    assert_eq!(gateway.ask(&get("/elsewhere")).body, b"own");
    assert_ne!(upstream.request(1).connection, upstream.request(2).connection);
}
