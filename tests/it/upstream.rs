//! What the client of an upstream says of a request that failed: whether it left.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use onceway::config;
use onceway::upstream::{Buffered, Fleet, NotSent, Progress, RequestBody, SendError, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn upstream_at(listener: &TcpListener) -> Upstream {
    upstream_speaking(config::Protocol::Auto, listener)
}

fn upstream_speaking(protocol: config::Protocol, listener: &TcpListener) -> Upstream {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let of_gateway = config::for_upstream(&url, None, None).unwrap();
    let config = config::Upstream {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        protocol,
        ..of_gateway.upstreams[0].clone()
    };
    Upstream::new(&Fleet::of(&config).unwrap()).unwrap()
}

fn request(method: &str, body: &'static [u8]) -> Box<Request<RequestBody>> {
    let body = Buffered::new(Bytes::from_static(body), None).into();
    Box::new(Request::builder().method(method).uri("/").body(body).unwrap())
}

/// Reads up to the end of a request's head, and perhaps some of its body.
async fn head(connection: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match connection.read(&mut piece).await.unwrap() {
            0 => break,
            bytes => read.extend_from_slice(&piece[..bytes]),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// What is read late must not be taken for the beginning of an answer to somebody else.
#[tokio::test]
async fn a_connection_takes_no_other_request_before_its_answer_was_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_at(&listener);
    let service = async {
        let (mut first, _) = listener.accept().await.unwrap();
        head(&mut first).await;
        first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        assert!(head(&mut second).await.starts_with("POST"));
        second.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert!(head(&mut first).await.starts_with("PUT"), "it is used again when it is free");
        first.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    };
    let client = async {
        let first = upstream.send(request("GET", b""), &Progress::default()).await.unwrap();
        let second = upstream.send(request("POST", b"pay"), &Progress::default()).await.unwrap();
        assert_eq!(second.status(), 204);
        assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "hello");
        let third = upstream.send(request("PUT", b"pay"), &Progress::default()).await.unwrap();
        assert_eq!(third.status(), 202);
    };
    tokio::join!(service, client);
}

#[tokio::test]
async fn a_request_is_not_begun_once_its_sender_has_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (upstream, progress) = (upstream_at(&listener), Progress::default());
    progress.give_up();
    let (sent, connection) = tokio::join!(upstream.send(request("POST", b"pay"), &progress), async {
        let (mut connection, _) = listener.accept().await.unwrap();
        head(&mut connection).await
    });
    assert!(matches!(sent, Err(SendError::NotSent(NotSent::ConnectionDead, _))), "{sent:?}");
    assert_eq!(connection, "", "not a byte of it left");
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_replaced_unseen() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_at(&listener);
    let service = async {
        for _ in 0..2 {
            let (mut connection, _) = listener.accept().await.unwrap();
            head(&mut connection).await;
            connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    };
    let client = async {
        for _ in 0..2 {
            let sent = upstream.send(request("POST", b"pay"), &Progress::default()).await.unwrap();
            assert_eq!(sent.status(), 204);
        }
    };
    tokio::join!(service, client);
}

/// Reads HTTP/2 frames to the end of a connection, and answers on which streams there were HEADERS. `begun` is told of
/// each.
async fn streams(mut connection: TcpStream, begun: mpsc::UnboundedSender<u32>) -> Vec<u32> {
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut opened = Vec::new();
    connection.write_all(&EMPTY_SETTINGS).await.unwrap();
    connection.read_exact(&mut [0; 24]).await.unwrap();
    let mut head = [0; 9];
    while connection.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        connection.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == 1 {
            opened.push(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            begun.send(opened[opened.len() - 1]).unwrap();
        }
    }
    opened
}

#[tokio::test]
async fn over_http_2_too_a_request_is_not_begun_once_its_sender_has_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_speaking(config::Protocol::Http2, &listener);
    let (begun, _begun) = mpsc::unbounded_channel();
    let progress = Progress::default();
    progress.give_up();
    let (sent, opened) = tokio::join!(upstream.send(request("POST", b"pay"), &progress), async {
        streams(listener.accept().await.unwrap().0, begun).await
    });
    assert!(matches!(sent, Err(SendError::NotSent(NotSent::ConnectionDead, _))), "{sent:?}");
    assert!(opened.is_empty(), "a stream was opened: {opened:?}");
}

#[tokio::test]
async fn on_a_shared_connection_each_request_has_a_licence_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_speaking(config::Protocol::Http2, &listener);
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let lapsed = Progress::licensed_by(Box::new(|| false));
    let first_progress = Progress::default();
    let first = upstream.send(request("POST", b"pay"), &first_progress);
    let second = async {
        has_begun.recv().await.unwrap();
        upstream.send(request("POST", b"pay"), &lapsed).await
    };
    let service = async { streams(listener.accept().await.unwrap().0, begun).await };
    let (first, second, opened) = tokio::join!(first, second, service);
    assert!(matches!(second, Err(SendError::NotSent(NotSent::ConnectionDead, _))), "{second:?}");
    assert!(
        matches!(first, Err(SendError::Unknown(..))),
        "it was written, and its connection ended: {first:?}"
    );
    assert_eq!(opened, [1], "nothing of the second was written");
}
