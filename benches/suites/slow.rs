//! `slowhttptest`: callers that send heads, bodies or reads drop by drop. How long until they are let go of, and is
//! everybody else served meanwhile?

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::site::Site;
use super::subjects::{self, Door, Subject};
use super::table::{Cell, Kind, Row};
use super::tools;

/// How long each attack lasts. A caller that is still there then is not let go of.
const LASTS: u32 = 25;

/// Slow callers at once.
const CALLERS: &str = "100";

/// A slow caller should be gone by then.
const RIGHT_WITHIN: f64 = 15.0;

struct Attack {
    name: &'static str,
    options: &'static [&'static str],
    path: &'static str,
}

const ATTACKS: &[Attack] = &[
    Attack { name: "slow heads", options: &["-H", "-i", "2"], path: "/hello" },
    Attack { name: "slow bodies", options: &["-B", "-i", "2", "-s", "8192", "-t", "POST"], path: "/echo" },
];

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let site = Site::start()?;
    let subjects = subjects::all(dir, site.address)?;
    let mut rows = Vec::new();
    for attack in ATTACKS {
        let name = format!("slowhttptest, {}", attack.name);
        if !tools::is_installed("slowhttptest") {
            rows.push(Row::case(name, [0, 1, 2].map(|_| Cell::none("not installed"))));
            continue;
        }
        let suffered = thread::scope(|scope| {
            let playing = subjects.each_ref().map(|subject| {
                let dir = dir.join(format!("{}-{:p}", attack.name.replace(' ', "-"), subject));
                scope.spawn(move || suffer(&dir, subject.as_ref(), attack))
            });
            playing.map(|played| played.join().unwrap_or_else(|_| Err("a caller panicked".into())))
        });
        let [onceway, nginx, haproxy] = suffered;
        let suffered = [onceway?, nginx?, haproxy?];
        let closing = suffered.each_ref().map(|suffered| closing_cell(suffered.as_ref()));
        let serving = suffered.each_ref().map(|suffered| match suffered {
            None => Cell::none("not installed"),
            Some(suffered) => {
                let share = 100.0 * suffered.served;
                Cell::figure(share, format!("{share:.0} %"), Some(suffered.served > 0.999))
            }
        });
        rows.push(Row {
            name: format!("{name}, s until the last is closed"),
            cells: closing,
            kind: Kind::LowerIsBetter,
        });
        rows.push(Row {
            name: format!("{name}, others served meanwhile"),
            cells: serving,
            kind: Kind::HigherIsBetter,
        });
    }
    rows.push(slow_reader(&subjects));
    Ok(rows)
}

struct Suffered {
    /// Seconds until no slow caller was left; `None` if some were at the end.
    closed_after: Option<u32>,
    /// The share of other requests that were answered.
    served: f64,
}

fn suffer(dir: &Path, subject: Option<&Subject>, attack: &Attack) -> Result<Option<Suffered>, Failure> {
    let Some(address) = subject.and_then(|subject| subject.door(Door::Clear)) else { return Ok(None) };
    fs::create_dir(dir)?;
    let url = format!("http://{address}{}", attack.path);
    let lasts = LASTS.to_string();
    let mut arguments =
        vec!["-c", CALLERS, "-r", "100", "-l", &lasts, "-p", "5", "-x", "10", "-g", "-o", "told"];
    arguments.extend(attack.options);
    arguments.extend(["-u", &url]);
    let limit = Duration::from_secs(u64::from(LASTS) + 15);
    let served = thread::scope(|scope| {
        let others = scope.spawn(|| served(address, Duration::from_secs(u64::from(LASTS) - 5)));
        let said = tools::run("slowhttptest", &arguments, dir, limit);
        said.map(|_| others.join().unwrap_or_default())
    })?;
    Ok(Some(Suffered { closed_after: closed_after(&fs::read_to_string(dir.join("told.csv"))?), served }))
}

/// Every half second of the tool's own account: seconds, closed, pending, connected, service available.
fn closed_after(table: &str) -> Option<u32> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut numbers = line.split(',').map(|word| word.trim().parse::<u32>());
        let second = numbers.next()?.ok()?;
        let left = numbers.nth(1)?.ok()? + numbers.next()?.ok()?;
        Some((second, left))
    });
    let rows: Vec<_> = rows.collect();
    let (_, last_left) = rows.last()?;
    (*last_left == 0)
        .then(|| rows.iter().rev().take_while(|(_, left)| *left == 0).last().map(|(at, _)| *at))?
}

fn closing_cell(suffered: Option<&Suffered>) -> Cell {
    match suffered {
        None => Cell::none("not installed"),
        Some(Suffered { closed_after: Some(seconds), .. }) => {
            let seconds = f64::from(*seconds);
            Cell::figure(seconds, format!("{seconds} s"), Some(seconds <= RIGHT_WITHIN))
        }
        Some(Suffered { closed_after: None, .. }) => {
            Cell::figure(f64::from(LASTS) * 10.0, format!("not within {LASTS} s"), Some(false))
        }
    }
}

/// The share of plain requests, one every 200 ms, that are answered within a second.
fn served(address: SocketAddr, lasts: Duration) -> f64 {
    let until = Instant::now() + lasts;
    let (mut asked, mut answered) = (0_u32, 0_u32);
    while Instant::now() < until {
        asked += 1;
        answered += u32::from(is_served(address));
        thread::sleep(Duration::from_millis(200));
    }
    f64::from(answered) / f64::from(asked.max(1))
}

fn is_served(address: SocketAddr) -> bool {
    let asked = TcpStream::connect_timeout(&address, Duration::from_secs(1)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    asked.is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
}

/// A caller that asks for 30 MB and reads nothing: how long until it is let go of?
fn slow_reader(subjects: &[Option<Subject>; 3]) -> Row {
    const LIMIT: Duration = Duration::from_secs(45);
    let cells = thread::scope(|scope| {
        let playing = subjects.each_ref().map(|subject| {
            scope.spawn(move || {
                let address = subject.as_ref()?.door(Door::Clear)?;
                closes_reader(address, LIMIT).ok()
            })
        });
        playing.map(|played| match played.join().unwrap_or_default() {
            None => Cell::no_answer(),
            Some(Some(after)) => Cell::figure(after.as_secs_f64(), format!("{} s", after.as_secs()), None),
            Some(None) => Cell::figure(999.0, format!("not within {} s", LIMIT.as_secs()), None),
        })
    });
    let name = "a caller that reads nothing, s until it is closed";
    Row { name: name.to_owned(), cells, kind: Kind::LowerIsBetter }
}

fn closes_reader(address: SocketAddr, limit: Duration) -> std::io::Result<Option<Duration>> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&address.into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET /bytes/30000000 HTTP/1.1\r\nHost: h\r\n\r\n")?;
    let began = Instant::now();
    while began.elapsed() < limit {
        thread::sleep(Duration::from_millis(250));
        // A reset shows on the socket without anything being read.
        if stream.take_error()?.is_some() {
            return Ok(Some(began.elapsed()));
        }
    }
    Ok(None)
}
