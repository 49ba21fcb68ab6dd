//! Whether a second core is worth one: the gateway with two threads beside the gateway with one.
//!
//! Callers, upstream and Redis run on the same processors, so a second core's requests per second cannot be seen. What
//! can is the processor time per request: so many cores can do their number divided by it. Each thread has as many callers
//! as the one thread has, because a thread with fewer would do less per system call.

use std::sync::Arc;

use super::Failure;
use super::bars::{Bar, Held};
use super::extent::Extent;
use super::measure::{CONNECTIONS, WARM_UP, sample};
use super::servers::{Server, Setup};
use super::site::Site;
use super::subjects::Subject;
use super::table::{median, ratio};
use super::work::{REDIS, Role, Work};

/// What `--only` is compared with.
pub(super) const TITLE: &str = "two cores";

const WORKS: [Work; 2] = [Work::Pass, Work::First];

/// A gateway for each number of threads.
pub(super) struct Cores<'a> {
    site: &'a Site,
    extent: &'a Extent,
    one: Subject,
    two: Subject,
    /// For each work, processor time per request, round by round: with one thread and with two.
    micros: [(Vec<f64>, Vec<f64>); WORKS.len()],
}

impl<'a> Cores<'a> {
    pub(super) fn start(site: &'a Site, extent: &'a Extent) -> Result<Self, Failure> {
        let gateway = |name: &str, threads| {
            let setup = Setup { store: &site.redis_url(), cache: None, threads };
            let server = Server::gateway_with(site.dir(), name, &setup, site.upstream.address)?;
            Ok::<_, Failure>(Subject::new(&Arc::new(server), Role::Gateway, REDIS))
        };
        let (one, two) = (gateway("one-thread", 1)?, gateway("two-threads", 2)?);
        Ok(Self { site, extent, one, two, micros: Default::default() })
    }

    pub(super) async fn round(&mut self, round: usize) -> Result<(), Failure> {
        for (work, (one, two)) in WORKS.into_iter().zip(&mut self.micros) {
            for (subject, threads, micros) in [(&self.one, 1, one), (&self.two, 2, two)] {
                let plan = |word: &str, requests| {
                    let prefix = format!("cores-{threads}-{round}-{work:?}-{word}");
                    subject.plan(work, &prefix, requests * threads, self.extent.each)
                };
                let plans = [&plan("warm", WARM_UP), &plan("counted", self.extent.requests)];
                let sample = sample(&subject.server, CONNECTIONS * threads, plans, self.site).await?;
                micros.push(sample.cpu_micros());
            }
        }
        Ok(())
    }

    pub(super) fn held(&self) -> Vec<Held> {
        let held = WORKS.iter().zip(&self.micros).map(|(work, (one, two))| Held {
            work: format!("{TITLE}, {}, {REDIS}", work.title()),
            measured: format!("{:.1} µs", median(two.clone())),
            reference: format!("one thread: {:.1} µs", median(one.clone())),
            value: 2.0 * ratio(one, two),
            unit: "",
            bar: Bar::AtLeast(1.85),
        });
        held.collect()
    }
}
