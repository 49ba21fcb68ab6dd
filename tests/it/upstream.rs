//! What the client of an upstream says of a request that failed: whether it left.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use onceway::config;
use onceway::upstream::{Buffered, Fleet, NotSent, Progress, RequestBody, SendError, Trust, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// More than the buffers of a connection on this machine hold.
const MORE_THAN_FITS: usize = 32 << 20;

fn upstream_at(listener: &TcpListener) -> Upstream {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let of_gateway = config::for_upstream(&url, None, None).unwrap();
    let config = config::Upstream {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        ..of_gateway.upstreams[0].clone()
    };
    Upstream::new(&Fleet::of(&config), &Trust::of_system(false).unwrap()).unwrap()
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

/// hyper gives a connection to the next request while the last answer still waits to be read. What is read late
/// must not be taken for the beginning of a request that has long begun.
#[tokio::test]
async fn an_answer_read_late_does_not_make_a_sent_request_look_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_at(&listener);
    let (begun, has_begun) = oneshot::channel();
    let (end, ends) = oneshot::channel::<()>();
    let service = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        head(&mut connection).await;
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        assert!(head(&mut connection).await.starts_with("POST"), "the connection is used again");
        begun.send(()).unwrap();
        ends.await.unwrap();
        drop(connection);
        // A second delivery would come on another connection.
        tokio::time::timeout(Duration::from_millis(300), listener.accept()).await.is_ok()
    };
    let client = async {
        let first = upstream.send(request("GET", b""), &Progress::default()).await.unwrap();
        let large = Box::leak(vec![b'x'; MORE_THAN_FITS].into_boxed_slice());
        let (sending, progress) = (request("POST", large), Progress::default());
        let reading_late = async {
            has_begun.await.unwrap();
            // Until the buffers are full: the next write is one that comes after the late reading.
            progress.stalled_for(Duration::from_millis(300)).await;
            assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "hello");
            end.send(()).unwrap();
        };
        tokio::join!(upstream.send(sending, &progress), reading_late).0
    };
    let (came_again, sent) = tokio::join!(service, client);
    assert!(!came_again, "the request was delivered twice");
    assert!(matches!(sent, Err(SendError::Unknown(..))), "{sent:?}");
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
