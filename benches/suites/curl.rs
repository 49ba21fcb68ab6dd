//! curl in its protocol modes: does a request by each of them come back as it should?

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::site::{Site, letters};
use super::subjects::{self, Door, Subject};
use super::table::{Cell, Kind, Row};
use super::tools;

const LIMIT: Duration = Duration::from_secs(10);

/// Past what a proxy holds in memory, so that it has to stream.
const LARGE: usize = 3_000_000;

/// A mode of curl, and where it applies.
struct Mode {
    name: &'static str,
    door: Door,
    scheme: &'static str,
    options: &'static [&'static str],
    /// What curl says of the version that was spoken.
    version: &'static str,
}

const MODES: &[Mode] = &[
    // RFC 9110 §2.5: the answer may say that its sender speaks a higher version.
    Mode { name: "--http1.0", door: Door::Clear, scheme: "http", options: &["--http1.0"], version: "" },
    Mode { name: "--http1.1", door: Door::Clear, scheme: "http", options: &["--http1.1"], version: "1.1" },
    // Asks for an upgrade, which no proxy has to grant.
    Mode { name: "--http2, clear", door: Door::Clear, scheme: "http", options: &["--http2"], version: "" },
    Mode {
        name: "--http2-prior-knowledge",
        door: Door::H2c,
        scheme: "http",
        options: &["--http2-prior-knowledge"],
        version: "2",
    },
    Mode {
        name: "https --http1.1",
        door: Door::Tls,
        scheme: "https",
        options: &["-k", "--http1.1"],
        version: "1.1",
    },
    Mode {
        name: "https --http2",
        door: Door::Tls,
        scheme: "https",
        options: &["-k", "--http2"],
        version: "2",
    },
    Mode {
        name: "https --tlsv1.2",
        door: Door::Tls,
        scheme: "https",
        options: &["-k", "--tls-max", "1.2"],
        version: "2",
    },
    Mode {
        name: "--haproxy-protocol",
        door: Door::Proxied,
        scheme: "http",
        options: &["--haproxy-protocol"],
        version: "1.1",
    },
];

/// A thing to do, and what must be said afterwards: status and bytes received.
struct Errand {
    name: &'static str,
    path: &'static str,
    options: &'static [&'static str],
    status: &'static str,
    /// The body awaited.
    body: fn() -> Vec<u8>,
}

const ERRANDS: &[Errand] = &[
    Errand { name: "get", path: "/hello", options: &[], status: "200", body: || b"hello".to_vec() },
    Errand { name: "head", path: "/bytes/5000", options: &["--head"], status: "200", body: Vec::new },
    Errand {
        name: "3 MB down",
        path: "/bytes/3000000",
        options: &[],
        status: "200",
        body: || letters(LARGE),
    },
    Errand {
        name: "900 kB up",
        path: "/echo",
        options: &["--data-binary", "@upload"],
        status: "200",
        body: || letters(900_000),
    },
    Errand {
        name: "chunked upload",
        path: "/echo",
        options: &["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-T", "upload", "-X", "POST"],
        status: "200",
        body: || letters(900_000),
    },
    Errand {
        name: "expect 100",
        path: "/echo",
        options: &["-H", "Expect: 100-continue", "--data-binary", "@upload"],
        status: "200",
        body: || letters(900_000),
    },
    Errand {
        name: "resume",
        path: "/bytes/5000",
        options: &["-C", "3000"],
        status: "206",
        body: || letters(5000).split_off(3000),
    },
    Errand { name: "trailers", path: "/trailers", options: &[], status: "200", body: || b"hello".to_vec() },
    Errand {
        name: "early hints",
        path: "/hints",
        options: &[],
        status: "200",
        body: || b"after hints".to_vec(),
    },
    Errand {
        name: "put",
        path: "/echo",
        options: &["-X", "PUT", "--data-binary", "hi"],
        status: "200",
        body: || b"hi".to_vec(),
    },
];

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let site = Site::start()?;
    let subjects = subjects::all(dir, site.address)?;
    fs::write(dir.join("upload"), letters(900_000))?;
    let mut rows = Vec::new();
    for mode in MODES {
        for errand in ERRANDS.iter().filter(|errand| is_sensible(mode, errand)) {
            let name = format!("curl {}, {}", mode.name, errand.name);
            rows.push(row(&name, dir, &subjects, mode, errand));
        }
    }
    Ok(rows)
}

/// HTTP/1.0 has neither chunks nor interim answers.
fn is_sensible(mode: &Mode, errand: &Errand) -> bool {
    let needs_1_1 = ["chunked upload", "expect 100", "trailers", "early hints"].contains(&errand.name);
    !(mode.name == "--http1.0" && needs_1_1)
}

fn row(name: &str, dir: &Path, subjects: &[Option<Subject>; 3], mode: &Mode, errand: &Errand) -> Row {
    if !tools::is_installed("curl") {
        let cells = [0, 1, 2].map(|_| Cell::none("not installed"));
        return Row { name: name.to_owned(), cells, kind: Kind::Case };
    }
    subjects::row(name, subjects, mode.door, |address| ask(dir, address, mode, errand))
}

fn ask(dir: &Path, address: SocketAddr, mode: &Mode, errand: &Errand) -> Result<Cell, Failure> {
    let url = format!("{}://{address}{}", mode.scheme, errand.path);
    let mut arguments = vec!["-s", "-S", "--max-time", "5", "-o", "received"];
    arguments.extend(["-w", "%{http_code} %{http_version}"]);
    arguments.extend(mode.options.iter().chain(errand.options));
    arguments.push(&url);
    let received = dir.join("received");
    drop(fs::remove_file(&received));
    if errand.options.contains(&"-C") {
        fs::write(&received, letters(3000))?;
    }
    let said = tools::run("curl", &arguments, dir, LIMIT)?;
    if said.code != Some(0) {
        let why = said.text.lines().find(|line| line.starts_with("curl:")).unwrap_or("no answer").to_owned();
        return Ok(Cell::wrong(why.chars().take(26).collect::<String>()));
    }
    let (status, version) = said.text.trim().split_once(' ').unwrap_or_default();
    let mut body = fs::read(&received).unwrap_or_default();
    let wanted = (errand.body)();
    if errand.options.contains(&"-C") {
        body = body.split_off(body.len().min(3000));
    }
    let is_body_right = errand.options.contains(&"--head") || body == wanted;
    Ok(if status != errand.status {
        Cell::wrong(format!("status {status}"))
    } else if !mode.version.is_empty() && version != mode.version {
        Cell::wrong(format!("version {version}"))
    } else {
        Cell::of(is_body_right, format!("{} bytes of {}", body.len(), wanted.len()))
    })
}
