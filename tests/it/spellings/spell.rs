//! Spells a path anew: a generator that applies, a few times over, what some server takes away again.
//!
//! Must not know readers or routes. The same seed gives the same spellings.

use fastrand::Rng;

/// Another way to write `path`, or something near to it: visible ASCII, as a request target must be.
pub(crate) fn spell(random: &mut Rng, path: &str) -> String {
    let mut spelled = path.as_bytes().to_vec();
    for _ in 0..random.usize(1..5) {
        spelled = again(random, spelled);
    }
    if random.u8(..10) == 0 {
        // Anything at all, for what nobody thought of.
        let at = random.usize(1..=spelled.len());
        spelled.insert(at, *random.choice(b"%25fFce0./\\;+(S)aA:~u?").unwrap());
    }
    spelled.retain(|byte| byte.is_ascii_graphic() && !b"?#<>^`|".contains(byte));
    if spelled.first() != Some(&b'/') {
        spelled.insert(0, b'/');
    }
    spelled.truncate(2000);
    String::from_utf8(spelled).unwrap()
}

fn again(random: &mut Rng, path: Vec<u8>) -> Vec<u8> {
    match random.u8(..10) {
        0..=2 => one_character(random, path),
        3 => every_character(random, &path),
        4 | 5 => between_segments(random, path),
        6 => in_front(random, &path),
        7 => slash_turned(random, &path),
        _ => at_the_end(random, path),
    }
}

/// Encodes one character in one of the ways there are.
fn one_character(random: &mut Rng, mut path: Vec<u8>) -> Vec<u8> {
    let at = random.usize(..path.len());
    let written = encoded(random, path[at]);
    path.splice(at..=at, written);
    path
}

fn every_character(random: &mut Rng, path: &[u8]) -> Vec<u8> {
    let (head, tail) = path.split_at(1);
    let tail = tail.iter().flat_map(|byte| if *byte == b'/' { vec![b'/'] } else { encoded(random, *byte) });
    head.iter().copied().chain(tail).collect()
}

fn encoded(random: &mut Rng, byte: u8) -> Vec<u8> {
    let wide = 0xfee0 + u32::from(byte);
    match random.u8(..12) {
        0..=2 => format!("%{byte:02x}"),
        3 | 4 => format!("%{byte:02X}"),
        5 => format!("%25{byte:02x}"),
        6 => format!("%{:02x}%{:02x}", byte >> 4 | b'0', byte),
        7 => format!("%u{byte:04x}"),
        8 => format!("%{:02x}%{:02x}", 0xc0 | byte >> 6, 0x80 | byte & 0x3f),
        9 => format!("%e0%{:02x}%{:02x}", 0x80 | byte >> 6, 0x80 | byte & 0x3f),
        10 if byte.is_ascii_graphic() => {
            let mut utf8 = [0; 4];
            let wide = char::from_u32(wide).unwrap().encode_utf8(&mut utf8).as_bytes().to_vec();
            format!("%{:02X}%{:02X}%{:02X}", wide[0], wide[1], wide[2])
        }
        _ if byte.is_ascii_alphabetic() => char::from(byte ^ 0x20).to_string(),
        _ => char::from(byte).to_string(),
    }
    .into_bytes()
}

/// Puts in something between two segments that some server takes out again.
fn between_segments(random: &mut Rng, mut path: Vec<u8>) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "/",
        "//",
        "/.",
        "/./",
        "/x/..",
        "/x/../",
        "/x//..",
        "//x/..",
        "/%2e",
        "/%2E%2e/",
        "/x/%2e%2e",
        "/x/.%2e",
        "/..;/",
        "/x/..;",
        "/x/..;a=b",
        "/;x",
        "/;",
        "/.;",
        "/x/..%3b",
        "%2f",
        "%2f.",
        "%2fx%2f..",
        "%5c",
        "%5cx%5c..",
        "\\",
        "\\.",
        "\\x\\..",
        "/%20",
        "/%09",
        "/x/%252e%252e",
        "%252f",
        "/(S(x))",
        "/..",
        "/../",
        "/%c0%ae",
        "/x/%c0%ae%c0%ae",
        "/x%c0%af..",
        "/%uff0e",
        "/index.php",
        "/x/y/../..",
        "/x/..%00/",
        "/.%00",
    ];
    let slashes: Vec<usize> =
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
    let at = random.choice(slashes).unwrap_or(0);
    path.splice(at..at, random.choice(PIECES).unwrap().bytes());
    path
}

fn in_front(random: &mut Rng, path: &[u8]) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "//host",
        "///host",
        "/\\host",
        "\\\\host",
        "//",
        "/x/..",
        "/..",
        "/%2e%2e",
        "/index.php",
        "/INDEX.PHP",
        "/app.php",
        "/(S(abc))",
        "/(A(x)F(y))",
        "/;x",
        "/x;y/..",
        "/%2f",
        "/%5c",
        "/.",
        "/x%2f..",
        "/x%0a",
        "/x%0d%0a",
    ];
    let piece = random.choice(PIECES).unwrap().as_bytes();
    [piece, path].concat()
}

fn slash_turned(random: &mut Rng, path: &[u8]) -> Vec<u8> {
    const SLASHES: &[&str] =
        &["\\", "%2f", "%2F", "%5c", "%252f", "%c0%af", "%u2215", "%ef%bc%8f", "%c2%a5", "//"];
    let by = random.choice(SLASHES).unwrap();
    let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    [&path[..at], by.as_bytes(), path.get(at + 1..).unwrap_or_default()].concat()
}

fn at_the_end(random: &mut Rng, mut path: Vec<u8>) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "/",
        "//",
        "/.",
        "/x/..",
        "/%2e",
        "%2f",
        "%5c",
        "\\",
        ";",
        ";x",
        ";x=y",
        ";x/y",
        ";x%2fy",
        "%3bx",
        "%3b",
        "%3fx",
        "%23x",
        "%20",
        "%09",
        "%0a",
        "%0d%0a",
        "%00",
        "%00.png",
        "+",
        ".",
        "..",
        "%2e",
        ". .",
        ".json",
        ".tar.gz",
        "%2ejson",
        ".php",
        ".php/x",
        "/;",
        "/%20",
        "/..;/x/..",
        "%c0%80",
        "%u0000",
        "%",
        "%2",
        "%%",
        "/(S(x))",
        "?x",
    ];
    path.extend_from_slice(random.choice(PIECES).unwrap().as_bytes());
    path
}
