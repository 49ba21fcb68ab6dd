//! What is told beside an answer: interim answers before it, and trailers after it that nobody announced.

use std::io::Write as _;

use crate::harness::{GatewayPlan, Reply, Service, Upstream, get, post};

const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X-Own\r\nX-Own: 1\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn an_interim_answer_reaches_the_caller_at_once_and_so_does_the_next() {
    let (service, gateway) = Service::listening();
    let mut client = gateway.send(&get("/page"));
    let mut stream = service.accept_up_to(b"\r\n\r\n");
    for _ in 0..2 {
        stream.write_all(HINTS).unwrap();
        let hints = client.read();
        assert_eq!((hints.status, hints.header("link").as_deref()), (103, Some("</a.css>")));
        assert_eq!((hints.header("x-own"), hints.header("via").as_deref()), (None, Some("1.1 onceway")));
    }
    stream.write_all(ANSWER).unwrap();
    assert_eq!(client.read().text(), "ok");
}

#[test]
fn an_interim_answer_that_comes_with_its_answer_stands_before_it() {
    let hinted = Reply::default().raw(HINTS).raw(HINTS).raw(ANSWER);
    let upstream = Upstream::always(hinted);
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send(&get("/page"));
        for status in [103, 103] {
            assert_eq!(client.read().status, status);
        }
        assert_eq!(client.read().text(), "ok");
    }
}

#[test]
fn requests_sent_ahead_get_their_interim_answers_each_before_its_own() {
    let upstream = Upstream::always(Reply::default().raw(HINTS).raw(ANSWER));
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..5 {
        client.send(&get("/page"));
    }
    let mut statuses = Vec::new();
    while statuses.iter().filter(|status| **status == 200).count() < 5 {
        statuses.push(client.read().status);
    }
    // One that finds no place before its answer is left out; none ever stands in the wrong one.
    statuses.dedup();
    assert!(statuses.windows(2).all(|pair| pair != [103, 103]), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&200));
}

#[test]
fn a_continue_of_the_service_is_not_passed_on_since_the_gateway_gives_its_own() {
    let upstream = Upstream::always(Reply::default().raw("HTTP/1.1 100 Continue\r\n\r\n").raw(ANSWER));
    let gateway = GatewayPlan::before(&upstream).start();
    assert_eq!(gateway.ask(&get("/page")).status, 200);
}

#[test]
fn an_interim_answer_on_a_guarded_route_is_consumed() {
    let upstream = Upstream::always(Reply::default().raw(HINTS).raw(ANSWER));
    let gateway = GatewayPlan::before(&upstream).start();
    for word in ["executed", "replayed"] {
        let answer = gateway.ask(&post("/payments").key("k"));
        assert_eq!((answer.status, answer.word().as_deref()), (200, Some(word)));
    }
}

#[test]
fn a_caller_that_speaks_http_1_0_is_sent_no_interim_answer() {
    let upstream = Upstream::always(Reply::default().raw(HINTS).raw(ANSWER));
    let gateway = GatewayPlan::before(&upstream).start();
    for expecting in ["", "Expect: 100-continue\r\n"] {
        let mut client = gateway.client();
        let head = format!("PUT /page HTTP/1.0\r\nHost: a\r\n{expecting}Content-Length: 2\r\n\r\n");
        client.say(head.as_bytes()).say(b"hi");
        assert_eq!(client.read().text(), "ok", "{expecting:?}");
    }
}

#[test]
fn trailers_that_nobody_announced_reach_a_caller_that_takes_them() {
    let (summed, named) = (("X-Sum", "42"), ("X-Own", "1"));
    let reply = Reply::answer(200).header("Connection", "X-Own").chunked(&["bo", "dy"], &[summed, named]);
    let upstream = Upstream::always(reply);
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.send(&get("/sum").header("TE", "trailers").header("Connection", "TE")).read();
        assert_eq!((answer.text(), answer.is_whole), ("body".into(), true));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
        let plain = client.send(&get("/sum")).read();
        assert_eq!((plain.text(), plain.trailers.len()), ("body".into(), 0));
    }
}

#[test]
fn trailers_after_a_streamed_answer_reach_its_caller_and_no_one_takes_its_end_for_granted() {
    let long = "x".repeat(3000);
    let reply = Reply::answer(200).chunked(&[&long, &long], &[("X-Sum", "42")]);
    let upstream = Upstream::always(reply);
    let gateway = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"").start();
    let ask = post("/payments").key("k").header("TE", "trailers").header("Connection", "TE");
    let first = gateway.ask(&ask);
    assert_eq!(first.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
    assert_eq!(gateway.ask(&ask).problem(), (409, "result-unavailable".into()));
}
