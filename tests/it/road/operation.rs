//! Under a service manager, and out of service without a failed request.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Client, Gate, Gateway, GatewayPlan, Manager, Reply, Upstream, get, post, until};
use crate::servers::redis::RedisServer;

fn keyed() -> Upstream {
    Upstream::by(|request| Reply::answer(201).body(request.header("idempotency-key").unwrap_or_default()))
}

#[test]
fn the_service_manager_is_told_of_readiness_reload_and_end() {
    let (manager, upstream) = (Manager::new(), Upstream::of_payments());
    let plan = GatewayPlan::before(&upstream);
    let mut gateway = plan.start_under(&manager, None);
    let ready = manager.hears("READY=1");
    assert!(ready.contains(&format!("STATUS=serving on {}", gateway.listen_addr())), "{ready}");
    gateway.reload(&plan.policy("ttl = \"1h\""));
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hears("READY=1");
    gateway.signal("TERM");
    manager.hears("STOPPING=1");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn the_watchdog_hears_that_all_is_well_until_the_process_hangs() {
    let (manager, upstream) = (Manager::new().watching(400_000), Upstream::of_payments());
    let gateway = GatewayPlan::before(&upstream).start_under(&manager, None);
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    drop(gateway);
}

#[test]
fn a_socket_that_is_passed_takes_the_place_of_the_configured_address() {
    let (manager, upstream) = (Manager::new(), Upstream::of_payments());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gateway = GatewayPlan::before(&upstream).start_under(&manager, Some(&listener));
    assert_eq!(gateway.listen_addr(), listener.local_addr().unwrap());
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 1");
}

#[test]
fn what_the_unit_files_start_exists() {
    let service = include_str!("../../../deploy/onceway.service");
    let socket = include_str!("../../../deploy/onceway.socket");
    let start = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<_> = start.split(' ').collect();
    assert_eq!((words[1], words[2]), ("serve", "--config"));
    for line in
        ["Type=notify\n", "ExecReload=", "WatchdogSec=", "NoNewPrivileges=yes", "ProtectSystem=strict"]
    {
        assert!(service.contains(line), "{line}");
    }
    assert!(socket.contains("ListenStream="));
}

#[test]
fn requests_are_still_taken_for_the_stop_delay_and_told_to_leave() {
    let upstream = Upstream::always(Reply::answer(200).body("ok"));
    let gateway = GatewayPlan::before(&upstream).server("stop_delay = \"60s\"").start();
    let mut kept = gateway.send(&get("/"));
    kept.read();
    gateway.signal("TERM");
    until("it says that it goes", || gateway.readiness().status == 503);
    let last = kept.send(&get("/")).read();
    assert_eq!((last.status, last.header("connection").as_deref()), (200, Some("close")));
    assert!(kept.wire().is_at_end());
    assert_eq!(gateway.ask(&get("/")).status, 200);
    gateway.signal("TERM");
}

/// Asks for keys of its own on connections that are kept while they may be, at a gateway that `choose` gives for each
/// new connection; says how many requests were answered, all of them well.
fn ask_until_over(
    name: usize,
    choose: impl Fn() -> Client,
    is_over: &AtomicBool,
    asked: &AtomicUsize,
) -> usize {
    let mut client = choose();
    let mut number = 0;
    while !is_over.load(Ordering::Acquire) {
        let key = format!("{name}-{number}");
        let answer = client.send(&post("/payments").key(&key)).read();
        assert_eq!((answer.status, answer.text()), (201, key), "{}", answer.shown());
        if answer.header("connection").as_deref() == Some("close") {
            client = choose();
        }
        number += 1;
        asked.fetch_add(1, Ordering::AcqRel);
    }
    number
}

/// Runs clients until `play` has ended; answers how many requests there were.
fn under_load(choose: impl Fn() -> Client + Sync, play: impl FnOnce(&AtomicUsize)) -> usize {
    const CLIENTS: usize = 4;
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (choose, is_over, asked) = (&choose, &is_over, &asked);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|name| scope.spawn(move || ask_until_over(name, choose, is_over, asked)))
            .collect();
        let more = |asked: &AtomicUsize| {
            let before = asked.load(Ordering::Acquire);
            until("requests are answered", || asked.load(Ordering::Acquire) > before + CLIENTS);
        };
        more(asked);
        play(asked);
        more(asked);
        is_over.store(true, Ordering::Release);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    })
}

#[test]
fn a_gateway_that_ends_under_load_beside_another_fails_no_request() {
    let (redis, upstream) = (RedisServer::start(), keyed());
    let plan = GatewayPlan::before(&upstream).store(&redis.url()).server("stop_delay = \"1s\"");
    let (mut leaving, staying) = (plan.start(), plan.start());
    let (first, second) = (leaving.listen_addr(), staying.listen_addr());
    // A balancer that looks at /readyz before each connection.
    let is_leaving = AtomicBool::new(false);
    let choose = || Client::connect(if is_leaving.load(Ordering::Acquire) { second } else { first });
    let asked = under_load(choose, |_| {
        leaving.signal("TERM");
        until("it says that it goes", || leaving.readiness().status == 503);
        is_leaving.store(true, Ordering::Release);
        assert_eq!(leaving.exit_code(), Some(0));
    });
    assert_eq!(upstream.executions(), asked);
}

#[test]
fn a_restart_on_a_socket_that_is_passed_fails_no_request_under_load() {
    let (manager, upstream, dir) = (Manager::new(), keyed(), tempfile::TempDir::new().unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let plan = GatewayPlan::before(&upstream)
        .store(&format!("file:{}", dir.path().display()))
        .server("stop_delay = \"1s\"");
    let start = || plan.start_under(&manager, Some(&listener));
    let mut gateway: Gateway = start();
    let asked = under_load(
        || Client::connect(address),
        |_| {
            gateway.signal("TERM");
            assert_eq!(gateway.exit_code(), Some(0));
            gateway = start();
        },
    );
    assert_eq!(upstream.executions(), asked);
}

#[test]
fn a_request_in_flight_at_a_restart_is_answered_by_the_old_process() {
    let (manager, gate) = (Manager::new(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut gateway = GatewayPlan::before(&upstream).start_under(&manager, Some(&listener));
    let mut client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    gateway.signal("TERM");
    manager.hears("STOPPING=1");
    gate.open();
    assert_eq!(client.read().text(), "payment 1");
    assert_eq!(gateway.exit_code(), Some(0));
}
