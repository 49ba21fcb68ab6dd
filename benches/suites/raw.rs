//! The table of raw bytes (`tests/smuggling/`) against all three.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Failure;
use super::smuggling::{self, Case, Patience, Seen, Service};
use super::subjects::{self, Door};
use super::table::{Cell, Row};

const CALLERS: usize = 8;

/// What has not come by then does not come. Some proxies wait for more where the gateway refuses.
const WAITS: Patience = Patience { wait: Duration::from_millis(1500), linger: Duration::from_millis(20) };

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (label, cases, callers) in
        [("requests", smuggling::requests()?, CALLERS), ("answers", smuggling::answers()?, 1)]
    {
        let dir = dir.join(label);
        std::fs::create_dir(&dir)?;
        let columns = thread::scope(|scope| {
            let playing = [0, 1, 2].map(|column| {
                scope.spawn({
                    let (dir, cases) = (&dir, &cases);
                    move || column_of(column, dir, cases, callers)
                })
            });
            playing.map(|column| column.join().unwrap_or_else(|_| Err("a caller panicked".into())))
        });
        let [onceway, nginx, haproxy] = columns;
        let (onceway, nginx, haproxy) = (onceway?, nginx?, haproxy?);
        for (((case, own), nginx), haproxy) in cases.iter().zip(onceway).zip(nginx).zip(haproxy) {
            rows.push(Row::case(format!("{}, {}", case.name, case.rule), [own, nginx, haproxy]));
        }
    }
    Ok(rows)
}

/// What one proxy makes of all cases.
fn column_of(column: usize, dir: &Path, cases: &[Case], callers: usize) -> Result<Vec<Cell>, Failure> {
    let service = Service::start(cases)?;
    let Some(subject) = subjects::one(column, dir, service.address)? else {
        return Ok(vec![Cell::none("not installed"); cases.len()]);
    };
    let address = subject.door(Door::Clear).ok_or("it does not listen")?;
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(vec![Seen::default(); cases.len()]));
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { return };
                    let played = smuggling::play(case, address, WAITS).unwrap_or_default();
                    if let Some(place) = seen.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
                        *place = played;
                    }
                    if callers == 1 {
                        service.close_connections();
                        // For the proxy to notice, so that it gives none of them to the next case.
                        thread::sleep(Duration::from_millis(3));
                    }
                }
            });
        }
    });
    let (seen, arrived) = (seen.into_inner().unwrap_or_else(PoisonError::into_inner), service.arrived());
    let cells = cases.iter().zip(&seen).map(|(case, seen)| {
        let of_case: Vec<_> = smuggling::of_case(case, &arrived).cloned().collect();
        let verdict = smuggling::judge(case, seen, &of_case);
        Cell::of(verdict.is_right, verdict.happened)
    });
    Ok(cells.collect())
}
