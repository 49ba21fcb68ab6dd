//! What the client of an upstream says of a request that failed: whether it left.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use onceway::config;
use onceway::upstream::{Buffered, Fleet, NotSent, Progress, RequestBody, SendError, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn upstream_at(listener: &TcpListener) -> Upstream {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let of_gateway = config::for_upstream(&url, None, None).unwrap();
    let config = config::Upstream {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        ..of_gateway.upstreams[0].clone()
    };
    Upstream::new(&Fleet::of(&config).unwrap()).unwrap()
}

fn request(method: &str, body: &'static [u8]) -> Request<RequestBody> {
    let body = Buffered::new(Bytes::from_static(body), None).into();
    Request::builder().method(method).uri("/").body(body).unwrap()
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
