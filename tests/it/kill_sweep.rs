//! The real binary, killed at its system calls while it has a request: then the same key again.
//!
//! The calls of one request are counted first, in each thread. Then, for each call, a gateway is started on the same
//! store, `strace` kills it there, and its successor is asked for the key, as is a second gateway where the store can be
//! shared. `verdict.rs` says what must be true. In another sweep the gateway is not killed, and the call fails instead.
//!
//! Here a sample is taken: the calls at which bytes leave for a store, a service or a disk, and some at random
//! (`ONCEWAY_TEST_SEED` takes the same again). `scripts/kill-sweep` takes all.

mod caller;
mod site;
mod strace;
mod sweep;
mod verdict;
mod whole;

use std::io::Write;

use site::{Kind, Road, Site};
use strace::{Harm, Place};
use sweep::{Sweep, places};

/// How many calls of either sort a sample takes.
const TELLING: usize = 10;
const OTHERS: usize = 5;

/// At these something leaves the process, or is known to have.
const TELLING_CALLS: [&str; 6] = ["sendto", "writev", "sendmsg", "recvfrom", "pwrite64", "fdatasync"];

/// What fails, how, and in which thread alone if not in all.
const FAILURES: [(&str, &[&str], Option<&str>); 12] = [
    ("accept4", &["EMFILE", "ECONNABORTED"], None),
    ("recvfrom", &["ECONNRESET", "ETIMEDOUT"], None),
    ("sendto", &["EPIPE", "ECONNRESET"], None),
    ("sendmsg", &["EPIPE", "ECONNRESET"], None),
    ("writev", &["EPIPE", "ECONNRESET"], None),
    ("connect", &["ECONNREFUSED", "ENETUNREACH"], None),
    ("socket", &["EMFILE"], None),
    ("fdatasync", &["EIO", "ENOSPC"], None),
    ("pwrite64", &["EIO", "ENOSPC"], None),
    ("pread64", &["EIO"], None),
    ("ftruncate", &["ENOSPC"], None),
    ("write", &["ENOSPC"], Some("onceway-log")),
];

fn seeded() -> fastrand::Rng {
    let given = std::env::var("ONCEWAY_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    say(&format!("ONCEWAY_TEST_SEED={seed}"));
    fastrand::Rng::with_seed(seed)
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

/// Those failures that `place` may meet.
fn failures_at(place: &Place) -> Vec<Harm> {
    let row = FAILURES
        .iter()
        .find(|(call, _, thread)| *call == place.call && thread.is_none_or(|thread| thread == place.thread));
    row.into_iter().flat_map(|(_, errors, _)| errors.iter().map(|error| Harm::Fail(error))).collect()
}

/// Some places of a sort, chosen at random.
fn some(
    random: &mut fastrand::Rng,
    places: &[Place],
    most: usize,
    is_of_sort: impl Fn(&Place) -> bool,
) -> Vec<Place> {
    let of_sort: Vec<Place> = places.iter().filter(|place| is_of_sort(place)).cloned().collect();
    random.choose_multiple(of_sort, most)
}

/// A sample of kills and of failures on one store.
fn sample(kind: Kind) {
    if let Some(reason) = strace::is_missing() {
        say(&format!("skipped: {reason}"));
        return;
    }
    let (mut random, site) = (seeded(), Site::of(kind, Road::Warm));
    let places = places(&site);
    let is_telling = |place: &Place| TELLING_CALLS.contains(&place.call.as_str());
    let mut sweep = Sweep::over(&site, places.len());
    for place in some(&mut random, &places, TELLING, is_telling) {
        sweep.strike(&place, Harm::Kill);
    }
    for place in some(&mut random, &places, OTHERS, |place| !is_telling(place)) {
        sweep.strike(&place, Harm::Kill);
    }
    for place in some(&mut random, &places, OTHERS, |place| !failures_at(place).is_empty()) {
        let harm = random.choice(failures_at(&place)).expect("there is one");
        sweep.strike(&place, harm);
    }
    let report = sweep.end();
    report.expect_nothing_wrong();
    assert!(report.harmed > TELLING / 2, "hardly any harm was done: {report:?}");
}

#[test]
fn whatever_call_a_gateway_with_an_embedded_store_dies_at_nothing_is_executed_twice_and_no_answer_is_lost() {
    sample(Kind::Embedded);
}

#[test]
fn whatever_call_a_gateway_with_redis_dies_at_nothing_is_executed_twice_and_no_answer_is_lost() {
    sample(Kind::Redis);
}

#[test]
fn whatever_call_a_gateway_with_postgresql_dies_at_nothing_is_executed_twice_and_no_answer_is_lost() {
    sample(Kind::Postgres);
}
