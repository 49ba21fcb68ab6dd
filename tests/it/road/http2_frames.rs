//! HTTP/2 said frame by frame: what breaks RFC 9113 gets the error that its section names, and nothing of it reaches
//! the upstream.

use crate::harness::caller_frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, asking, block, frame, getting, posting,
};
use crate::harness::{GatewayPlan, Upstream, get};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// The head of a request on stream 1 that ends it.
fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(fields))
}

fn get_with(more: &[(&str, &str)]) -> Vec<u8> {
    head(&asking("GET", "/payments", more))
}

/// Says each on a connection of its own, and compares what becomes of stream 1.
fn meet(cases: &[(&str, Vec<u8>, &[Fate])]) {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let other = cases.iter().filter_map(|(claim, bytes, fates)| {
        let mut frames = Frames::connect(gateway.listen_addr());
        frames.say(bytes);
        let fate = frames.fate_of(1);
        (!fates.contains(&fate)).then(|| format!("{claim}: {fate:?}"))
    });
    assert_eq!(other.collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(upstream.executions(), 0, "nothing of them reaches the upstream");
}

/// §5.4.2: an error of a stream may be taken for one of the connection.
const MALFORMED: &[Fate] =
    &[Fate::Reset(PROTOCOL_ERROR), Fate::Answered(400), Fate::GoneAway(PROTOCOL_ERROR)];
const BROKEN: &[Fate] = &[Fate::GoneAway(PROTOCOL_ERROR)];

#[test]
fn a_malformed_request_is_refused_by_itself() {
    let (scheme, authority, path) = ((":scheme", "http"), (":authority", "api.test"), (":path", "/"));
    meet(&[
        ("§8.2.1 upper case in a name", get_with(&[("X-Upper", "1")]), MALFORMED),
        ("§8.2.2 connection", get_with(&[("connection", "close")]), MALFORMED),
        ("§8.2.2 keep-alive", get_with(&[("keep-alive", "1")]), MALFORMED),
        ("§8.2.2 proxy-connection", get_with(&[("proxy-connection", "close")]), MALFORMED),
        ("§8.2.2 transfer-encoding", get_with(&[("transfer-encoding", "chunked")]), MALFORMED),
        ("§8.2.2 upgrade", get_with(&[("upgrade", "websocket")]), MALFORMED),
        ("§8.2.2 te other than trailers", get_with(&[("te", "gzip")]), MALFORMED),
        ("§8.3 an unknown pseudo-field", get_with(&[(":odd", "1")]), MALFORMED),
        ("§8.3 one that belongs to answers", get_with(&[(":status", "200")]), MALFORMED),
        (
            "§8.3 a pseudo-field behind others",
            head(&[(":method", "GET"), scheme, authority, ("x-a", "1"), path]),
            MALFORMED,
        ),
        ("§8.3.1 no method", head(&[scheme, authority, path]), MALFORMED),
        ("§8.3.1 no scheme", head(&[(":method", "GET"), authority, path]), MALFORMED),
        ("§8.3.1 no path", head(&[(":method", "GET"), scheme, authority]), MALFORMED),
        ("§8.3.1 an empty path", head(&asking("GET", "", &[])), MALFORMED),
        ("§8.3.1 two methods", get_with(&[(":method", "GET")]), MALFORMED),
        ("§8.3.1 two paths", get_with(&[(":path", "/")]), MALFORMED),
        ("§8.3.1 no authority and no host", head(&[(":method", "GET"), scheme, path]), MALFORMED),
        ("§8.3.1 an authority other than Host", get_with(&[("host", "other.test")]), MALFORMED),
        ("§8.3.1 userinfo", head(&[(":method", "GET"), scheme, (":authority", "a@b"), path]), MALFORMED),
        ("RFC 9110 §9.1 a lower-case method", head(&asking("post", "/payments", &[])), MALFORMED),
        ("§8.3.1 a path that is none", head(&asking("GET", "payments", &[])), MALFORMED),
        ("§8.3.1 an asterisk without OPTIONS", head(&asking("GET", "*", &[])), MALFORMED),
        ("§8.2.1 a line break in a value", get_with(&[("x-a", "1\r\nx-b: 2")]), MALFORMED),
        ("§8.2.1 NUL in a value", get_with(&[("x-a", "1\0")]), MALFORMED),
        ("§8.5 CONNECT with a path", head(&asking("CONNECT", "/", &[])), MALFORMED),
    ]);
}

#[test]
fn a_connect_is_answered_405() {
    meet(&[(
        "§8.5",
        frame(HEADERS, END_HEADERS, 1, &block(&[(":method", "CONNECT"), (":authority", "a:443")])),
        &[Fate::Answered(405)],
    )]);
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_refused() {
    let announced = |length: &'static str| {
        let fields = [("content-length", length), ("idempotency-key", "k")];
        frame(HEADERS, END_HEADERS, 1, &block(&asking("POST", "/payments", &fields)))
    };
    let data = |body: &[u8]| frame(DATA, END_STREAM, 1, body);
    meet(&[
        ("§8.1.1 shorter", [announced("10"), data(b"short")].concat(), MALFORMED),
        ("§8.1.1 longer", [announced("2"), data(b"longer")].concat(), MALFORMED),
        (
            "§8.1.1 in several frames",
            [announced("9"), frame(DATA, 0, 1, b"long"), data(b"enough")].concat(),
            MALFORMED,
        ),
        ("§8.1.1 none", get_with(&[("content-length", "1")]), MALFORMED),
        ("RFC 9110 §8.6 no number", [announced("ten"), data(b"ten")].concat(), MALFORMED),
    ]);
}

#[test]
fn frames_where_they_may_not_be_end_the_connection() {
    let open =
        frame(HEADERS, END_HEADERS, 1, &block(&asking("POST", "/payments", &[("idempotency-key", "k")])));
    let unfinished = frame(HEADERS, END_STREAM, 1, &block(&asking("GET", "/payments", &[])));
    meet(&[
        ("§5.1 DATA on a stream that is idle", frame(DATA, END_STREAM, 1, b"x"), BROKEN),
        ("§5.1 RST_STREAM on one", frame(RST_STREAM, 0, 1, &[0; 4]), BROKEN),
        ("§5.1 WINDOW_UPDATE on one", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), BROKEN),
        ("§5.1 CONTINUATION on one", frame(CONTINUATION, END_HEADERS, 1, b""), BROKEN),
        ("§5.1.1 an even stream", getting(2, "/payments"), BROKEN),
        ("§6.1 DATA on no stream", frame(DATA, 0, 0, b"x"), BROKEN),
        (
            "§6.2 HEADERS on no stream",
            frame(HEADERS, WHOLE, 0, &block(&asking("GET", "/payments", &[]))),
            BROKEN,
        ),
        (
            "§6.2 another frame within a block",
            [unfinished.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
            BROKEN,
        ),
        ("§6.2 another stream within a block", [unfinished, getting(3, "/payments")].concat(), BROKEN),
        ("§6.4 RST_STREAM on no stream", frame(RST_STREAM, 0, 0, &[0; 4]), BROKEN),
        ("§6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), BROKEN),
        (
            "§6.6 PUSH_PROMISE of a client",
            [open.clone(), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])].concat(),
            BROKEN,
        ),
        ("§6.7 PING on a stream", frame(PING, 0, 1, &[0; 8]), BROKEN),
        ("§6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), BROKEN),
        ("§6.9 no increment for the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), BROKEN),
        ("§6.1 more padding than there is", [open, frame(DATA, 8, 1, &[9, 0])].concat(), BROKEN),
    ]);
}

#[test]
fn frames_and_settings_of_a_wrong_size_or_value_end_the_connection() {
    const SIZE: &[Fate] = &[Fate::GoneAway(FRAME_SIZE_ERROR)];
    let setting =
        |name: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, name][..], &value.to_be_bytes()].concat());
    meet(&[
        ("§4.2 longer than may be", frame(DATA, 0, 1, &vec![0; 16_385]), SIZE),
        ("§6.4 RST_STREAM", [getting(3, "/"), frame(RST_STREAM, 0, 3, &[0; 3])].concat(), SIZE),
        ("§6.5 SETTINGS", frame(SETTINGS, 0, 0, &[0; 5]), SIZE),
        ("§6.5 an ACK with settings", frame(SETTINGS, 1, 0, &[0; 6]), SIZE),
        ("§6.7 PING", frame(PING, 0, 0, &[0; 7]), SIZE),
        ("§6.9 WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE),
        ("§6.5.2 ENABLE_PUSH", setting(2, 2), BROKEN),
        ("§6.5.2 INITIAL_WINDOW_SIZE", setting(4, 1 << 31), &[Fate::GoneAway(FLOW_CONTROL_ERROR)]),
        ("§6.5.2 MAX_FRAME_SIZE, too small", setting(5, 16_383), BROKEN),
        ("§6.5.2 MAX_FRAME_SIZE, too large", setting(5, 1 << 24), BROKEN),
        (
            "§6.9.1 a window beyond its limit",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            &[Fate::GoneAway(FLOW_CONTROL_ERROR)],
        ),
        (
            "§4.3 a block that cannot be decompressed",
            frame(HEADERS, WHOLE, 1, &[0xff; 20]),
            &[Fate::GoneAway(COMPRESSION_ERROR), Fate::GoneAway(PROTOCOL_ERROR)],
        ),
    ]);
}

#[test]
fn what_comes_on_a_stream_that_was_ended_is_refused() {
    const CLOSED: &[Fate] =
        &[Fate::Reset(STREAM_CLOSED), Fate::GoneAway(STREAM_CLOSED), Fate::GoneAway(PROTOCOL_ERROR)];
    let twice = [getting(1, "/elsewhere"), frame(DATA, END_STREAM, 1, b"x")].concat();
    let again = [getting(1, "/elsewhere"), getting(1, "/elsewhere")].concat();
    let lower = [getting(3, "/elsewhere"), getting(1, "/elsewhere")].concat();
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for (claim, bytes) in [("§5.1 DATA", twice), ("§5.1 HEADERS", again), ("§5.1.1 a lower number", lower)]
    {
        let mut frames = Frames::connect(gateway.listen_addr());
        frames.say(&bytes);
        let fate = frames.fate_of(1);
        assert!(CLOSED.contains(&fate), "{claim}: {fate:?}");
    }
}

#[test]
fn unknown_frames_settings_flags_and_priorities_are_no_error() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    let priority = [&[0, 0, 0, 0][..], &[15]].concat();
    frames.say(
        &[
            frame(0x42, 0xff, 0, b"whatever"),
            frame(SETTINGS, 0, 0, &[0x0a, 0x0a, 0, 0, 0, 1]),
            frame(PRIORITY, 0, 1, &priority),
            frame(HEADERS, WHOLE | 0x20, 1, &[priority, block(&asking("GET", "/elsewhere", &[]))].concat()),
        ]
        .concat(),
    );
    assert_eq!(frames.fate_of(1), Fate::Answered(201));
    frames.say(&frame(PING, 0, 0, b"whoknows"));
    let pong = frames.next_of(PING).unwrap();
    assert_eq!((pong.flags, &pong.payload[..]), (1, &b"whoknows"[..]));
}

#[test]
fn a_connection_that_does_not_begin_as_it_must_is_closed() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for bytes in [
        [PREFACE, &getting(1, "/payments")].concat(),
        [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
    ] {
        let mut frames = Frames::silent(gateway.listen_addr());
        frames.say(&bytes);
        frames.end();
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_preface_where_http_2_is_not_spoken_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("http2 = false").start();
    let mut client = gateway.client();
    client.say(&[PREFACE, &posting(1, "/payments", "k", "x")].concat());
    assert!(client.try_read().is_none_or(|answer| matches!(answer.status, 400 | 505)));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_pseudo_field_in_trailers_makes_a_request_malformed() {
    let begun = |path: &str| {
        let open = frame(HEADERS, END_HEADERS, 1, &block(&asking("POST", path, &[("idempotency-key", "k")])));
        [open, frame(DATA, 0, 1, b"amount=100")].concat()
    };
    let (literal, indexed) = (block(&[("x-sum", "1"), (":path", "/else")]), vec![0x84]);
    let split =
        [frame(HEADERS, END_STREAM, 1, &literal[..9]), frame(CONTINUATION, END_HEADERS, 1, &literal[9..])];
    let padded = [&[2], &literal[..], &[0, 0]].concat();
    let trailers = |block: &[u8]| frame(HEADERS, WHOLE, 1, block);
    meet(&[
        ("§8.1 written out", [begun("/payments"), trailers(&literal)].concat(), MALFORMED),
        ("§8.1 by its number", [begun("/payments"), trailers(&indexed)].concat(), MALFORMED),
        ("§8.1 over two frames", [begun("/payments"), split.concat()].concat(), MALFORMED),
        ("§8.1 padded", [begun("/payments"), frame(HEADERS, WHOLE | 8, 1, &padded)].concat(), MALFORMED),
    ]);
}

#[test]
fn nothing_whole_reaches_the_upstream_of_a_request_whose_trailers_hold_a_pseudo_field() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut frames = Frames::connect(gateway.listen_addr());
    let open = frame(HEADERS, END_HEADERS, 1, &block(&asking("POST", "/elsewhere", &[])));
    frames.say(&[open, frame(DATA, 0, 1, b"amount=100")].concat());
    frames.say(&frame(HEADERS, WHOLE, 1, &block(&[(":path", "/else")])));
    assert!(MALFORMED.contains(&frames.fate_of(1)));
    assert_eq!(gateway.ask(&get("/after")).status, 201);
    assert_eq!(upstream.targets(), ["/after"]);
}

#[test]
fn what_would_frame_or_lead_a_request_twice_is_refused() {
    let (head, twice) =
        (asking("POST", "/elsewhere", &[("content-length", "2"), ("content-length", "2")]), b"ok");
    let twice = [frame(HEADERS, END_HEADERS, 1, &block(&head)), frame(DATA, END_STREAM, 1, twice)].concat();
    meet(&[
        ("RFC 9110 §8.6 two lengths, though alike", twice, MALFORMED),
        ("RFC 9112 §3.2 a target that is no ASCII", getting(1, "/else\u{ff0f}where"), MALFORMED),
        ("RFC 9112 §3.2 a blank in a target", getting(1, "/else where"), MALFORMED),
        ("RFC 9112 §3.2 a line end in a target", getting(1, "/else\r\nx: y"), MALFORMED),
        ("§8.2.1 a line end in a value", get_with(&[("x-a", "1\r\nx-b: 2")]), MALFORMED),
        ("§8.2.1 a NUL in a value", get_with(&[("x-a", "1\0")]), MALFORMED),
        ("§8.2.1 a blank in a name", get_with(&[("x a", "1")]), MALFORMED),
        ("§8.2.1 a colon in a name", get_with(&[("x-a:b", "1")]), MALFORMED),
    ]);
}
