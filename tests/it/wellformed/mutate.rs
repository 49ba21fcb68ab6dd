//! Requests that go wrong: a few good and bad ones in a row, with bytes changed here and there.
//!
//! Must not know the gateway. The same seed gives the same bytes.

use fastrand::Rng;

/// Good requests, and pieces that are likely to be read differently.
const SEEDS: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET http://h/a?b=/../ HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    "HEAD /a HTTP/1.1\r\nHost: h:80\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 3\r\n\r\n",
    "GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\n\r\n3;a=b;c=\"d;\"\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 44\r\n\r\nGET /inner HTTP/1.1\r\nHost: h\r\nX: y\r\nZ: x\r\n\r\n",
    "POST /guarded HTTP/1.1\r\nHost: h\r\nIdempotency-Key: KEY\r\nContent-Length: 2\r\n\r\nok",
    "POST /guarded HTTP/1.1\r\nHost: h\r\nIdempotency-Key: \"KEY\"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    "GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
    "DELETE /a HTTP/1.1\r\nHost: h\r\nConnection: close, x-named\r\nX-Named: y\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Put in, or in the place of others.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    "\0",
    "\x0b",
    "\x7f",
    "\u{e9}",
    ":",
    ",",
    ";",
    "\"",
    "%",
    "0",
    "1",
    "5\r\n",
    "0\r\n\r\n",
    "-1",
    "+5",
    "0x5",
    "ffffffffffffffff",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5, 5\r\n",
    "content-length:6\r\n",
    "Content-Length : 5\r\n",
    "Content_Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "transfer-encoding:\tchunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    " folded\r\n",
    "X: y\r\n folded: z\r\n",
    "Host: other\r\n",
    "Host: h@x\r\n",
    "Connection: content-length\r\n",
    "Connection: transfer-encoding\r\n",
    "Connection: host\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "Idempotency-Key: KEY\r\n",
    "X: y\r\n",
    "X Y: z\r\n",
    "X\r\n",
    ": y\r\n",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "http/1.1",
    "GET ",
    "get ",
    "//h/",
    "http://x/",
    "*",
    "#f",
    "?q",
    "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n",
    "Trailer: content-length\r\n",
    "TE: trailers\r\n",
    "X-Forwarded-For: 127.0.0.1\r\n",
];

/// What one caller sends. `key` makes its idempotency keys differ from others'.
pub(crate) fn bytes(random: &mut Rng, key: &str) -> Vec<u8> {
    let count = random.usize(1..=4);
    let parts = (0..count)
        .map(|_| random.choice(SEEDS).unwrap().replace("KEY", &format!("{key}-{}", random.u8(..3))));
    let mut bytes = parts.collect::<String>().into_bytes();
    for _ in 0..random.usize(..4) {
        change(random, &mut bytes, key);
    }
    if random.u8(..16) == 0 {
        bytes.truncate(random.usize(..=bytes.len()));
    }
    bytes
}

fn change(random: &mut Rng, bytes: &mut Vec<u8>, key: &str) {
    let piece = random.choice(PIECES).unwrap().replace("KEY", key).into_bytes();
    let line_starts = bytes.windows(2).enumerate().filter(|(_, two)| *two == b"\r\n").map(|(at, _)| at + 2);
    let line_starts: Vec<_> = line_starts.collect();
    let at = match random.choice(&line_starts) {
        Some(start) if piece.ends_with(b"\n") && random.u8(..4) > 0 => *start,
        Some(_) | None => random.usize(..=bytes.len()),
    };
    match random.u8(..6) {
        0..=2 => drop(bytes.splice(at..at, piece)),
        3 => {
            let end = (at + random.usize(..6)).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        4 => {
            let end = (at + random.usize(1..6)).min(bytes.len());
            bytes.drain(at..end);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.u8(..8);
            }
        }
    }
}
