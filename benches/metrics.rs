//! What it costs to count a request, and to write a page.
//!
//! Prints the fewest nanoseconds of many rounds: what disturbs a round only makes it longer. With two threads both
//! count into the same series, as workers do. Started by `cargo bench --bench metrics`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::expect_used, reason = "a benchmark ends when it cannot begin")]

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use onceway::config;
use onceway::telemetry::course::Spent;
use onceway::telemetry::metrics::{
    Call, CallOutcome, Finished, Metrics, RequestMetrics, Settled, UpstreamMetrics, Written,
};

/// Rounds of one figure; the least is printed.
const ROUNDS: usize = 50;

/// Requests of a round.
const REQUESTS: u32 = 100_000;

/// A request, counted as each room counts its part of it.
type Count = fn(&Rooms, Duration);

/// Whoever counts.
struct Rooms {
    metrics: Metrics,
    requests: RequestMetrics,
    upstream: UpstreamMetrics,
}

fn main() {
    let (metrics, routes) = (Metrics::new(), config::for_upstream("http://127.0.0.1:9000", None, None));
    let routes = routes.expect("an upstream that can be parsed").routes;
    let (requests, upstream) = (metrics.of_routes(&routes), metrics.of_upstream("default"));
    let rooms = Rooms { metrics, requests, upstream };
    println!("{:<18} {:>12} {:>14}", "request", "1 thread, ns", "2 threads, ns");
    let kinds: [(&str, Count); 3] = [("first", first), ("replay", replay), ("passed", passed)];
    for (name, count) in kinds {
        let figures = [1, 2].map(|threads| {
            let round = || round(threads, &|number| count(&rooms, took(number)));
            (0..ROUNDS).map(|_| round()).min().unwrap_or_default().as_nanos() / u128::from(REQUESTS)
        });
        println!("{name:<18} {:>12} {:>14}", figures[0], figures[1]);
    }
    let page = || {
        let began = Instant::now();
        drop(black_box(rooms.metrics.page(None)));
        began.elapsed()
    };
    let least = (0..ROUNDS).map(|_| page()).min().unwrap_or_default();
    println!("a page of {} bytes takes {} µs", rooms.metrics.page(None).1.len(), least.as_micros());
}

/// How long one of `threads` takes for its requests.
fn round(threads: usize, count: &(impl Fn(u32) + Sync)) -> Duration {
    thread::scope(|scope| {
        let run = || {
            let began = Instant::now();
            (0..REQUESTS).for_each(count);
            began.elapsed()
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("it only counts")).max().unwrap_or_default()
    })
}

/// Another time for each request, so that buckets are found and not guessed.
fn took(number: u32) -> Duration {
    black_box(Duration::from_nanos(u64::from(number.wrapping_mul(2_654_435_761) >> 4)))
}

fn first(rooms: &Rooms, took: Duration) {
    let claims = &rooms.metrics.claims;
    claims.called(Call::Insert, CallOutcome::Ok, took);
    rooms.upstream.queued(took);
    rooms.upstream.answered(took);
    claims.called(Call::Swap, CallOutcome::Ok, took);
    claims.settled(Settled::Completed, Written::Stored);
    finished(&rooms.requests, "executed", took, true);
}

fn replay(rooms: &Rooms, took: Duration) {
    rooms.metrics.claims.called(Call::Insert, CallOutcome::Ok, took);
    rooms.requests.replayed(took);
    finished(&rooms.requests, "replayed", took, true);
}

fn passed(rooms: &Rooms, took: Duration) {
    rooms.upstream.queued(took);
    rooms.upstream.answered(took);
    finished(&rooms.requests, "none", took, false);
}

fn finished(counts: &RequestMetrics, word: &'static str, took: Duration, is_keyed: bool) {
    counts.finished(&Finished {
        route: Some(0),
        word: Some(word),
        problem: None,
        would_be: None,
        is_keyed,
        has_answer: true,
        took,
        spent: Spent { upstream: took / 2, ..Spent::default() },
    });
}
