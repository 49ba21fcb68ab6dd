//! `varnishtest`: every script in `vtc/` plays a client and the server behind the proxy at once. Varnish itself is
//! not started: the scripts connect to `${proxy}` and listen at `${upstream}`.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Failure;
use super::subjects::{self, Door, Subject};
use super::table::{Cell, Row};
use super::tools;

const LIMIT: Duration = Duration::from_secs(25);

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/suites/vtc");
    let mut scripts: Vec<PathBuf> =
        fs::read_dir(scripts)?.map(|entry| Ok(entry?.path())).collect::<Result<_, Failure>>()?;
    scripts.sort();
    let columns = thread::scope(|scope| {
        let playing = [0, 1, 2].map(|column| {
            let (dir, scripts) = (dir.join(column.to_string()), &scripts);
            scope.spawn(move || column_of(column, &dir, scripts))
        });
        playing.map(|column| column.join().unwrap_or_else(|_| Err("a script panicked".into())))
    });
    let [onceway, nginx, haproxy] = columns;
    let cells = onceway?.into_iter().zip(nginx?).zip(haproxy?);
    let rows = scripts.iter().zip(cells).map(|(script, ((own, nginx), haproxy))| {
        let text = fs::read_to_string(script).unwrap_or_default();
        let name = text.split('"').nth(1).unwrap_or_default();
        Row::case(format!("varnishtest: {name}"), [own, nginx, haproxy])
    });
    Ok(rows.collect())
}

/// The scripts one after another: they share the upstream's port.
fn column_of(column: usize, dir: &Path, scripts: &[PathBuf]) -> Result<Vec<Cell>, Failure> {
    if !tools::is_installed("varnishtest") {
        return Ok(vec![Cell::none("not installed"); scripts.len()]);
    }
    fs::create_dir(dir)?;
    let port = subjects::free_ports(1)?.first().copied().unwrap_or_default();
    let upstream = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let Some(subject) = subjects::one(column, dir, upstream)? else {
        return Ok(vec![Cell::none("not installed"); scripts.len()]);
    };
    scripts.iter().map(|script| cell(dir, &subject, upstream, script)).collect()
}

fn cell(
    dir: &Path,
    subject: &Subject,
    upstream: std::net::SocketAddr,
    script: &Path,
) -> Result<Cell, Failure> {
    let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let door = if name.starts_with("h2") { Door::H2c } else { Door::Clear };
    let Some(address) = subject.door(door) else { return Ok(Cell::no_answer()) };
    let (proxy, upstream) = (format!("proxy={address}"), format!("upstream={upstream}"));
    let script = script.display().to_string();
    let arguments = ["-D", &proxy, "-D", &upstream, "-t", "10", &script];
    let said = tools::run("varnishtest", &arguments, dir, LIMIT)?;
    let failed = said.text.lines().find(|line| line.starts_with("----")).unwrap_or("---- it did not end");
    let why: String = failed.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    Ok(Cell::of(said.code == Some(0), why.chars().take(27).collect::<String>()))
}
