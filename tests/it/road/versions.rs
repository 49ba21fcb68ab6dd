//! One request by every version of HTTP, in the clear and over TLS: what is executed by one of them is replayed by any
//! other, byte for byte.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};

use crate::harness::certificates::Authority;
use crate::harness::{
    Answer, Echo, GatewayPlan, Reply, Upstream, over_http2, over_http2_and_tls, post, rest,
};

/// What does not depend on the version that an answer travels by, nor on whether it is a replay.
#[derive(Debug, PartialEq)]
struct Told {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

type Lines = Vec<(String, Vec<u8>)>;

/// Made anew for each answer, or for each version.
const ANEW: &[&str] = &[
    "age",
    "connection",
    "content-length",
    "idempotency-status",
    "idempotent-replayed",
    "transfer-encoding",
];

fn told(status: u16, fields: Lines, body: Vec<u8>, trailers: Lines) -> Told {
    let fields = fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let fields = fields.filter(|(name, _)| !ANEW.contains(&name.as_str())).collect();
    Told { status, fields, body, trailers }
}

fn lines(fields: &HeaderMap) -> Lines {
    fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn payment(key: &str) -> Request<()> {
    let request = Request::builder().method(Method::POST).version(Version::HTTP_2);
    let request = request.uri("http://api.test/payments").header("te", "trailers");
    request.header("idempotency-key", key).body(()).unwrap()
}

/// Pays over HTTP/2; answers what was told, and the word.
async fn pay(mut sender: h2::client::SendRequest<Bytes>, key: &str) -> (Told, String) {
    let (answer, mut body) = sender.send_request(payment(key), false).unwrap();
    body.send_data(Bytes::from_static(b"amount=100"), true).unwrap();
    let (head, body) = answer.await.unwrap().into_parts();
    let (body, trailers) = rest(body).await;
    let trailers = lines(&trailers.unwrap_or_default());
    let word = head.headers["idempotency-status"].to_str().unwrap().to_owned();
    (told(head.status.as_u16(), lines(&head.headers), body, trailers), word)
}

/// The same of an answer over HTTP/1.
fn read(answer: Answer) -> (Told, String) {
    assert!(answer.is_whole, "{}", answer.shown());
    let word = answer.word().unwrap();
    (told(answer.status, answer.lines, answer.body, answer.trailers), word)
}

/// An answer in which an order, a repeat, bytes that are no text, or trailers could get lost.
fn intricate() -> Reply {
    Reply::answer(201)
        .header("X-Many", "2")
        .header("Set-Cookie", "a=1; Path=/")
        .header("Set-Cookie", "b=2")
        .header("X-Many", "1")
        .header("X-Empty", "")
        .header("Trailer", "X-Sum")
        .chunked(&["pay", "\0\u{fc}\r\n"], &[("X-Sum", "42")])
}

#[test]
fn what_one_version_executed_any_other_replays_byte_for_byte() {
    let upstream = Upstream::always(intricate());
    let clear = GatewayPlan::before(&upstream).start();
    let by_1 = |key: &str| {
        let taking = post("/payments").key(key).header("TE", "trailers").header("Connection", "TE");
        read(clear.ask(&taking))
    };
    let by_2 = |key: &str| over_http2(clear.listen_addr(), |sender| pay(sender, key));
    let (executed_by_1, executed_by_2) = (by_1("1"), by_2("2"));
    assert_eq!((executed_by_1.1.as_str(), executed_by_2.1.as_str()), ("executed", "executed"));
    assert_eq!(executed_by_1.0.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
    assert_eq!(executed_by_1.0, executed_by_2.0);
    for (told, word) in [by_1("1"), by_2("1"), by_1("2"), by_2("2")] {
        assert_eq!((&told, word.as_str()), (&executed_by_1.0, "replayed"));
    }
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_replay_by_http_1_0_has_the_same_body() {
    let upstream = Upstream::always(intricate());
    let gateway = GatewayPlan::before(&upstream).start();
    let executed = gateway.ask(&post("/payments").key("k"));
    let mut client = gateway.client();
    client.say(b"POST /payments HTTP/1.0\r\nHost: api.test\r\nIdempotency-Key: k\r\nContent-Length: 10\r\n\r\namount=100");
    let replay = client.read();
    assert_eq!((replay.status, replay.word().as_deref()), (201, Some("replayed")), "{}", replay.shown());
    assert_eq!(replay.headers("x-many"), ["2", "1"]);
    assert_eq!((&replay.body, replay.header("transfer-encoding")), (&executed.body, None));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_payment_over_tls_and_http_2_is_made_once_and_told_to_be_https() {
    let (upstream, authority) = (Upstream::always(intricate()), Authority::new("ca"));
    let gateway = GatewayPlan::before(&upstream).server(&authority.listener_lines()).start();
    let pay_by_2 =
        || over_http2_and_tls(&authority.stranger(), gateway.listen_addr(), |sender| pay(sender, "k"));
    let (first, again) = (pay_by_2(), pay_by_2());
    assert_eq!((first.1.as_str(), again.1.as_str()), ("executed", "replayed"));
    assert_eq!(first.0, again.0);
    assert_eq!(first.0.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
    assert_eq!(upstream.request(1).header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn trailers_over_http_2_travel_both_ways_on_both_roads() {
    let echo = Echo::start();
    let gateway = GatewayPlan::before_url(&echo.url()).upstream("protocol = \"http2\"").start();
    for path in ["/elsewhere", "/payments", "/payments"] {
        let trailers = over_http2(gateway.listen_addr(), |mut sender| async move {
            let mut request = payment("k");
            *request.uri_mut() = format!("http://api.test{path}").parse().unwrap();
            let (answer, mut body) = sender.send_request(request, false).unwrap();
            body.send_data(Bytes::from_static(b"amount=100"), false).unwrap();
            let sum = http::HeaderValue::from_static("42");
            body.send_trailers(HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), sum)]))
                .unwrap();
            let (bytes, trailers) = rest(answer.await.unwrap().into_body()).await;
            assert_eq!(bytes, b"amount=100");
            trailers.unwrap_or_default()
        });
        assert_eq!(
            (&trailers["x-sum"], &trailers["grpc-status"]),
            (&"42".parse().unwrap(), &"0".parse().unwrap())
        );
    }
}
