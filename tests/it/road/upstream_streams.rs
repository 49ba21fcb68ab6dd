//! What passes through to a service that speaks HTTP/2: heads, bodies in both directions at once, trailers, gRPC.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use crate::harness::{Echo, Gateway, GatewayPlan, get, over_http2, post, rest};

fn before(echo: &Echo) -> Gateway {
    GatewayPlan::before_url(&echo.url()).upstream("protocol = \"http2\"").server("threads = 1").start()
}

fn grpc(path: &str) -> Request<()> {
    let request = Request::builder().method(Method::POST).version(Version::HTTP_2);
    let request = request.uri(format!("http://api.test{path}")).header("content-type", "application/grpc");
    request.header("te", "trailers").header("grpc-timeout", "1S").body(()).unwrap()
}

#[test]
fn the_callers_host_and_target_are_told_and_fields_of_http_1_are_not() {
    let echo = Echo::start();
    let gateway = before(&echo);
    let ask = get("/a%2Fb//c?q=%20&&").header("TE", "trailers").header("Connection", "keep-alive, X-Hop");
    gateway.ask(&ask.header("Keep-Alive", "timeout=5").header("X-Hop", "1").header("Cookie", "a=1; b=2"));
    let head = echo.head();
    assert_eq!(head.uri().authority().map(http::uri::Authority::as_str), Some("api.test"));
    assert_eq!(head.uri().scheme_str(), Some("http"));
    assert_eq!(head.uri().path_and_query().map(http::uri::PathAndQuery::as_str), Some("/a%2Fb//c?q=%20&&"));
    for name in ["host", "connection", "keep-alive", "transfer-encoding", "x-hop"] {
        assert!(!head.headers().contains_key(name), "{name}");
    }
    assert_eq!(
        (&head.headers()["te"], &head.headers()["cookie"]),
        (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("a=1; b=2"))
    );
}

#[test]
fn a_guarded_request_is_told_with_its_length_and_its_answer_kept_with_its_trailers() {
    let echo = Echo::start();
    let gateway = before(&echo);
    for word in ["executed", "replayed"] {
        let answer = gateway.ask(&post("/payments").key("k").header("TE", "trailers"));
        assert_eq!((answer.text(), answer.word().as_deref()), ("amount=100".into(), Some(word)));
        assert_eq!(answer.trailers, [("grpc-status".to_owned(), b"0".to_vec())]);
    }
    assert_eq!(echo.head().headers()["content-length"], "10");
}

#[test]
fn trailers_of_a_request_over_http_1_reach_a_service_over_http_2() {
    let echo = Echo::start();
    let ask = post("/elsewhere").header("TE", "trailers").header("Trailer", "X-Sum");
    let answer = before(&echo).ask(&ask.chunked(&["some", "thing"], &[("X-Sum", "42")]));
    assert_eq!(answer.text(), "something");
    assert!(answer.trailers.contains(&("x-sum".to_owned(), b"42".to_vec())), "{:?}", answer.trailers);
}

#[test]
fn a_grpc_stream_goes_both_ways_at_once() {
    let echo = Echo::start();
    let gateway = before(&echo);
    let (messages, trailers) = over_http2(gateway.listen_addr(), |mut sender| async move {
        let (answer, mut out) = sender.send_request(grpc("/pay.Payments/Watch"), false).unwrap();
        // The answer's head comes while the request has not said a word of its body.
        let mut body = answer.await.unwrap().into_body();
        let mut messages = Vec::new();
        for message in ["one", "two", "three"] {
            out.send_data(Bytes::from_static(message.as_bytes()), false).unwrap();
            let echoed = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(echoed.len()).unwrap();
            messages.push(String::from_utf8(echoed.to_vec()).unwrap());
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        out.send_trailers(trailers).unwrap();
        let (left, trailers) = rest(body).await;
        assert!(left.is_empty());
        (messages, trailers.unwrap())
    });
    assert_eq!(messages, ["one", "two", "three"]);
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-sum"]),
        (&HeaderValue::from_static("0"), &HeaderValue::from_static("42"))
    );
    let head = echo.head();
    assert_eq!(
        (&head.headers()["te"], &head.headers()["grpc-timeout"]),
        (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("1S"))
    );
}

#[test]
fn an_answer_of_trailers_alone_passes_as_one() {
    let echo = Echo::start();
    let gateway = before(&echo);
    over_http2(gateway.listen_addr(), |mut sender| async move {
        let (answer, _) = sender.send_request(grpc("/trailers-only"), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert!(answer.body().is_end_stream() || rest(answer.into_body()).await.0.is_empty());
    });
}

#[test]
fn a_large_body_passes_both_ways_within_the_windows() {
    let echo = Echo::start();
    let body = "0123456789abcdef".repeat(16 * 1024);
    let answer = before(&echo).ask(&post("/elsewhere").body(&body));
    assert_eq!(answer.body.len(), body.len());
    assert!(answer.body == body.as_bytes() && answer.is_whole);
}
