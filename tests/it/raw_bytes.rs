//! The gateway against the table of raw bytes (`../smuggling/`), on the road that no route guards and on the
//! guarded one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{GatewayPlan, PATIENCE};
use crate::smuggling::{self, Case, Patience, Seen, Service};

const CALLERS: usize = 8;
const WAITS: Patience = Patience { wait: PATIENCE, linger: Duration::from_millis(10) };

/// Cases that the gateway gets wrong sometimes: 502 instead of 400 when a body breaks while it streams through.
const WRONG_SO_FAR: &[&str] = &["chunk-extension-of-100-kilobytes", "trailer-that-is-a-request"];

/// Where a case is played.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Road {
    /// No route guards it.
    Open,
    /// A route guards every path, and each POST has a key.
    Guarded,
}

/// What was wrong, a line each.
fn wrongs(cases: &[Case], road: Road, callers: usize) -> String {
    let service = Service::start(cases).unwrap();
    let plan = GatewayPlan::before_url(&format!("http://{}", service.address));
    let gateway = match road {
        Road::Open => plan.start(),
        Road::Guarded => plan.without_routes().route("/{*rest}", "").start(),
    };
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(vec![Seen::default(); cases.len()]));
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { return };
                    let played = smuggling::play(case, gateway.listen_addr(), WAITS).unwrap();
                    seen.lock().unwrap()[number] = played;
                    if callers == 1 {
                        service.close_connections();
                    }
                }
            });
        }
    });
    let (seen, arrived) = (seen.into_inner().unwrap(), service.arrived());
    let judged = cases.iter().zip(&seen).filter_map(|(case, seen)| {
        let of_case: Vec<_> = smuggling::of_case(case, &arrived).cloned().collect();
        let verdict = smuggling::judge(case, seen, &of_case);
        (!verdict.is_right).then(|| format!("{} ({}): {}", case.name, case.rule, verdict.happened))
    });
    judged.collect::<Vec<_>>().join("\n")
}

fn known(cases: Vec<Case>) -> Vec<Case> {
    let is_wrong = |case: &Case| WRONG_SO_FAR.contains(&case.name.as_str());
    cases.into_iter().filter(|case| !is_wrong(case)).collect()
}

/// The cases that are one POST, with a key.
fn keyed(cases: Vec<Case>) -> Vec<Case> {
    let keyed = cases.into_iter().filter_map(|case| {
        let line = format!("Host: h\r\nIdempotency-Key: {}\r\n", case.token);
        let keyed = case.with("GET /", "POST /").with("Host: h\r\n", &line);
        (keyed.asks_once("POST /") && keyed.asks_once(&line)).then_some(keyed)
    });
    keyed.collect()
}

#[test]
fn a_request_that_two_servers_could_read_differently_is_refused_and_any_other_arrives_as_it_was_sent() {
    let wrongs = wrongs(&known(smuggling::requests().unwrap()), Road::Open, CALLERS);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

#[test]
fn an_answer_that_two_clients_could_read_differently_goes_no_further() {
    let wrongs = wrongs(&known(smuggling::answers().unwrap()), Road::Open, 1);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

#[test]
fn a_keyed_request_that_two_servers_could_read_differently_is_refused_too() {
    let wrongs = wrongs(&keyed(known(smuggling::requests().unwrap())), Road::Guarded, CALLERS);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

#[test]
fn an_answer_to_a_keyed_request_that_two_clients_could_read_differently_goes_no_further() {
    let wrongs = wrongs(&keyed(known(smuggling::answers().unwrap())), Road::Guarded, 1);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}
