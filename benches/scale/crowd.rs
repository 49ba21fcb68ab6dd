//! Callers: connections that stay open, each with a credential of its own and counted by quotas. Either a few of them
//! ask at a time, each in its turn, or all at once.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::Failure;
use super::ask::Ask;
use super::callers::{Asks, Callers, Stint, firsts, passes};
use super::gateways::Config;
use super::measure::{Bench, CONNECTIONS, Case, Subject, tell};
use super::process::{kib, mib, number};
use super::table::{self, Row};

const STEPS: [usize; 4] = [32, 320, 3_200, 10_000];

/// Files that this process has open beside the callers' ends: the service's connections, at most 1,024 by each gateway's
/// own bound.
const FILES_BESIDE: usize = 1_100;

pub(super) async fn measure(bench: &Bench) -> Result<String, Failure> {
    let (mut subjects, mut cases, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    let mut left_out = String::new();
    let most = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most.try_into().unwrap_or(0));
    let mut files = 0;
    for number_of in STEPS {
        files += number_of + FILES_BESIDE;
        if files > most {
            writeln!(left_out, "{number_of} callers: left out, the system allows {most} open files")?;
            continue;
        }
        tell(&format!("connecting {number_of} callers"));
        let (subject, told) = start(bench, number_of).await?;
        cases.extend(cases_of(bench, subjects.len(), number_of));
        subjects.push(subject);
        facts.push(told);
    }
    bench.play(&mut subjects, &mut cases).await?;
    let with_facts =
        |case: Case| Row { facts: facts.get(case.subject).cloned().unwrap_or_default(), ..case.row };
    let rows: Vec<Row> = cases.into_iter().map(with_facts).collect();
    let table = table::render(
        "Callers: 32 of them at a time, each in its turn, or all at once; records in memory",
        "callers",
        &["RSS MiB", "KiB each"],
        &rows,
    )?;
    Ok(table + &left_out)
}

/// A gateway with so many callers, each of which has asked once; and its memory then.
async fn start(bench: &Bench, number_of: usize) -> Result<(Subject, Vec<String>), Failure> {
    let config = Config {
        policy: "claims_per_scope_max = 1000000\nin_flight_per_scope_max = 1000\n".to_owned(),
        // So that all of them may wait for the service, which answers at once, none is refused, and no connection to
        // it is made anew.
        upstreams: "admission = \"fixed\"\nqueue_timeout = \"10m\"\nidle_connections_max = 1024\n".to_owned(),
        ..Config::new(bench.service.address)
    };
    let mut subject = Subject::start(bench, &config, 0).await?;
    let before = subject.rss_bytes()?;
    subject.callers = Callers::connect(subject.gateway.address(), number_of).await?;
    let each_once = Stint { at_once: CONNECTIONS, requests: number_of, time: Duration::from_mins(5) };
    bench.counted(&mut subject.callers, each_once, &passes()).await?;
    let after = subject.rss_bytes()?;
    let own: Asks = Arc::new(move |caller| own(number_of, caller));
    bench.counted(&mut subject.callers, each_once, &own).await?;
    let each = kib(after.saturating_sub(before)) / number(u64::try_from(number_of)?);
    Ok((subject, vec![format!("{:.0}", mib(after)), format!("{each:.1}")]))
}

fn cases_of(bench: &Bench, subject: usize, number_of: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let requests = bench.extent.requests.max(number_of);
    for (how, at_once) in [("in turn", CONNECTIONS), ("at once", number_of)] {
        let again: Asks = Arc::new(move |caller| own(number_of, caller).again());
        for (work, asks) in [("passed through", passes()), ("first request", firsts()), ("replay", again)] {
            let row = Row::new(&format!("{work}, {how}"), number_of.to_string());
            let stint = Stint { at_once, requests, ..bench.stint() };
            cases.push(Case { row, subject, asks, stint });
        }
    }
    cases
}

/// Each caller's own payment, to be asked for again.
fn own(number_of: usize, caller: u64) -> Ask {
    Ask::first(caller, format!("own-{number_of}-{caller}"))
}
