//! HTTP/2 frames that no well-behaved client sends, and what a server must do about each.
//!
//! Source: RFC 9113, by section. Read `frames.rs` for the bytes, `http2.rs` for the tools beside it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Failure;
use super::frames::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, request,
};
use super::site::Site;
use super::subjects::{Door, Subject};
use super::table::{Cell, Row};

/// How long a server may take to end a stream or connection that has gone wrong.
pub(super) const REACTION: Duration = Duration::from_secs(2);

/// What a server must do with a request that is none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// `RST_STREAM`, an answer of 400, or the end of the connection: and nothing reaches the upstream.
    Stream,
    /// GOAWAY or the end of the connection.
    Connection,
    /// An answer of 200.
    Answer,
}

/// A name, the bytes for a path of its own, and what is right.
type Malformed = (&'static str, fn(&str) -> Vec<u8>, End);

const MALFORMED: &[Malformed] = &[
    ("a plain request", |path| request(1, END_STREAM, path, &[]), End::Answer),
    (
        "a request in pieces, RFC 9113 §6.10",
        |path| {
            let own = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path)];
            let fields = block(&own);
            let (first, rest) = fields.split_at(10);
            [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
        },
        End::Answer,
    ),
    ("te of trailers, §8.2.2", |path| request(1, END_STREAM, path, &[("te", "trailers")]), End::Answer),
    (
        "cookies in crumbs, §8.2.3",
        |path| request(1, END_STREAM, path, &[("cookie", "a=1"), ("cookie", "b=2")]),
        End::Answer,
    ),
    ("a name in capitals, §8.2", |path| request(1, END_STREAM, path, &[("X-A", "b")]), End::Stream),
    ("a name with a blank, §8.2.1", |path| request(1, END_STREAM, path, &[("x a", "b")]), End::Stream),
    ("a name of nothing, §8.2.1", |path| request(1, END_STREAM, path, &[("", "b")]), End::Stream),
    ("a name with a colon, §8.2.1", |path| request(1, END_STREAM, path, &[("x:a", "b")]), End::Stream),
    (
        "a value with CR LF, §8.2.1",
        |path| request(1, END_STREAM, path, &[("x-a", "b\r\nx-b: c")]),
        End::Stream,
    ),
    ("a value with NUL, §8.2.1", |path| request(1, END_STREAM, path, &[("x-a", "b\0c")]), End::Stream),
    (
        "a value with a blank in front, §8.2.1",
        |path| request(1, END_STREAM, path, &[("x-a", " b")]),
        End::Stream,
    ),
    ("connection, §8.2.2", |path| request(1, END_STREAM, path, &[("connection", "close")]), End::Stream),
    (
        "transfer-encoding, §8.2.2",
        |path| request(1, END_STREAM, path, &[("transfer-encoding", "chunked")]),
        End::Stream,
    ),
    ("keep-alive, §8.2.2", |path| request(1, END_STREAM, path, &[("keep-alive", "timeout=5")]), End::Stream),
    ("upgrade, §8.2.2", |path| request(1, END_STREAM, path, &[("upgrade", "h2c")]), End::Stream),
    ("te of gzip, §8.2.2", |path| request(1, END_STREAM, path, &[("te", "gzip")]), End::Stream),
    ("an unknown pseudo-field, §8.3", |path| request(1, END_STREAM, path, &[(":odd", "b")]), End::Stream),
    (
        "an answer's pseudo-field, §8.3",
        |path| request(1, END_STREAM, path, &[(":status", "200")]),
        End::Stream,
    ),
    (
        "a pseudo-field after a field, §8.3",
        |path| {
            let fields = [("x-a", "b"), (":method", "GET"), (":scheme", "http"), (":path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    ("a method twice, §8.3", |path| request(1, END_STREAM, path, &[(":method", "POST")]), End::Stream),
    ("a path twice, §8.3", |path| request(1, END_STREAM, path, &[(":path", "/other")]), End::Stream),
    (
        "no method, §8.3.1",
        |path| {
            let fields = [(":scheme", "http"), (":authority", "h"), (":path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "no scheme, §8.3.1",
        |path| {
            let fields = [(":method", "GET"), (":authority", "h"), (":path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "no path, §8.3.1",
        |path| {
            let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), ("x-path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "an empty path, §8.3.1",
        |path| {
            let fields = [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "h"),
                (":path", ""),
                ("x-path", path),
            ];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "a path without a slash, §8.3.1",
        |path| {
            let path = path.trim_start_matches('/');
            let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "a path with a blank, §8.3.1",
        |path| {
            let path = format!("{path} HTTP/1.1");
            let fields =
                [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path.as_str())];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "a method with a blank, §8.3.1",
        |path| {
            let fields = [(":method", "GET /x"), (":scheme", "http"), (":authority", "h"), (":path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "an authority and another host, §8.3.1",
        |path| request(1, END_STREAM, path, &[("host", "other")]),
        End::Stream,
    ),
    (
        "an authority with a user, §8.3.1",
        |path| {
            let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "u@h"), (":path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "neither authority nor host, §8.3.1",
        |path| {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    (
        "a length without data, §8.1.1",
        |path| request(1, END_STREAM, path, &[("content-length", "5")]),
        End::Stream,
    ),
    (
        "more data than its length, §8.1.1",
        |path| {
            let head = request(1, 0, path, &[("content-length", "3")]);
            [head, frame(DATA, END_STREAM, 1, b"hello")].concat()
        },
        End::Stream,
    ),
    (
        "less data than its length, §8.1.1",
        |path| {
            let head = request(1, 0, path, &[("content-length", "9")]);
            [head, frame(DATA, END_STREAM, 1, b"hello")].concat()
        },
        End::Stream,
    ),
    (
        "two lengths, §8.1.1",
        |path| {
            let head = request(1, 0, path, &[("content-length", "5"), ("content-length", "6")]);
            [head, frame(DATA, END_STREAM, 1, b"hello")].concat()
        },
        End::Stream,
    ),
    (
        "a pseudo-field in trailers, §8.1",
        |path| {
            let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[(":path", "/other")]));
            [request(1, 0, path, &[]), frame(DATA, 0, 1, b"hello"), trailers].concat()
        },
        End::Stream,
    ),
    (
        "connect, §8.5",
        |path| {
            let fields = [(":method", "CONNECT"), (":authority", "h:80"), ("x-path", path)];
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        },
        End::Stream,
    ),
    ("a stream of an even number, §5.1.1", |path| request(2, END_STREAM, path, &[]), End::Connection),
    ("headers on stream 0, §6.2", |path| request(0, END_STREAM, path, &[]), End::Connection),
    ("data on stream 0, §6.1", |_| frame(DATA, END_STREAM, 0, b"hello"), End::Connection),
    ("data on an idle stream, §5.1", |_| frame(DATA, END_STREAM, 1, b"hello"), End::Connection),
    ("a reset of an idle stream, §5.1", |_| frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), End::Connection),
    ("a window update of nought, §6.9", |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]), End::Connection),
    ("settings of five bytes, §6.5", |_| frame(SETTINGS, 0, 0, &[0; 5]), End::Connection),
    ("a ping of seven bytes, §6.7", |_| frame(PING, 0, 0, &[0; 7]), End::Connection),
    ("a frame larger than allowed, §4.2", |_| frame(DATA, 0, 1, &vec![0; 20_000]), End::Connection),
    ("a continuation of nothing, §6.10", |_| frame(CONTINUATION, END_HEADERS, 1, &[]), End::Connection),
    (
        "a broken header block, §4.3",
        |_| frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        End::Connection,
    ),
];

pub(super) fn rows(subjects: &[Option<Subject>; 3], site: &Site) -> Vec<Row> {
    let rows = MALFORMED.iter().enumerate().map(|(number, (name, bytes, end))| {
        let cells = [0, 1, 2].map(|column| {
            let Some(Some(subject)) = subjects.get(column) else { return Cell::none("not installed") };
            let Some(address) = subject.door(Door::H2c) else { return Cell::no_answer() };
            let path = format!("/h2-{number}-{column}");
            match reaction(address, &bytes(&path)) {
                Err(_) => Cell::no_answer(),
                Ok(shown) => {
                    let asked = site.count(&path);
                    let is_right = match end {
                        End::Stream => asked == 0 && shown != "200" && shown != "nothing",
                        End::Connection => shown == "goaway" || shown == "closed",
                        End::Answer => shown == "200" && asked == 1,
                    };
                    Cell::of(is_right, if asked > 0 { format!("{shown} → GET") } else { shown })
                }
            }
        });
        Row::case(format!("http/2: {name}"), cells)
    });
    rows.collect()
}

/// Sends bytes on a connection of their own, and tells what the server did about them.
pub(super) fn reaction(address: SocketAddr, bytes: &[u8]) -> Result<String, Failure> {
    let mut client = Client::connect(address)?;
    client.send(bytes)?;
    loop {
        match client.read(REACTION) {
            Err(_) => return Ok("closed".to_owned()),
            Ok(None) => return Ok("nothing".to_owned()),
            Ok(Some(frame)) => match frame.kind {
                GOAWAY => return Ok("goaway".to_owned()),
                RST_STREAM => return Ok("reset".to_owned()),
                HEADERS => return Ok(status_of(&frame.payload)),
                _ => {}
            },
        }
    }
}

/// RFC 7541 Appendix A: the statuses that the static table holds come as one byte. Others as a literal of three.
fn status_of(block: &[u8]) -> String {
    // An update of the table's size may stand in front.
    let rest = block.iter().skip_while(|byte| **byte & 0xe0 == 0x20).copied().collect::<Vec<u8>>();
    let known = [
        (0x88, "200"),
        (0x89, "204"),
        (0x8a, "206"),
        (0x8b, "304"),
        (0x8c, "400"),
        (0x8d, "404"),
        (0x8e, "500"),
    ];
    match rest.first() {
        Some(first) => {
            known.iter().find(|(byte, _)| byte == first).map_or("another status", |(_, status)| *status)
        }
        None => "another status",
    }
    .to_owned()
}
