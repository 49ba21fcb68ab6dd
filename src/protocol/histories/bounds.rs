//! The scenarios that are played, and how far each is followed.

use std::{env, thread};

use super::super::policy::OnUnknown;
use super::explore::{Explored, explore};
use super::play::Met;
use super::scenario::{Heed, NO_REPLICAS, Planted, Replication, Scenario};
use super::world::Asks;

/// Set to `large` by `scripts/model --large`.
const BOUND: &str = "ONCEWAY_MODEL";

/// How many accidents a history may have: in every run of the tests, and at large.
pub(super) fn accidents(in_every_run: u8, at_large: u8) -> u8 {
    if is_large() { at_large } else { in_every_run }
}

pub(super) fn is_large() -> bool {
    env::var_os(BOUND).is_some_and(|bound| bound == "large")
}

pub(super) fn asks(process: usize, fingerprint: u8, on_unknown: OnUnknown) -> Asks {
    Asks { process, caller: 0, fingerprint, on_unknown }
}

/// Two requests on two processes, the same request.
pub(super) fn twins(on_unknown: OnUnknown) -> Scenario {
    Scenario {
        name: "two requests",
        requests: vec![asks(0, 1, on_unknown), asks(1, 1, on_unknown)],
        troubles: accidents(2, 3),
        expiry: true,
        operators: true,
        removals: true,
        refusals: true,
        long_answers: false,
        damage: false,
        crashes: true,
        repeats: false,
        waits: false,
        stops: false,
        replication: NO_REPLICAS,
        losses_forgiven: false,
        heed: Heed::Everything,
        planted: Planted::Nothing,
        keys: Vec::new(),
    }
}

/// A third request meets what the first two left behind, on the process of the first.
pub(super) fn with_a_third(on_unknown: OnUnknown, third: Asks) -> Scenario {
    let mut scenario = twins(on_unknown);
    scenario.requests.push(third);
    Scenario { name: "three requests", troubles: accidents(1, 2), ..scenario }
}

pub(super) fn third_alike(on_unknown: OnUnknown) -> Scenario {
    with_a_third(on_unknown, asks(0, 1, on_unknown))
}

pub(super) fn without_forgiveness(scenario: Scenario) -> Scenario {
    Scenario { expiry: false, operators: false, ..scenario }
}

/// Operators step in at any moment, and nothing else forgives a second forward.
pub(super) fn with_operators_alone(scenario: Scenario) -> Scenario {
    Scenario { name: "operators", expiry: false, refusals: false, ..scenario }
}

/// What forgives a second forward, and has tests of its own, is left out except at large.
pub(super) fn eased(scenario: Scenario) -> Scenario {
    Scenario { operators: is_large(), expiry: is_large(), ..scenario }
}

/// Nothing may raise the number of forwards above one: no policy, operator, end of retention or proof.
pub(super) fn strictly_once(scenario: Scenario) -> Scenario {
    Scenario { refusals: false, ..without_forgiveness(scenario) }
}

/// Two callers send the same request under the same key, and one of them sends it again through the other's gateway.
pub(super) fn two_callers(on_unknown: OnUnknown) -> Scenario {
    let of = |caller, process| Asks { caller, ..asks(process, 1, on_unknown) };
    Scenario {
        name: "two callers",
        requests: vec![of(0, 0), of(1, 1), of(0, 1)],
        troubles: accidents(1, 2),
        ..strictly_once(twins(on_unknown))
    }
}

/// The master of the store is lost, and a replica takes its place.
pub(super) fn failover(replicas: u8, acknowledged_by: u8, scenario: Scenario) -> Scenario {
    Scenario {
        name: "failover",
        replication: Replication { replicas, acknowledged_by },
        heed: Heed::Promises,
        ..strictly_once(scenario)
    }
}

pub(super) fn with_accidents(troubles: u8, scenario: Scenario) -> Scenario {
    Scenario { troubles, ..scenario }
}

/// Every property holds in every moment, and the search has come by all of these places.
pub(super) fn holds(scenario: &Scenario, comes_by: &[Met]) {
    let explored = explore(scenario);
    report(scenario, &explored);
    if let Some((broken, history)) = &explored.broken {
        panic!("{}: it does not hold that {broken}:\n{history}", scenario.name);
    }
    for place in comes_by {
        assert!(explored.has_met(*place), "{}: never met {place:?}", scenario.name);
    }
}

/// The search finds that this property does not hold; answers the shortest history.
pub(super) fn breaks(scenario: &Scenario, property: &str) -> String {
    let explored = explore(scenario);
    report(scenario, &explored);
    let (broken, history) =
        explored.broken.unwrap_or_else(|| panic!("{:?} goes unnoticed", scenario.planted));
    assert_eq!(broken, property, "{:?}:\n{history}", scenario.planted);
    tell(&format!("{:?}: it does not hold that {broken}:\n{history}", scenario.planted));
    history
}

/// One row of the table that `scripts/model` prints.
fn report(scenario: &Scenario, explored: &Explored) {
    let thread = thread::current();
    let test = thread.name().unwrap_or_default().rsplit("::").next().unwrap_or_default();
    let found = explored.broken.as_ref().map_or("all hold", |(property, _)| property);
    tell(&format!(
        "model | {test} | {name} | {requests} | {accidents} | {moments} | {steps} | {seconds:.1} | {found}",
        name = scenario.name,
        requests = scenario.requests.len(),
        accidents = scenario.troubles,
        moments = explored.moments,
        steps = explored.steps,
        seconds = explored.took.as_secs_f64(),
    ));
}

#[expect(
    clippy::print_stdout,
    reason = "what was searched, and a history found, belong to the test's output"
)]
fn tell(text: &str) {
    println!("{text}");
}
