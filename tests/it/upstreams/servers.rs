//! Which of several servers a request goes to, and what becomes of it when one cannot be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Gate, GatewayPlan, Reply, Unlistened, Upstream, get, post, until};

/// A gateway before these servers, in this order.
fn before(servers: &[&str]) -> GatewayPlan {
    let list: Vec<_> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    GatewayPlan::before_url("http://service.test").upstream(&format!("servers = [{}]", list.join(", ")))
}

fn named(name: &'static str) -> Upstream {
    Upstream::by(move |request| match request.target.as_str() {
        "/health" => Reply::answer(200).body("well"),
        _ => Reply::answer(200).body(name),
    })
}

#[test]
fn requests_take_turns_among_servers_that_are_equally_busy() {
    let (a, b) = (named("a"), named("b"));
    let gateway = before(&[&a.authority(), &b.authority()]).start();
    for _ in 0..8 {
        assert_eq!(gateway.ask(&get("/")).status, 200);
    }
    assert_eq!((a.executions(), b.executions()), (4, 4));
}

#[test]
fn a_request_goes_to_the_server_with_the_fewest_under_way() {
    let gate = Gate::shut();
    let slow = Upstream::always(Reply::answer(200).body("slow").held_by(&gate));
    let quick = named("quick");
    let gateway = before(&[&slow.authority(), &quick.authority()]).start();
    let mut held = gateway.send(&get("/"));
    slow.request(1);
    for _ in 0..6 {
        assert_eq!(gateway.ask(&get("/")).text(), "quick");
    }
    gate.open();
    assert_eq!(held.read().text(), "slow");
}

#[test]
fn a_request_that_could_not_be_sent_goes_to_another_server() {
    let (nobody, b) = (Unlistened::port(), named("b"));
    let gateway = before(&[&nobody.authority(), &b.authority()]).upstream("eject_failures = 0").start();
    for number in 0..4 {
        assert_eq!(gateway.ask(&get("/")).text(), "b");
        let paid = gateway.ask(&post("/payments").key(&format!("k{number}")));
        assert_eq!((paid.text().as_str(), paid.word().as_deref()), ("b", Some("executed")));
        let streamed = post("/upload").chunked(&["one", "two"], &[]);
        assert_eq!(gateway.ask(&streamed).text(), "b");
    }
    let uploads = (1..=b.executions()).map(|number| b.request(number)).filter(|one| one.target == "/upload");
    assert!(uploads.map(|upload| upload.body).all(|body| body == b"onetwo"));
}

#[test]
fn a_request_that_may_have_been_sent_goes_to_no_other_server() {
    let (a, b) = (Upstream::always(Reply::default().reset()), Upstream::always(Reply::default().reset()));
    let gateway = before(&[&a.authority(), &b.authority()]).start();
    let answer = gateway.ask(&post("/payments").key("k"));
    assert_eq!(answer.problem(), (502, "outcome-unknown".into()));
    assert_eq!(a.executions() + b.executions(), 1);
}

#[test]
fn the_key_is_released_when_no_server_could_be_reached() {
    let (one, two) = (Unlistened::port(), Unlistened::port());
    let gateway = before(&[&one.authority(), &two.authority()]).start();
    for _ in 0..2 {
        let answer = gateway.ask(&post("/payments").key("k"));
        assert_eq!(answer.problem(), (502, "upstream-unreachable".into()));
        assert_eq!(answer.word().as_deref(), Some("released"));
    }
}

#[test]
fn a_server_that_fails_again_and_again_is_left_out_and_the_last_one_is_not() {
    let (nobody, b) = (Unlistened::port(), named("b"));
    let gateway = before(&[&nobody.authority(), &b.authority()])
        .upstream("eject_failures = 2")
        .upstream("eject_for = \"1h\"")
        .start();
    for _ in 0..6 {
        assert_eq!(gateway.ask(&get("/")).text(), "b");
    }
    until("it is told", || gateway.log().contains("a server is left out: requests to it failed"));
}

#[test]
fn a_server_whose_checks_fail_gets_no_requests_until_they_succeed() {
    let is_well = Arc::new(AtomicBool::new(false));
    let a = Upstream::by({
        let is_well = Arc::clone(&is_well);
        move |request| match request.target.as_str() {
            "/health" if !is_well.load(Ordering::Acquire) => Reply::answer(503).body(""),
            "/health" => Reply::answer(200).body(""),
            _ => Reply::answer(200).body("a"),
        }
    });
    let b = named("b");
    let gateway = before(&[&a.authority(), &b.authority()])
        .upstream(
            "health_path = \"/health\"\nhealth_every = \"1s\"\nhealth_failures = 1\nhealth_successes = 1",
        )
        .start();
    until("it is left out", || gateway.log().contains("its health checks failed"));
    let asked = a.request(1);
    assert_eq!(asked.header("host").as_deref(), Some("service.test"));
    for _ in 0..4 {
        assert_eq!(gateway.ask(&get("/")).text(), "b");
    }
    is_well.store(true, Ordering::Release);
    until("it is back", || gateway.ask(&get("/")).text() == "a");
}

#[test]
fn where_no_server_is_well_all_are_tried() {
    let a = Upstream::by(|request| match request.target.as_str() {
        "/health" => Reply::answer(500).body(""),
        _ => Reply::answer(200).body("a"),
    });
    let gateway = GatewayPlan::before(&a)
        .upstream("health_path = \"/health\"\nhealth_every = \"1s\"\nhealth_failures = 1")
        .start();
    until("it is told", || gateway.log().contains("no server is well: all of them are tried"));
    assert_eq!(gateway.ask(&get("/")).text(), "a");
}
