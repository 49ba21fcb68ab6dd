//! Bodies under way in both directions at once, and how the end of one side reaches the other: streamed, waiting
//! for whoever is slow, and never taken for whole when they are not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{GatewayPlan, Reply, Service, Upstream, get, post, read_up_to, until};

/// More than all buffers between two peers hold.
const PLENTY: usize = 64 * 1024 * 1024;

/// What a gateway may take beside its start, while it carries any amount.
const MEMORY_MAX: usize = 48 * 1024 * 1024;

/// Reads to the end; answers what came, and whether the end was in order.
fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    let ended = stream.read_to_end(&mut read);
    let is_in_time = ended.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::WouldBlock);
    assert!(is_in_time, "the gateway neither speaks nor goes");
    (read, ended.is_ok())
}

#[test]
fn question_and_answer_flow_at_the_same_time() {
    let (service, gateway) = Service::listening();
    let mut client = gateway.client();
    client.send_head(&post("/talk").chunked(&[], &[])).say(b"3\r\none\r\n");
    let mut stream = service.accept_up_to(b"one\r\n");
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nONE\r\n").unwrap();
    let head = client.read_head();
    assert_eq!(client.wire().chunk().unwrap(), b"ONE");
    client.say(b"3\r\ntwo\r\n");
    read_up_to(&mut stream, b"two\r\n");
    stream.write_all(b"3\r\nTWO\r\n").unwrap();
    assert_eq!(client.wire().chunk().unwrap(), b"TWO");
    client.say(b"0\r\n\r\n");
    read_up_to(&mut stream, b"0\r\n\r\n");
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert!(client.read_after(head).is_whole);
}

#[test]
fn an_answer_that_comes_before_the_question_ends_reaches_the_caller_whole() {
    let (service, gateway) = Service::listening();
    let mut client = gateway.client();
    client.send_head(&post("/upload").chunked(&[], &[])).say(b"3\r\none\r\n");
    let mut stream = service.accept_up_to(b"one\r\n");
    stream
        .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
        .unwrap();
    let answer = client.read();
    assert_eq!((answer.status, answer.text(), answer.is_whole), (413, "much".into(), true));
}

#[test]
fn an_upload_that_breaks_off_is_never_a_whole_request_to_the_service() {
    for (framing, sent) in [("Content-Length: 9", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")] {
        let (service, gateway) = Service::listening();
        let mut client = gateway.client();
        client.say(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{sent}").as_bytes());
        let mut stream = service.accept_up_to(b"abc");
        client.leave();
        let (read, _) = rest(&mut stream);
        assert!(read.is_empty() || read == b"\r\n", "{read:?}");
    }
}

#[test]
fn memory_stays_flat_however_much_passes_to_a_slow_caller() {
    let upstream = Upstream::always(Reply::answer(200).body(vec![b'x'; PLENTY]));
    let gateway = GatewayPlan::before(&upstream).start();
    let before = gateway.peak_memory();
    let mut client = gateway.send(&get("/download"));
    let head = client.read_head();
    assert!(upstream.sent_bytes_at_rest() < PLENTY);
    assert_eq!(client.read_after(head).body.len(), PLENTY);
    let taken = gateway.peak_memory().saturating_sub(before);
    assert!(taken < MEMORY_MAX, "{taken} bytes");
}

#[test]
fn memory_stays_flat_however_much_passes_to_a_slow_service() {
    let (service, gateway) = Service::listening();
    let before = gateway.peak_memory();
    let mut client = TcpStream::connect(gateway.listen_addr()).unwrap();
    write!(client, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {PLENTY}\r\n\r\n").unwrap();
    let mut stream = service.accept_up_to(b"\r\n\r\n");
    let sent = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&sent);
    let sending = std::thread::spawn(move || {
        for piece in vec![b'x'; PLENTY].chunks(64 * 1024) {
            client.write_all(piece).unwrap();
            counted.fetch_add(piece.len(), Ordering::Relaxed);
        }
        client
    });
    let mut at_last_look = 0;
    until("the caller waits", || {
        std::thread::sleep(Duration::from_millis(200));
        let sent = sent.load(Ordering::Relaxed);
        sent > 0 && std::mem::replace(&mut at_last_look, sent) == sent
    });
    assert!(at_last_look < PLENTY, "{at_last_look} bytes were taken that nobody read");
    let taken = gateway.peak_memory().saturating_sub(before);
    assert!(taken < MEMORY_MAX, "{taken} bytes");
    let mut body = vec![0; PLENTY];
    stream.read_exact(&mut body).unwrap();
    assert!(body.iter().all(|byte| *byte == b'x'));
    sending.join().unwrap();
}
