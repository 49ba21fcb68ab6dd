//! More requests at once than are borne.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Answer, Gate, Gateway, GatewayPlan, Reply, Upstream, get, now, post, until};

fn expect_overloaded(answer: &Answer) {
    assert_eq!(answer.problem(), (503, "overloaded".into()), "{}", answer.shown());
    assert_eq!(answer.document()["retry_same_key"], true);
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    assert!(answer.header("proxy-status").is_some());
}

#[test]
fn a_request_beyond_connections_max_waits_and_is_then_refused_with_its_key_free() {
    let gate = Gate::shut();
    let upstream = Upstream::by({
        let held = Reply::answer(200).body("held").held_by(&gate);
        move |request| if request.number == 1 { held.clone() } else { Reply::payment(request.number) }
    });
    let gateway =
        GatewayPlan::before(&upstream).upstream("connections_max = 1\nqueue_timeout = \"100ms\"").start();
    let mut first = gateway.send(&get("/"));
    upstream.request(1);
    expect_overloaded(&gateway.ask(&get("/")));
    let refused = gateway.ask(&post("/payments").key("k"));
    expect_overloaded(&refused);
    assert_eq!(refused.word().as_deref(), Some("released"));
    assert_eq!(upstream.executions(), 1);
    until("it is told", || gateway.log().contains("refused as overloaded"));
    gate.open();
    first.read();
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
}

#[test]
fn a_request_that_waits_is_sent_when_its_turn_comes() {
    let gate = Gate::shut();
    let upstream =
        Upstream::in_turn([Reply::answer(200).body("1").held_by(&gate), Reply::answer(200).body("2")]);
    let gateway =
        GatewayPlan::before(&upstream).upstream("connections_max = 1\nqueue_timeout = \"20s\"").start();
    let mut first = gateway.send(&get("/"));
    upstream.request(1);
    let mut second = gateway.send(&post("/payments").key("k"));
    gate.open();
    assert_eq!((first.read().text(), second.read().text()), ("1".into(), "2".into()));
}

#[test]
fn a_caller_that_leaves_does_not_hold_its_turn() {
    let gate = Gate::shut();
    let upstream =
        Upstream::in_turn([Reply::answer(200).body("1").held_by(&gate), Reply::answer(200).body("2")]);
    let gateway =
        GatewayPlan::before(&upstream).upstream("connections_max = 1\nqueue_timeout = \"20s\"").start();
    let mut first = gateway.send(&get("/1"));
    upstream.request(1);
    gateway.send(&get("/gone")).leave();
    let mut third = gateway.send(&get("/3"));
    gate.open();
    first.read();
    assert_eq!(third.read().status, 200);
    assert_eq!(gateway.ask(&get("/4")).status, 200);
}

#[test]
fn beyond_in_flight_max_requests_are_refused_at_once_and_health_is_still_told() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::answer(200).body("held").held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).server("in_flight_max = 2").start();
    let mut held = [gateway.send(&get("/")), gateway.send(&post("/payments").key("k"))];
    upstream.request(2);
    expect_overloaded(&gateway.ask(&get("/")));
    expect_overloaded(&gateway.ask(&post("/payments").key("other")));
    assert_eq!(gateway.readiness().status, 200);
    gate.open();
    for client in &mut held {
        assert_eq!(client.read().status, 200);
    }
    until("there is room again", || gateway.ask(&get("/")).status == 200);
}

#[test]
fn bodies_beyond_the_budget_are_refused_and_nothing_of_them_is_claimed() {
    let gate = Gate::shut();
    let upstream = Upstream::by({
        let held = Reply::answer(200).body("held").held_by(&gate);
        move |request| if request.number == 1 { held.clone() } else { Reply::payment(request.number) }
    });
    let gateway = GatewayPlan::before(&upstream).server("buffered_bytes_max = \"1MiB\"").start();
    let large = vec![b'x'; 700 * 1024];
    let mut first = gateway.send(&post("/payments").key("a").body(&large));
    upstream.request(1);
    expect_overloaded(&gateway.ask(&post("/payments").key("b").body(&large)));
    // What streams through needs no room.
    assert_eq!(gateway.ask(&post("/upload").body(&large)).status, 201);
    gate.open();
    first.read();
    until("there is room again", || gateway.ask(&post("/payments").key("b").body(&large)).status == 201);
}

#[test]
fn an_answer_that_finds_no_room_is_kept_all_the_same() {
    let large = "y".repeat(900 * 1024);
    let upstream = Upstream::always(Reply::answer(200).body(&large));
    let gateway = GatewayPlan::before(&upstream).server("buffered_bytes_max = \"1MiB\"").start();
    let body = vec![b'x'; 300 * 1024];
    for word in ["executed", "replayed"] {
        let answer = gateway.ask(&post("/payments").key("k").body(&body));
        assert_eq!((answer.word().as_deref(), answer.text() == large), (Some(word), true));
    }
    assert_eq!(upstream.executions(), 1);
}

/// Held by a test that needs most of what the processor can do, or that counts what comes in time.
static PROCESSOR: Mutex<()> = Mutex::new(());

/// A service of so many workers, each of which takes so long for a request, and a queue without end.
fn busy(workers: usize, takes: Duration) -> Upstream {
    let free = Arc::new((Mutex::new(workers), Condvar::new()));
    Upstream::by(move |_| {
        let (free, bell) = &*free;
        *bell.wait_while(free.lock().unwrap(), |free| *free == 0).unwrap() -= 1;
        thread::sleep(takes);
        *free.lock().unwrap() += 1;
        bell.notify_one();
        Reply::answer(200).body("done")
    })
}

/// Sends `rate` requests a second for `seconds`, whatever is answered, and counts the answers of the last half that
/// came within a second.
fn answered_in_time(gateway: &Gateway, rate: u32, seconds: u32) -> usize {
    let began = now();
    let calls = (0..rate * seconds).map(|number| {
        let at = Duration::from_secs(1) * number / rate;
        thread::sleep(at.saturating_sub(began.elapsed()));
        let mut client = gateway.send(&get("/"));
        thread::spawn(move || {
            let sent = now();
            let status = client.read().status;
            number >= rate * seconds / 2 && status == 200 && sent.elapsed() < Duration::from_secs(1)
        })
    });
    let calls: Vec<_> = calls.collect();
    calls.into_iter().map(|call| call.join().unwrap()).filter(|is_in_time| *is_in_time).count()
}

/// `scripts/overload` measures how many; here other tests run at the same time.
#[test]
fn a_service_asked_for_twice_what_it_can_do_goes_on_answering_in_time() {
    let _alone = PROCESSOR.lock();
    let upstream = busy(4, Duration::from_millis(40));
    let gateway = GatewayPlan::before(&upstream).start();
    let (capacity, seconds) = (100, 6);
    let in_time = answered_in_time(&gateway, 2 * capacity, seconds);
    let possible = usize::try_from(capacity * seconds / 2).unwrap();
    assert!(in_time >= possible / 2, "{in_time} of {possible}");
    until("it is told", || gateway.log().contains("refused as overloaded"));
}

/// Callers at once who come again as soon as they are answered: more than a thread can serve in a moment.
const EAGER: usize = 900;

/// What eager callers were told.
#[derive(Default)]
struct Told {
    is_over: AtomicBool,
    keys: AtomicUsize,
    done: AtomicUsize,
}

impl Told {
    /// Asks with a fresh key each time, on a connection of its own. Counts only what is as it should be.
    async fn ask_eagerly(&self, gateway: SocketAddr) {
        while !self.is_over.load(Ordering::Relaxed) {
            let key = self.keys.fetch_add(1, Ordering::Relaxed);
            let asked = async {
                let mut stream = TcpStream::connect(gateway).await.ok()?;
                let head = format!("POST /payments?{key} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\n");
                let rest = "Connection: close\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(format!("{head}{rest}").as_bytes()).await.ok()?;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.ok()?;
                answer.starts_with(b"HTTP/1.1 201").then_some(())
            };
            self.done.fetch_add(usize::from(asked.await.is_some()), Ordering::Relaxed);
        }
    }
}

#[test]
fn a_gateway_asked_for_more_than_it_can_do_lets_in_whom_it_can_serve_and_serves_each_once() {
    let _alone = PROCESSOR.lock();
    onceway::server::raise_descriptors(4 * EAGER);
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    let (told, address) = (Arc::<Told>::default(), gateway.listen_addr());
    let callers = thread::spawn({
        let told = Arc::clone(&told);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut callers = JoinSet::new();
                for _ in 0..EAGER {
                    let told = Arc::clone(&told);
                    callers.spawn(async move { told.ask_eagerly(address).await });
                }
                while callers.join_next().await.is_some() {}
            });
        }
    });
    until("too many come", || {
        assert_eq!(gateway.readiness().status, 200);
        gateway.log().contains("more connections come than there is time for")
    });
    let done = told.done.load(Ordering::Relaxed);
    until("those who are let in are served", || told.done.load(Ordering::Relaxed) > done + 100);
    told.is_over.store(true, Ordering::Relaxed);
    callers.join().unwrap();
    assert_eq!(told.done.load(Ordering::Relaxed), told.keys.load(Ordering::Relaxed), "all were answered");
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
    let targets = upstream.targets();
    assert_eq!(targets.iter().collect::<HashSet<_>>().len(), targets.len(), "each was executed once");
}
