//! An upstream that speaks HTTP/2: what of its words and failures proves that nothing was processed, and what does not.
//!
//! The server writes frames by hand (`harness/frames.rs`).

use crate::harness::{
    CANCEL, FrameServer, Frames, Gate, Gateway, GatewayPlan, HEADERS, INTERNAL_ERROR, NO_ERROR,
    REFUSED_STREAM, get, post,
};

fn before(server: &FrameServer) -> GatewayPlan {
    GatewayPlan::before_url(&server.url()).upstream("protocol = \"http2\"").server("threads = 1")
}

/// Answers each request with its number.
fn serve(frames: &mut Frames) {
    while let Some(stream) = frames.whole_request() {
        frames.answer(stream, "201", &format!("stream {stream}"));
    }
}

/// Asks once, and expects the answer that says that nothing was processed.
fn expect_released(gateway: &Gateway) {
    let answer = gateway.ask(&post("/payments").key("k"));
    assert_eq!(answer.problem(), (502, "upstream-unreachable".into()), "{}", answer.shown());
    assert_eq!(answer.word().as_deref(), Some("released"));
}

/// Asks once, and expects an answer that nobody knows the outcome of; the retry is told so and does not run.
fn expect_unknown(gateway: &Gateway, server: &FrameServer) {
    for status in [502, 409] {
        let answer = gateway.ask(&post("/payments").key("k"));
        assert_eq!(answer.problem(), (status, "outcome-unknown".into()), "{}", answer.shown());
    }
    assert_eq!(server.requests(), 1);
}

/// What becomes of a guarded request of which the server has read everything when it does this.
fn expect_unknown_after(then: impl Fn(&mut Frames, u32) + Send + Sync + 'static) {
    let server = FrameServer::by(move |frames| {
        if let Some(stream) = frames.whole_request() {
            then(frames, stream);
        }
    });
    expect_unknown(&before(&server).start(), &server);
}

#[test]
fn requests_share_a_connection_and_are_answered_and_replayed_as_over_http_1() {
    let server = FrameServer::by(serve);
    let gateway = before(&server).start();
    for (key, word, body) in
        [("a", "executed", "stream 1"), ("b", "executed", "stream 3"), ("a", "replayed", "stream 1")]
    {
        let answer = gateway.ask(&post("/payments").key(key));
        assert_eq!((answer.status, answer.text()), (201, body.into()), "{}", answer.shown());
        assert_eq!(answer.word().as_deref(), Some(word));
    }
    assert_eq!(gateway.ask(&get("/elsewhere")).text(), "stream 5");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_refused_stream_is_sent_again_unseen() {
    let server = FrameServer::by(|frames| {
        let refused = frames.request();
        frames.reset(refused.unwrap_or(1), REFUSED_STREAM);
        serve(frames);
    });
    let answer = before(&server).start().ask(&post("/payments").key("k"));
    assert_eq!((answer.status, answer.word().as_deref()), (201, Some("executed")), "{}", answer.shown());
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_stream_that_is_always_refused_releases_the_key() {
    let server = FrameServer::by(|frames| {
        while let Some(stream) = frames.request() {
            frames.reset(stream, REFUSED_STREAM);
        }
    });
    let gateway = before(&server).start();
    expect_released(&gateway);
    assert_eq!(server.requests(), 3, "it was tried a few times");
    expect_released(&gateway);
}

#[test]
fn a_goaway_below_our_stream_is_proof_and_the_request_goes_to_another_connection() {
    let server = FrameServer::by(|frames| {
        if frames.connection == 1 {
            frames.whole_request();
            frames.goaway(0, NO_ERROR);
            return frames.await_end();
        }
        serve(frames);
    });
    let answer = before(&server).start().ask(&post("/payments").key("k"));
    assert_eq!((answer.status, answer.word().as_deref()), (201, Some("executed")), "{}", answer.shown());
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_goaway_above_our_stream_lets_its_answer_come() {
    let server = FrameServer::by(|frames| {
        let stream = frames.whole_request().unwrap_or(1);
        frames.goaway(stream, NO_ERROR);
        frames.answer(stream, "201", "late");
        frames.await_end();
    });
    let gateway = before(&server).start();
    for (key, connections) in [("a", 1), ("b", 2)] {
        let answer = gateway.ask(&post("/payments").key(key));
        assert_eq!((answer.status, answer.text()), (201, "late".into()), "{}", answer.shown());
        assert_eq!(server.connections(), connections, "what says goodbye gets no more requests");
    }
}

#[test]
fn a_goaway_above_our_stream_proves_nothing_when_the_connection_ends() {
    for last in [1, 7, 0x7fff_ffff] {
        expect_unknown_after(move |frames, _| frames.goaway(last, NO_ERROR));
    }
}

#[test]
fn a_goaway_above_our_stream_with_an_error_proves_nothing() {
    expect_unknown_after(|frames, stream| frames.goaway(stream, INTERNAL_ERROR));
}

#[test]
fn a_reset_with_any_other_code_leaves_the_outcome_unknown() {
    for code in [NO_ERROR, INTERNAL_ERROR, CANCEL, 0xb, 0xdead_beef] {
        expect_unknown_after(move |frames, stream| {
            frames.reset(stream, code);
            frames.await_end();
        });
    }
}

#[test]
fn the_end_of_the_connection_leaves_the_outcome_unknown() {
    expect_unknown_after(|_, _| {});
}

#[test]
fn a_rule_broken_by_the_server_leaves_the_outcome_unknown() {
    expect_unknown_after(|frames, _| {
        frames.send(0x0, 0, 0, b"data of no stream");
        frames.await_end();
    });
    expect_unknown_after(|frames, stream| {
        frames.send(HEADERS, 0x4, stream, b"\xff\xff\xff\xff\xff\xff\xff\xff");
        frames.await_end();
    });
    expect_unknown_after(|frames, stream| {
        frames.head(stream, "201", &[("connection", "close")]);
        frames.await_end();
    });
}

#[test]
fn an_answer_whose_body_is_cut_off_is_never_taken_for_whole() {
    for code in [NO_ERROR, CANCEL, REFUSED_STREAM] {
        expect_unknown_after(move |frames, stream| {
            frames.head(stream, "201", &[]);
            frames.data(stream, "half of");
            frames.reset(stream, code);
            frames.await_end();
        });
    }
    expect_unknown_after(|frames, stream| {
        frames.head(stream, "201", &[]);
        frames.data(stream, "half of");
        frames.goaway(0, NO_ERROR);
    });
}

#[test]
fn a_length_that_is_not_one_number_or_not_kept_makes_an_answer_that_is_none() {
    for lengths in [
        &[("content-length", "4"), ("content-length", "4")][..],
        &[("content-length", "+4")],
        &[("content-length", "5")],
    ] {
        expect_unknown_after(move |frames, stream| {
            frames.head(stream, "201", lengths);
            frames.send(0x0, 0x1, stream, b"body");
            frames.await_end();
        });
    }
}

#[test]
fn interim_answers_are_consumed_and_do_not_go_on_for_ever() {
    let server = FrameServer::by(|frames| {
        let stream = frames.whole_request().unwrap_or(1);
        frames.head(stream, "103", &[("link", "</style.css>")]);
        frames.answer(stream, "201", "paid");
        frames.await_end();
    });
    let answer = before(&server).start().ask(&post("/payments").key("k"));
    assert_eq!((answer.status, answer.text(), answer.header("link")), (201, "paid".into(), None));
    expect_unknown_after(|frames, stream| {
        for _ in 0..100 {
            frames.head(stream, "103", &[]);
        }
        frames.await_end();
    });
}

#[test]
fn a_request_that_finds_no_free_stream_goes_to_another_connection() {
    let gate = Gate::shut();
    let held = gate.latch();
    let server = FrameServer::limiting(1, move |frames| {
        while let Some(stream) = frames.whole_request() {
            if frames.connection == 1 && stream > 1 {
                held.wait();
            }
            frames.answer(stream, "201", &format!("on {}", frames.connection));
        }
    });
    let gateway = before(&server).start();
    assert_eq!(gateway.ask(&get("/")).text(), "on 1", "by now the limit is known");
    let mut first = gateway.send(&get("/first"));
    crate::harness::until("the first has come", || server.requests() == 2);
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "on 2");
    gate.open();
    assert_eq!(first.read().text(), "on 1");
}

#[test]
fn a_connection_that_died_while_idle_costs_nothing() {
    let server = FrameServer::by(|frames| {
        let stream = frames.whole_request().unwrap_or(1);
        frames.answer(stream, "201", "paid");
    });
    let gateway = before(&server).start();
    for key in ["a", "b", "c"] {
        let answer = gateway.ask(&post("/payments").key(key));
        assert_eq!(answer.word().as_deref(), Some("executed"), "{}", answer.shown());
    }
    assert_eq!((server.requests(), server.connections()), (3, 3));
}

#[test]
fn a_request_that_is_given_up_ends_its_stream_and_no_other() {
    let server = FrameServer::by(|frames| {
        let Some(first) = frames.whole_request() else { return };
        let Some(second) = frames.whole_request() else { return };
        assert!(frames.await_reset(), "stream {first} is reset, the connection stays");
        frames.answer(second, "201", "second");
        frames.await_end();
    });
    let gateway = before(&server).start();
    let first = gateway.send(&get("/first"));
    crate::harness::until("the first has come", || server.requests() == 1);
    let mut second = gateway.send(&post("/payments").key("k"));
    crate::harness::until("the second has come", || server.requests() == 2);
    first.leave();
    assert_eq!(second.read().text(), "second");
    assert_eq!(server.connections(), 1);
}
