//! HTTP/2 with callers: the contract holds as over HTTP/1.1, and no client gets more than its share.

use std::collections::HashSet;

use crate::harness::caller_frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WHOLE, WINDOW_UPDATE, asking, block, frame, getting, posting,
};
use crate::harness::{Gate, GatewayPlan, Reply, Upstream, get, post, until};

const NO_ERROR: u32 = 0;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ENHANCE_YOUR_CALM: u32 = 11;

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL)
}

/// Odd numbers, as many as asked for.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| number * 2 + 1)
}

#[test]
fn one_key_by_http_1_and_by_http_2_is_one_record() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    frames.say(&posting(1, "/payments?a=%20b", "by-2", "amount=100"));
    assert_eq!(frames.fate_of(1), Fate::Answered(201));
    assert_eq!(gateway.ask(&post("/payments?a=%20b").key("by-2")).word().as_deref(), Some("replayed"));
    gateway.ask(&post("/payments").key("by-1"));
    frames.say(&posting(3, "/payments", "by-1", "amount=100"));
    assert_eq!(frames.fate_of(3), Fate::Answered(201));
    frames.say(&posting(5, "/payments", "by-1", "amount=999"));
    assert_eq!(frames.fate_of(5), Fate::Answered(422));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_request_reaches_the_upstream_as_one_of_http_1_would() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    let more = [("te", "trailers"), ("x-many", "2"), ("x-many", "1"), ("cookie", "a=1"), ("cookie", "b=2")];
    let head = block(&asking("POST", "/else//where?q=%2F", &more));
    frames.say(&[frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, b"body")].concat());
    assert_eq!(frames.fate_of(1), Fate::Answered(201));
    let received = upstream.request(1);
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/else//where?q=%2F"));
    assert_eq!(received.header("host").as_deref(), Some("api.test"));
    assert_eq!(received.headers("x-many"), ["2", "1"]);
    assert_eq!(received.header("cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!(received.body, b"body");
    assert!(received.header("via").unwrap().starts_with('2'));
}

#[test]
fn a_guarded_request_taken_back_before_its_body_is_whole_claims_nothing() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    let whole = posting(1, "/payments", "k", "amount=100");
    frames.say(&whole[..whole.len() - 12]);
    let head_only =
        frame(HEADERS, END_HEADERS, 3, &block(&asking("POST", "/payments", &[("idempotency-key", "l")])));
    drop(frames);
    let mut frames = Frames::connect(gateway.listen_addr());
    frames.say(&[getting(1, "/elsewhere"), head_only, frame(DATA, 0, 3, b"amo"), reset(3)].concat());
    assert_eq!(frames.fate_of(1), Fate::Answered(201));
    for key in ["k", "l"] {
        assert_eq!(gateway.ask(&post("/payments").key(key)).word().as_deref(), Some("executed"));
    }
    assert_eq!(upstream.executions(), 3);
}

#[test]
fn a_guarded_request_taken_back_while_it_is_forwarded_goes_on_to_its_end() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    frames.say(&posting(1, "/payments", "k", "amount=100"));
    upstream.request(1);
    frames.say(&reset(1));
    gate.open();
    until("it is recorded", || {
        gateway.ask(&post("/payments").key("k")).word().as_deref() == Some("replayed")
    });
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn requests_taken_back_in_the_same_write_reach_no_upstream() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut taken_back = 0;
    for _ in 0..5 {
        let mut frames = Frames::connect(gateway.listen_addr());
        let pairs: Vec<u8> =
            streams(60).flat_map(|stream| [getting(stream, "/rapid"), reset(stream)].concat()).collect();
        frames.say(&pairs);
        taken_back += 60;
        frames.say(&getting(1001, "/after"));
        frames.fate_of(1001);
    }
    let upstreams = upstream.targets();
    assert!(!upstreams.contains(&"/rapid".to_owned()), "of {taken_back}: {upstreams:?}");
}

#[test]
fn requests_taken_back_one_after_the_other_reach_no_upstream() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("resets_max = 1000").start();
    let mut frames = Frames::connect(gateway.listen_addr());
    for stream in streams(300) {
        frames.say(&getting(stream, "/rapid"));
        frames.say(&reset(stream));
    }
    frames.say(&getting(2001, "/after"));
    assert_eq!(frames.fate_of(2001), Fate::Answered(201));
    assert_eq!(upstream.targets(), ["/after"]);
}

#[test]
fn requests_that_a_client_has_reset_by_its_own_errors_reach_no_upstream() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    for stream in streams(50) {
        // RFC 9113 §6.9: no increment is an error of the stream.
        frames.say(&[getting(stream, "/rapid"), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat());
    }
    frames.say(&getting(1001, "/after"));
    frames.fate_of(1001);
    assert!(!upstream.targets().contains(&"/rapid".to_owned()));
}

#[test]
fn a_client_that_takes_too_many_requests_back_is_let_go_and_told_in_the_log() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("resets_max = 20").start();
    let mut frames = Frames::connect(gateway.listen_addr());
    for stream in streams(21) {
        frames.say(&[getting(stream, "/rapid"), reset(stream)].concat());
    }
    assert_eq!(frames.end(), Some(ENHANCE_YOUR_CALM));
    until("the log tells it", || gateway.log().contains("server.resets_max"));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn floods_of_frames_that_serve_no_request_end_the_connection() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let open =
        frame(HEADERS, END_HEADERS, 1, &block(&asking("POST", "/payments", &[("idempotency-key", "k")])));
    for (name, first, flood) in [
        ("PING", vec![], frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", vec![], frame(SETTINGS, 0, 0, &[])),
        ("empty DATA", open.clone(), frame(DATA, 0, 1, &[])),
        ("CONTINUATION", frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 1, &[])),
        ("WINDOW_UPDATE", open, frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
    ] {
        let mut frames = Frames::connect(gateway.listen_addr());
        frames.say(&[first, flood.repeat(3000)].concat());
        let code = frames.end();
        assert!(matches!(code, Some(ENHANCE_YOUR_CALM) | None), "{name}: {code:?}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn no_more_requests_at_once_than_may_be_are_taken() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).server("streams_max = 3").start();
    let mut frames = Frames::connect(gateway.listen_addr());
    let settings = frames.next_of(SETTINGS).unwrap();
    let told = settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 3]);
    assert!(told, "{settings:?}");
    frames.say(&streams(4).flat_map(|stream| getting(stream, "/elsewhere")).collect::<Vec<u8>>());
    // RFC 9113 §8.7: REFUSED_STREAM says that it may be sent again.
    assert_eq!(frames.fate_of(7), Fate::Reset(7));
    // All three are at work before the first is answered, in whatever order they are.
    upstream.request(3);
    gate.open();
    assert_eq!(frames.fate_of(5), Fate::Answered(201));
    assert_eq!(upstream.executions(), 3);
}

#[test]
fn a_head_that_is_too_large_or_has_too_many_fields_is_refused_as_over_http_1() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .server("header_bytes_max = \"8KiB\"\nheader_count_max = 20\ntarget_bytes_max = \"4KiB\"")
        .start();
    let long = "x".repeat(9000);
    let large = block(&asking("GET", "/payments", &[("x-large", &long)]));
    let many = block(&asking("GET", "/payments", &[("x-many", "1"); 30]));
    for head in [large, many] {
        let mut frames = Frames::connect(gateway.listen_addr());
        frames.say(&frame(HEADERS, WHOLE, 1, &head));
        assert!(matches!(frames.fate_of(1), Fate::Answered(431 | 400) | Fate::Reset(_) | Fate::GoneAway(_)));
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_head_that_is_not_finished_in_time_ends_the_connection() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("header_timeout = \"300ms\"").start();
    let mut frames = Frames::connect(gateway.listen_addr());
    frames.say(&frame(HEADERS, END_STREAM, 1, &block(&asking("GET", "/elsewhere", &[]))));
    assert_eq!(frames.end(), Some(ENHANCE_YOUR_CALM));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_connection_on_which_nothing_is_asked_ends_in_order_and_one_that_waits_for_an_answer_does_not() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).server("idle_timeout = \"300ms\"").start();
    let mut busy = Frames::connect(gateway.listen_addr());
    busy.say(&getting(1, "/elsewhere"));
    let mut idle = Frames::connect(gateway.listen_addr());
    idle.say(&frame(PING, 0, 0, &[0; 8]));
    assert_eq!(idle.end(), Some(NO_ERROR));
    gate.open();
    assert_eq!(busy.fate_of(1), Fate::Answered(201));
}

#[test]
fn an_answer_for_which_a_client_makes_no_room_is_given_up_and_the_others_are_not() {
    let upstream = Upstream::always(Reply::answer(200).body("x".repeat(200_000)));
    let gateway = GatewayPlan::before(&upstream).server("write_timeout = \"400ms\"").start();
    let mut frames = Frames::connect(gateway.listen_addr());
    frames.say(&frame(WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0]));
    frames.say(&getting(1, "/shut"));
    let given_up = frames.next_of(RST_STREAM).unwrap();
    assert_eq!((given_up.stream, given_up.number_at(0)), (1, 8));
    frames.say(&[getting(3, "/open"), frame(WINDOW_UPDATE, 0, 3, &[0, 0x10, 0, 0])].concat());
    assert_eq!(frames.fate_of(3), Fate::Answered(200));
    let ended = std::iter::from_fn(|| frames.next()).any(|frame| frame.stream == 3 && frame.ends_stream());
    assert!(ended);
}

#[test]
fn a_client_that_reads_nothing_is_cut_though_it_says_that_it_has_room() {
    let upstream = Upstream::always(Reply::answer(200).body("x".repeat(30_000_000)));
    let gateway = GatewayPlan::before(&upstream).server("write_timeout = \"400ms\"").start();
    let mut frames = Frames::connect(gateway.listen_addr());
    let wide = [0x7f, 0, 0, 0];
    frames.say(
        &[frame(WINDOW_UPDATE, 0, 0, &wide), getting(1, "/"), frame(WINDOW_UPDATE, 0, 1, &wide)].concat(),
    );
    until("the log tells it", || gateway.log().contains("server.write_timeout"));
    assert!(!std::iter::from_fn(|| frames.next()).any(|frame| frame.ends_stream()));
}

#[test]
fn many_requests_at_once_on_one_connection_are_each_answered() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    let asked: Vec<u8> =
        streams(100).flat_map(|stream| posting(stream, "/payments", &format!("k{stream}"), "x")).collect();
    frames.say(&asked);
    let mut open: HashSet<u32> = streams(100).collect();
    while !open.is_empty() {
        let frame = frames.next().expect("an answer to each");
        assert_ne!(frame.kind, RST_STREAM);
        if frame.ends_stream() {
            open.remove(&frame.stream);
        }
    }
    assert_eq!(upstream.executions(), 100);
}

#[test]
fn a_client_is_told_to_go_when_the_gateway_stops_and_gets_the_answers_it_waits_for() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let mut gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    frames.say(&posting(1, "/payments", "k", "amount=100"));
    upstream.request(1);
    gateway.signal("TERM");
    let goaway = frames.next_of(GOAWAY).unwrap();
    assert_eq!(goaway.number_at(4), NO_ERROR);
    gate.open();
    assert_eq!(frames.fate_of(1), Fate::Answered(201));
    drop(frames);
    assert_eq!(gateway.exit_code(), Some(0));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_has_no_fields_of_a_hop_and_a_plain_get_works_beside_http_1() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    frames.say(&getting(1, "/elsewhere"));
    let head = frames.next_of(HEADERS).unwrap();
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!head.payload.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
    }
    assert_eq!(gateway.ask(&get("/elsewhere")).status, 201);
}
