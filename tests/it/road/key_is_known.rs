//! What the holder of a known key is told, in the order of the checks: mismatch, replay, unknown, in flight.

use crate::harness::{Answer, Gate, GatewayPlan, Reply, Upstream, post};

/// The field lines that a replay must repeat, in order.
fn kept_lines(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let made_anew =
        ["idempotency-status", "idempotent-replayed", "age", "content-length", "transfer-encoding"];
    let is_kept = |name: &str| !made_anew.contains(&name.to_ascii_lowercase().as_str());
    answer.lines.iter().filter(|(name, _)| is_kept(name)).cloned().collect()
}

#[test]
fn a_replay_is_the_first_answer_byte_for_byte() {
    let first_answer = Reply::answer(201)
        .header("Set-Cookie", "a=1; Path=/")
        .header("Content-Type", "application/octet-stream")
        .header("Set-Cookie", "b=2")
        .header("X-Odd", "  spaced\tout ")
        .header("ETag", "\"v1\"")
        .header("Content-Encoding", "br")
        .header("Set-Cookie", "a=1; Path=/")
        .body([0, 255, 13, 10, 0, 128]);
    let upstream = Upstream::in_turn([first_answer, Reply::answer(500).body("ran again")]);
    let gateway = GatewayPlan::before(&upstream).start();
    let first = gateway.ask(&post("/payments").key("k"));
    let replay = gateway.ask(&post("/payments").key("k"));
    assert_eq!((first.status, &first.body[..]), (201, &[0, 255, 13, 10, 0, 128][..]));
    assert_eq!(first.headers("set-cookie"), ["a=1; Path=/", "b=2", "a=1; Path=/"]);
    assert_eq!((replay.status, &replay.body), (first.status, &first.body));
    assert_eq!(kept_lines(&replay), kept_lines(&first));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_replay_says_that_it_is_one_and_how_old() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let first = gateway.ask(&post("/payments").key("k"));
    let replay = gateway.ask(&post("/payments").key("k"));
    assert_eq!(first.word().as_deref(), Some("executed"));
    assert_eq!((first.header("idempotent-replayed"), first.header("age")), (None, None));
    assert_eq!(replay.word().as_deref(), Some("replayed"));
    assert_eq!(replay.header("idempotent-replayed").as_deref(), Some("true"));
    assert!(replay.header("age").unwrap().parse::<u64>().unwrap() < 20);
}

#[test]
fn a_replay_of_an_answer_that_had_an_age_is_older_by_it() {
    let cases: [(&[&str], u64); 9] = [
        (&["100"], 100),
        (&["0"], 0),
        (&["2147483647"], 2_147_483_647),
        (&["99999999999999999999999"], 1 << 31),
        // What is no age, or more than one, says nothing.
        (&["-1"], 0),
        (&["1.5"], 0),
        (&["100, 100"], 0),
        (&["100", "100"], 0),
        (&[""], 0),
    ];
    let upstream = Upstream::by(move |request| {
        let answer = cases[request.number - 1].0.iter();
        answer.fold(Reply::answer(200), |reply, age| reply.header("Age", age)).body("old")
    });
    let gateway = GatewayPlan::before(&upstream).start();
    for (number, (told, age)) in cases.into_iter().enumerate() {
        let ask = post("/payments").key(&number.to_string());
        assert_eq!(gateway.ask(&ask).headers("age"), told);
        let replayed: u64 = gateway.ask(&ask).header("age").unwrap().parse().unwrap();
        assert!((age..age + 20).contains(&replayed) && replayed <= 1 << 31, "{told:?} became {replayed}");
    }
}

#[test]
fn trailers_are_replayed_and_framing_and_hop_by_hop_fields_are_made_anew() {
    let answer = Reply::answer(200)
        .header("Connection", "X-Hop")
        .header("X-Hop", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Trailer", "X-Sum")
        .chunked(&["pay", "ment"], &[("X-Sum", "42")]);
    let upstream = Upstream::always(answer);
    let gateway = GatewayPlan::before(&upstream).start();
    for word in ["executed", "replayed"] {
        let answer = gateway.ask(&post("/payments").key("k").header("TE", "trailers"));
        assert_eq!(answer.word().as_deref(), Some(word));
        assert_eq!(answer.text(), "payment");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
        assert_eq!((answer.header("x-hop"), answer.header("keep-alive")), (None, None));
    }
}

#[test]
fn an_answer_without_a_body_is_replayed_without_one() {
    let upstream = Upstream::always(Reply::answer(204).end_of_head());
    let gateway = GatewayPlan::before(&upstream).start();
    for word in ["executed", "replayed"] {
        let mut client = gateway.send(&post("/payments").key("k"));
        let answer = client.read();
        assert_eq!((answer.status, answer.word().as_deref()), (204, Some(word)));
        assert_eq!(answer.header("content-length"), None);
        // The connection goes on, so no body was hidden behind the head.
        assert_eq!(client.send(&post("/payments").key("k")).read().status, 204);
    }
}

#[test]
fn redirects_and_refusals_are_answers_too() {
    for status in [200, 202, 301, 303, 307, 400, 402, 403, 404, 409, 410, 422, 500, 501, 502, 504] {
        let moved = Reply::answer(status).header("Location", "/elsewhere").body("first");
        let upstream = Upstream::in_turn([moved, Reply::answer(200).body("ran again")]);
        let gateway = GatewayPlan::before(&upstream).start();
        let first = gateway.ask(&post("/payments").key("k"));
        let replay = gateway.ask(&post("/payments").key("k"));
        assert_eq!((first.status, first.word().as_deref()), (status, Some("executed")));
        assert_eq!((replay.status, replay.text()), (status, "first".into()));
        assert_eq!(replay.header("location").as_deref(), Some("/elsewhere"));
        assert_eq!(upstream.executions(), 1, "{status}");
    }
}

#[test]
fn another_request_with_the_same_key_is_refused_whatever_the_state() {
    let gate = Gate::shut();
    let upstream = Upstream::in_turn([Reply::payment(1).held_by(&gate), Reply::answer(500).reset()]);
    let gateway = GatewayPlan::before(&upstream).start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let other = post("/payments").key("k").body("amount=999");
    let refused = |state: &str| {
        let answer = gateway.ask(&other);
        assert_eq!(answer.problem(), (422, "key-reused".into()), "{state}");
        assert_eq!(answer.word().as_deref(), Some("mismatch"), "{state}");
    };
    refused("in flight");
    gate.open();
    assert_eq!(first.read().status, 201);
    refused("done");
    let lost = gateway.ask(&post("/payments").key("lost"));
    assert_eq!(lost.problem(), (502, "outcome-unknown".into()));
    assert_eq!(gateway.ask(&post("/payments").key("lost").body("x")).problem(), (422, "key-reused".into()));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_retry_of_an_answer_whose_body_was_not_kept_is_told_its_status_and_location() {
    let long = Reply::answer(201).header("Location", "/payments/7").body(vec![b'x'; 2000]);
    let upstream = Upstream::always(long);
    let gateway = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"").start();
    let first = gateway.ask(&post("/payments").key("k"));
    assert_eq!((first.status, first.body.len()), (201, 2000));
    let retry = gateway.ask(&post("/payments").key("k"));
    assert_eq!(retry.problem(), (409, "result-unavailable".into()));
    assert_eq!(retry.word().as_deref(), Some("body-not-kept"));
    assert_eq!(retry.document()["original_status"], 201);
    assert_eq!(retry.document()["location"], "/payments/7");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_retry_of_an_unknown_outcome_is_told_so_and_is_not_run_again() {
    let upstream = Upstream::in_turn([Reply::default().reset(), Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.ask(&post("/payments").key("k"));
    let retry = gateway.ask(&post("/payments").key("k"));
    assert_eq!(retry.problem(), (409, "outcome-unknown".into()));
    assert_eq!(retry.word().as_deref(), Some("unknown"));
    assert_eq!(retry.header("retry-after"), None);
    assert!(retry.document()["operation_ref"].is_string());
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_unknown_outcome_is_run_again_where_the_upstream_is_said_to_be_idempotent_itself() {
    let upstream = Upstream::in_turn([Reply::default().reset(), Reply::payment(2)]);
    let gateway = GatewayPlan::before(&upstream).policy("on_unknown = \"retry\"").start();
    assert_eq!(gateway.ask(&post("/payments").key("k")).status, 502);
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 2");
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 2");
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_duplicate_of_a_request_in_flight_is_told_to_come_again() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let duplicate = gateway.ask(&post("/payments").key("k"));
    assert_eq!(duplicate.problem(), (409, "in-flight".into()));
    assert_eq!(duplicate.header("retry-after").as_deref(), Some("1"));
    assert_eq!(duplicate.word().as_deref(), Some("in-flight"));
    gate.open();
    assert_eq!(first.read().text(), "payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn duplicates_that_wait_all_get_the_first_answer() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).policy("in_flight = \"wait\"").start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let mut waiting: Vec<_> = (0..20).map(|_| gateway.send(&post("/payments").key("k"))).collect();
    gate.open();
    assert_eq!(first.read().text(), "payment 1");
    for client in &mut waiting {
        let answer = client.read();
        assert_eq!((answer.text(), answer.word().as_deref()), ("payment 1".into(), Some("replayed")));
    }
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_duplicate_that_waited_long_enough_is_told_to_come_again() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan =
        GatewayPlan::before(&upstream).policy("in_flight = \"wait\"").policy("wait_timeout = \"100ms\"");
    let gateway = plan.start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (409, "in-flight".into()));
    gate.open();
    assert_eq!(first.read().status, 201);
}

#[test]
fn statuses_and_the_replay_header_can_be_those_of_a_home_made_predecessor() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream)
        .policy("mismatch_status = 409\nin_flight_status = 425\nreplay_header = \"X-Again\"")
        .policy("replay_exclude_headers = [\"Location\"]")
        .start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (425, "in-flight".into()));
    gate.open();
    assert!(first.read().header("location").is_some());
    let replay = gateway.ask(&post("/payments").key("k"));
    assert_eq!(replay.header("x-again").as_deref(), Some("true"));
    assert_eq!((replay.header("idempotent-replayed"), replay.header("location")), (None, None));
    let other = gateway.ask(&post("/payments").key("k").body("other"));
    assert_eq!(other.problem(), (409, "key-reused".into()));
}

#[test]
fn an_answer_is_forgotten_when_its_retention_ends_which_replays_do_not_extend() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("ttl = \"1s\"").start();
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 1");
    let mut last = String::new();
    crate::harness::until("the answer is forgotten in spite of being asked for", || {
        last = gateway.ask(&post("/payments").key("k")).text();
        last != "payment 1"
    });
    assert_eq!(last, "payment 2");
}
