//! Callers: connections that stay open, each with a credential of its own and counted by quotas. Either a few of them
//! ask at a time, each in its turn, or all at once.

use std::fmt::Write as _;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::Failure;
use super::ask::Ask;
use super::callers::{Asks, Callers, Stint, firsts, passes};
use super::gateways::{Config, Gateway};
use super::measure::{Bench, CONNECTIONS, Case, tell};
use super::process::{Held, kib, mib, number};
use super::table::{self, Row};

const STEPS: [usize; 4] = [32, 320, 3_200, 10_000];

/// Files that this process has open beside the callers' ends: the service's connections, and what it always has.
const FILES_BESIDE: usize = 1_500;

pub(super) async fn measure(bench: &Bench) -> Result<String, Failure> {
    let (mut rows, mut left_out) = (Vec::new(), String::new());
    let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most.try_into().unwrap_or(0));
    for callers in STEPS {
        if callers + FILES_BESIDE > files {
            writeln!(left_out, "{callers} callers: left out, the system allows {files} open files")?;
            continue;
        }
        tell(&format!("connecting {callers} callers"));
        rows.extend(step(bench, callers).await?);
    }
    let table = table::render(
        "Callers: 32 of them at a time, each in its turn, or all at once; records in memory",
        "callers",
        &["RSS MiB", "KiB each"],
        &rows,
    )?;
    Ok(table + &left_out)
}

async fn step(bench: &Bench, number_of: usize) -> Result<Vec<Row>, Failure> {
    let config = Config {
        policy: "claims_per_scope_max = 1000000\nin_flight_per_scope_max = 1000\n".to_owned(),
        // So that all of them may wait for the service, which answers at once, and none is refused.
        upstreams: "admission = \"fixed\"\nqueue_timeout = \"10m\"\n".to_owned(),
        ..Config::new(bench.service.address)
    };
    let gateway = Gateway::start(bench.dir.path(), &config)?;
    let before = Held::by(gateway.pid())?.rss_bytes;
    let mut callers = Callers::connect(gateway.address(), number_of).await?;
    let in_turn = Stint { requests: bench.extent.requests.max(number_of), ..bench.stint() };
    let each_once = Stint { at_once: CONNECTIONS, requests: number_of, time: bench.extent.each * 10 };
    bench.counted(&mut callers, each_once, &passes()).await?;
    let after = Held::by(gateway.pid())?.rss_bytes;
    let facts = [
        format!("{:.0}", mib(after)),
        format!("{:.1}", kib(after.saturating_sub(before)) / number(u64::try_from(number_of)?)),
    ];
    let own: Asks = Arc::new(|caller| Ask::first(caller, format!("own-{caller}")));
    bench.counted(&mut callers, each_once, &own).await?;
    let again: Asks = Arc::new(move |caller| own(caller).again());
    let mut cases = Vec::new();
    for (how, at_once) in [("in turn", CONNECTIONS), ("at once", number_of)] {
        for (work, asks) in
            [("passed through", passes()), ("first request", firsts()), ("replay", again.clone())]
        {
            let row = Row::new(&format!("{work}, {how}"), number_of.to_string());
            cases.push(Case { row, asks, stint: Stint { at_once, ..in_turn } });
        }
    }
    bench.play(&gateway, &mut callers, &mut cases).await?;
    Ok(cases.into_iter().map(|case| Row { facts: facts.to_vec(), ..case.row }).collect())
}
