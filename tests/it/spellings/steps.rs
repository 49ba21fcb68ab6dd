//! What servers do to a path, step by step. Written anew from their descriptions: no code and no table is shared
//! with the gateway.
//!
//! A path is a list of segments at the end, since what a handler sees as one segment may hold a slash.

/// One thing that a server does to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Decode,
    DecodeButSlash,
    DecodeSlashes,
    DecodeUnreserved,
    /// Splits first and decodes what is in each segment.
    DecodeSegments,
    /// Escapes again what may not stand in a path, for the next server.
    Encode,
    /// `%2e` alone, as browsers read it.
    EncodedDots,
    Backslash,
    Parameters,
    /// Those of the last segment alone.
    LastParameters,
    Merge,
    Dots,
    TrailingSlash,
    CutSemicolon,
    CutQuery,
    CutNul,
    /// One line end at the very end.
    LastLineEnd,
    TrimBlanks,
    /// Blanks and dots that end a name.
    TrimEnds,
    Plus,
    PercentU,
    Overlong,
    BestFit,
    Authority,
    ScriptInFront,
    AfterScript,
    Marker,
    FirstExtension,
    LastExtension,
    RefuseNul,
    RefuseEncodedSlash,
    RefuseClimbing,
}

/// All that change a path, for servers that nobody has seen yet.
pub(crate) const CHANGES: &[Step] = {
    use Step as S;
    &[
        S::Decode,
        S::DecodeButSlash,
        S::DecodeSlashes,
        S::DecodeUnreserved,
        S::DecodeSegments,
        S::EncodedDots,
        S::Backslash,
        S::Parameters,
        S::LastParameters,
        S::Merge,
        S::Dots,
        S::TrailingSlash,
        S::CutSemicolon,
        S::CutQuery,
        S::CutNul,
        S::LastLineEnd,
        S::TrimBlanks,
        S::TrimEnds,
        S::Plus,
        S::PercentU,
        S::Overlong,
        S::BestFit,
        S::Authority,
        S::ScriptInFront,
        S::AfterScript,
        S::Marker,
        S::FirstExtension,
        S::LastExtension,
    ]
};

/// A path as far as it has been read.
#[derive(Clone, Debug)]
enum Path {
    Whole(Vec<u8>),
    Split(Vec<Vec<u8>>),
}

/// What a server that takes these steps makes of `path`: its segments, or nothing if it refuses.
pub(crate) fn read(path: &str, steps: &[Step]) -> Option<Vec<Vec<u8>>> {
    let mut path = Path::Whole(path.as_bytes().to_vec());
    for step in steps {
        path = path.after(*step)?;
    }
    Some(path.segments())
}

impl Path {
    fn after(self, step: Step) -> Option<Self> {
        if step == Step::DecodeSegments {
            let decoded = self.segments().iter().map(|segment| decode(segment, |_| true)).collect();
            return Some(Self::Split(decoded));
        }
        match self {
            Self::Whole(path) => whole(path, step).map(Self::Whole),
            Self::Split(segments) => Some(Self::Split(split(segments, step))),
        }
    }

    fn segments(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Whole(path) => {
                let from = usize::from(path.first() == Some(&b'/'));
                path[from..].split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
            }
            Self::Split(segments) => segments.clone(),
        }
    }
}

/// Once split, only what concerns whole segments is still done.
fn split(mut segments: Vec<Vec<u8>>, step: Step) -> Vec<Vec<u8>> {
    if step == Step::TrailingSlash && segments.len() > 1 && segments.last().is_some_and(Vec::is_empty) {
        segments.pop();
    }
    if step == Step::Merge {
        let last = segments.pop();
        segments.retain(|segment| !segment.is_empty());
        segments.extend(last);
    }
    segments
}

fn whole(path: Vec<u8>, step: Step) -> Option<Vec<u8>> {
    let read = match step {
        Step::Decode => decode(&path, |_| true),
        Step::DecodeButSlash => decode(&path, |byte| byte != b'/'),
        Step::DecodeSlashes => decode(&path, |byte| byte == b'/' || byte == b'\\'),
        Step::DecodeUnreserved => {
            decode(&path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        }
        Step::EncodedDots => decode(&path, |byte| byte == b'.'),
        Step::Encode => encode(&path),
        Step::Backslash => path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect(),
        Step::Parameters => by_segment(&path, |segment| until(segment, b";")),
        Step::LastParameters => {
            let last = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            [&path[..last], until(&path[last..], b";")].concat()
        }
        Step::Merge => merge(&path),
        Step::Dots => dots(&path),
        Step::TrailingSlash if path.len() > 1 && path.ends_with(b"/") => path[..path.len() - 1].to_vec(),
        Step::CutSemicolon => until(&path, b";").to_vec(),
        Step::CutQuery => until(&path, b"?#").to_vec(),
        Step::CutNul => until(&path, b"\0").to_vec(),
        Step::LastLineEnd => path.strip_suffix(b"\n").unwrap_or(&path).to_vec(),
        Step::TrimBlanks => by_segment(&path, |segment| trim(segment, b" \t\r\n\0\x0b\x0c")),
        Step::TrimEnds => by_segment(&path, trim_end_of_name),
        Step::Plus => path.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect(),
        Step::PercentU => percent_u(&path),
        Step::Overlong => overlong(&path),
        Step::BestFit => best_fit(&path),
        Step::Authority => authority(&path),
        Step::ScriptInFront => script(&path, |front, rest| [front, rest].concat()),
        Step::AfterScript => script(&path, |_, rest| path[..path.len() - rest.len()].to_vec()),
        Step::Marker => marker(&path),
        Step::FirstExtension => extension(&path, |name| name.iter().position(|byte| *byte == b'.')),
        Step::LastExtension => extension(&path, |name| name.iter().rposition(|byte| *byte == b'.')),
        Step::RefuseNul if path.contains(&0) => return None,
        Step::RefuseEncodedSlash if path.to_ascii_lowercase().windows(3).any(|three| three == b"%2f") => {
            return None;
        }
        Step::RefuseClimbing if is_climbing(&path) => return None,
        Step::TrailingSlash
        | Step::RefuseNul
        | Step::RefuseEncodedSlash
        | Step::RefuseClimbing
        | Step::DecodeSegments => path,
    };
    Some(if read.is_empty() { b"/".to_vec() } else { read })
}

fn decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let escape = path.get(at + 1..at + 3).filter(|_| path[at] == b'%');
        let byte = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))
            .map(|digits| u8::from_str_radix(digits, 16).unwrap());
        match byte {
            Some(byte) if wanted(byte) => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

fn encode(path: &[u8]) -> Vec<u8> {
    let one = |byte: &u8| match byte {
        b'!' | b'$' | b'&'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'z' | b'~' => vec![*byte],
        _ => format!("%{byte:02X}").into_bytes(),
    };
    path.iter().flat_map(one).collect()
}

fn by_segment(path: &[u8], read: impl Fn(&[u8]) -> &[u8]) -> Vec<u8> {
    path.split(|byte| *byte == b'/').map(read).collect::<Vec<_>>().join(&b'/')
}

fn until<'a>(text: &'a [u8], ends: &[u8]) -> &'a [u8] {
    &text[..text.iter().position(|byte| ends.contains(byte)).unwrap_or(text.len())]
}

fn merge(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for byte in path {
        if !(*byte == b'/' && out.last() == Some(&b'/')) {
            out.push(*byte);
        }
    }
    out
}

fn dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let all: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    for (at, segment) in all.iter().enumerate() {
        let is_last = at + 1 == all.len();
        match *segment {
            b".." => {
                kept.pop();
            }
            b"." => {}
            other => {
                kept.push(other);
                continue;
            }
        }
        if is_last {
            kept.push(b"");
        }
    }
    let mut out = b"/".to_vec();
    out.extend_from_slice(&kept.join(&b'/'));
    out
}

fn is_climbing(path: &[u8]) -> bool {
    let mut depth = 0;
    path.split(|byte| *byte == b'/').skip(1).any(|segment| {
        depth += match segment {
            b".." => -1,
            b"." | b"" => 0,
            _ => 1,
        };
        depth < 0
    })
}

fn trim<'a>(segment: &'a [u8], signs: &[u8]) -> &'a [u8] {
    let from = segment.iter().position(|byte| !signs.contains(byte)).unwrap_or(segment.len());
    let to = segment.iter().rposition(|byte| !signs.contains(byte)).map_or(from, |at| at + 1);
    &segment[from..to]
}

fn trim_end_of_name(segment: &[u8]) -> &[u8] {
    let end = segment.iter().rposition(|byte| !b" .".contains(byte)).map_or(0, |at| at + 1);
    if end == 0 { trim(segment, b" ") } else { &segment[..end] }
}

fn percent_u(path: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(path).into_owned();
    let mut parts = text.split("%u");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let code = part.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if let Some(character) = code.and_then(char::from_u32) {
            out.push(character);
            out.push_str(&part[4..]);
        } else {
            out.push_str("%u");
            out.push_str(part);
        }
    }
    out.into_bytes()
}

fn overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left = path;
    while let Some(first) = left.first() {
        let payload =
            |bytes: &[u8]| bytes.iter().fold(0_u32, |code, byte| code << 6 | u32::from(byte & 0x3f));
        let length = match first {
            0xc0 | 0xc1 => 2,
            0xe0 => 3,
            0xf0 => 4,
            _ => 1,
        };
        let tail = left.get(1..length).filter(|tail| tail.iter().all(|byte| byte & 0xc0 == 0x80));
        let code = tail.map(|tail| u32::from(first & 0x0f) << (6 * tail.len()) | payload(tail));
        match code.and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii) {
            Some(narrow) if length > 1 => {
                out.push(narrow);
                left = &left[length..];
            }
            _ => {
                out.push(*first);
                left = &left[1..];
            }
        }
    }
    out
}

fn best_fit(path: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(path) else { return path.to_vec() };
    let fit = |character: char| match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap(),
        '¥' | '₩' | '∖' => '\\',
        '⁄' | '∕' => '/',
        other => other,
    };
    text.chars().map(fit).collect::<String>().into_bytes()
}

fn authority(path: &[u8]) -> Vec<u8> {
    if !path.starts_with(b"//") {
        return path.to_vec();
    }
    let named = &path[path.iter().position(|byte| *byte != b'/').unwrap_or(path.len())..];
    named.iter().position(|byte| *byte == b'/').map_or_else(|| b"/".to_vec(), |at| named[at..].to_vec())
}

/// Calls `read` with what stands before the first script's name, and what after it; if nothing does, nothing
/// changes.
fn script(path: &[u8], read: impl Fn(&[u8], &[u8]) -> Vec<u8>) -> Vec<u8> {
    let lower = path.to_ascii_lowercase();
    match lower.windows(5).position(|five| five == b".php/") {
        Some(dot) => {
            let from = path[..dot].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            read(&path[..from], &path[dot + 4..])
        }
        None => path.to_vec(),
    }
}

fn marker(path: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(path).into_owned();
    for from in text.match_indices("/(").map(|(at, _)| at) {
        let inner = &text[from + 2..];
        let is_marker =
            inner.starts_with(|first: char| first.is_ascii_alphabetic()) && inner[1..].starts_with('(');
        if let Some(end) = inner.find("))").filter(|_| is_marker) {
            let read = format!("{}{}", &text[..from], &inner[end + 2..]);
            return if read.starts_with('/') { read } else { format!("/{read}") }.into_bytes();
        }
    }
    path.to_vec()
}

fn extension(path: &[u8], dot: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
    let from = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    match dot(&path[from..]) {
        Some(at) if at > 0 && path[from..from + at].iter().any(|byte| *byte != b'.') => {
            path[..from + at].to_vec()
        }
        _ => path.to_vec(),
    }
}
