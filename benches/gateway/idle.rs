//! The memory of an idle connection: ten thousand callers ask one request each and stay.
//!
//! Counted is what the process grows by (`VmRSS`), so sockets' buffers in the kernel are not in it. It has answered as many
//! requests before, on few connections, so that what it needs once is there.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

use super::Failure;
use super::bars::{Bar, Held};
use super::load::{Callers, Plan};
use super::measure::{CONNECTIONS, counted};
use super::references;
use super::servers::Server;
use super::site::Site;
use super::subjects::Subject;
use super::table::median;
use super::wire::Wire;
use super::work::{Role, Work};

/// What `--only` is compared with.
pub(super) const TITLE: &str = "memory per idle connection";

const HELD: u32 = 10_000;

/// Files that are open besides connections.
const OTHER_FILES: u64 = 500;

/// A connection gives its buffers back when nothing has moved on it for two seconds at most.
const SETTLE: Duration = Duration::from_secs(3);

/// Lets this process and those that it starts hold as many connections as the machine permits. Answers how many.
pub(super) fn raise_open_files() -> Result<u32, Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let permitted = limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    Ok(u32::try_from(permitted).unwrap_or(u32::MAX))
}

/// Measures it, on a process of its own each time, for the gateway and for nginx with a file to serve.
pub(super) async fn measure(site: &Site, times: usize, permitted: u32) -> Result<Held, Failure> {
    let connections = HELD.min(permitted);
    let (mut ours, mut nginx) = (Vec::new(), Vec::new());
    for time in 0..times {
        let dir = site.dir().join(format!("idle-{time}"));
        fs::create_dir(&dir)?;
        let server = Server::gateway(&dir, "gateway", "memory:", None, site.upstream.address)?;
        let mut gateway = Subject::new(&Arc::new(server), Role::Gateway, "memory:");
        gateway.finish_some(site).await?;
        ours.push(grown(&gateway, Work::Replay, connections, site).await?);
        let server = references::nginx(&dir, site.upstream.address)?;
        let plain = Subject::new(&Arc::new(server), Role::Nginx, "nginx");
        nginx.push(grown(&plain, Work::Static, connections, site).await?);
    }
    let ours = median(ours);
    Ok(Held {
        work: format!("{TITLE}, {connections} held"),
        measured: format!("{ours:.1} KiB"),
        reference: format!("nginx: {:.1} KiB", median(nginx)),
        value: ours,
        unit: "KiB",
        bar: Bar::AtMost(12.0),
    })
}

/// By how much it grows for each connection, in KiB.
async fn grown(subject: &Subject, work: Work, connections: u32, site: &Site) -> Result<f64, Failure> {
    let plan = subject.plan(work, "idle", usize::try_from(connections)?, Duration::from_mins(1));
    let mut callers = Callers::connect(subject.server.address, CONNECTIONS).await?;
    counted(&mut callers, &plan, &site.upstream).await?;
    drop(callers);
    tokio::time::sleep(SETTLE).await;
    let before = resident_kib(subject.server.pid())?;
    let held = hold(subject, &plan).await?;
    tokio::time::sleep(SETTLE).await;
    let grown = resident_kib(subject.server.pid())? - before;
    drop(held);
    Ok(grown / f64::from(connections))
}

/// Has every connection ask one request, and keeps it.
async fn hold(subject: &Subject, plan: &Plan) -> Result<Vec<Wire>, Failure> {
    let mut held = Vec::with_capacity(plan.requests);
    for number in 0..plan.requests {
        let mut wire = Wire::new(TcpStream::connect(subject.server.address).await?)?;
        plan.ask(&mut wire, number).await?;
        held.push(wire);
    }
    Ok(held)
}

fn resident_kib(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().strip_suffix(" kB")).ok_or("read the process's memory")?;
    Ok(kib.parse()?)
}
