//! How often Redis is asked per request, with one caller at a time so that no two commands share a read.

use std::fmt::Write as _;
use std::time::Duration;

use super::Failure;
use super::load::Callers;
use super::measure::{counted, let_it_pass};
use super::servers::RedisCounts;
use super::site::Site;
use super::subjects::Subject;
use super::work::{REDIS, Role, Work};

/// Requests of one caller by which round trips are counted.
const COUNTED: u32 = 200;

/// Counts them for each gateway on Redis and whatever it is asked.
pub(super) async fn count(subjects: &[Subject], site: &Site) -> Result<String, Failure> {
    let mut report =
        "Redis, per request of a single caller (calls made inside scripts are listed too):\n".to_owned();
    let on_redis = subjects.iter().filter(|subject| subject.name == REDIS || subject.role == Role::Peer);
    let asked = on_redis.flat_map(|subject| {
        let works = [Work::First, Work::Replay, Work::ReplayFromStore].into_iter();
        works.filter(|work| subject.role.does(*work)).map(move |work| (subject, work))
    });
    for (subject, work) in asked {
        match counts(subject, work, site).await {
            Ok(counts) => writeln!(report, "{:<26} {:<16} {counts}", work.title(), subject.name)?,
            // The other gateway's mistakes are no reason to stop.
            Err(error) if subject.role == Role::Peer => {
                writeln!(report, "{:<26} {:<16} {error}", work.title(), subject.name)?;
                let_it_pass().await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

async fn counts(subject: &Subject, work: Work, site: &Site) -> Result<String, Failure> {
    let mut callers = Callers::connect(subject.server.address, 1).await?;
    let prefix = format!("alone-{}", subject.server.pid());
    let plan = subject.plan(work, &prefix, usize::try_from(COUNTED)?, Duration::from_secs(10));
    let before = RedisCounts::of(&site.redis)?;
    let seen = counted(&mut callers, &plan, &site.upstream).await?;
    let after = RedisCounts::of(&site.redis)?;
    let requests = f64::from(u32::try_from(seen.latencies.len())?);
    let per_request = |count: u64| Ok::<_, Failure>(f64::from(u32::try_from(count)?) / requests);
    // Between the two counts lie the reads of the second, and the gateways' heartbeats. The other gateway asks whether
    // Redis still answers before each command, which is a round trip like any other.
    let pings = after.calls_of("ping") - before.calls_of("ping");
    let asides = if subject.role == Role::Peer { 1 } else { pings + 1 };
    let reads = (after.reads - before.reads).saturating_sub(asides);
    let mut commands = Vec::new();
    for (command, calls) in &after.calls {
        let calls = per_request(calls - before.calls_of(command))?;
        if calls >= 0.1 {
            commands.push(format!("{command} {calls:.2}"));
        }
    }
    let commands = if commands.is_empty() { "none".to_owned() } else { commands.join(", ") };
    Ok(format!("{:.2} round trips ({commands})", per_request(reads)?))
}
