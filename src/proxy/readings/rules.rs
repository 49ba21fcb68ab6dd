//! The rules by which upstreams read a path, one function each, but for those of `escapes.rs`. `None` says that nothing was to change.
//!
//! Pure, over bytes: a decoded path need not be text. Must not know which of them apply together; that is
//! `../readings.rs`. Which servers take which is told in `docs/paths.md`.

use super::escapes::{
    decoded, decoded_but_slashes, dots_decoded, look_alikes_fitted, overlong_shortened, percent_u_decoded,
    slashes_decoded, unreserved_decoded,
};

/// One thing that an upstream may do to a path before it looks for the path's handler.
pub(super) struct Rule {
    pub(super) apply: fn(&[u8]) -> Option<Vec<u8>>,
    /// It changes no path that has none of these.
    pub(super) signs: u16,
    /// Whether it is left out for a route whose own pattern it would change: such a pattern says that the
    /// upstream does not take the rule. Not so for what nearly every server does.
    pub(super) may_be_spared: bool,
}

const PERCENT: u16 = 1;
const SEMICOLON: u16 = 1 << 1;
const BACKSLASH: u16 = 1 << 2;
const PLUS: u16 = 1 << 3;
const DOT: u16 = 1 << 4;
const PARENTHESIS: u16 = 1 << 5;
/// Two slashes in a row, or one at the end.
const SLASHES: u16 = 1 << 6;
const BLANK: u16 = 1 << 7;
const NOT_ASCII: u16 = 1 << 8;
const QUERY: u16 = 1 << 9;

/// All rules.
pub(super) const ALL: [Rule; 27] = [
    always(PERCENT, decoded_but_slashes),
    always(PERCENT, decoded),
    always(PERCENT, slashes_decoded),
    always(PERCENT, unreserved_decoded),
    always(PERCENT, dots_decoded),
    always(BACKSLASH, backslashes_turned),
    always(SEMICOLON, parameters_dropped),
    always(SEMICOLON, last_parameters_dropped),
    always(SLASHES, slashes_merged),
    always(DOT, dots_resolved),
    always(SLASHES, trailing_slash_dropped),
    unless_named(SEMICOLON, cut_at_semicolon),
    unless_named(QUERY, cut_at_query),
    unless_named(BLANK, first_line),
    unless_named(BLANK, blanks_trimmed),
    unless_named(BLANK, white_space_trimmed),
    unless_named(BLANK | DOT, name_ends_trimmed),
    unless_named(PLUS, plus_as_blank),
    unless_named(PERCENT, percent_u_decoded),
    unless_named(NOT_ASCII, overlong_shortened),
    unless_named(NOT_ASCII, look_alikes_fitted),
    unless_named(SLASHES, authority_dropped),
    unless_named(DOT, script_dropped),
    unless_named(DOT, cut_after_script),
    unless_named(PARENTHESIS, marker_dropped),
    unless_named(DOT, extension_dropped),
    unless_named(DOT, extensions_dropped),
];

const fn always(signs: u16, apply: fn(&[u8]) -> Option<Vec<u8>>) -> Rule {
    Rule { apply, signs, may_be_spared: false }
}

const fn unless_named(signs: u16, apply: fn(&[u8]) -> Option<Vec<u8>>) -> Rule {
    Rule { apply, signs, may_be_spared: true }
}

/// What a path has that rules are about, in one pass. Most paths have nothing of it.
pub(super) fn signs(path: &[u8]) -> u16 {
    let (mut signs, mut before) = (0, b'x');
    for &byte in path {
        signs |= match byte {
            b'/' if before == b'/' => SLASHES,
            b'%' => PERCENT,
            b';' => SEMICOLON,
            b'\\' => BACKSLASH,
            b'+' => PLUS,
            b'.' => DOT,
            b'(' => PARENTHESIS,
            b'?' | b'#' => QUERY,
            0..=b' ' | 0x7f => BLANK,
            0x80.. => NOT_ASCII,
            _ => 0,
        };
        before = byte;
    }
    if before == b'/' && path.len() > 1 { signs | SLASHES } else { signs }
}

/// Whether a path leads where only the upstream knows what stands: above the root by its dot segments, or
/// anew from the root after the end of a line, for a pattern that looks at each line.
pub(super) fn is_beyond_telling(path: &[u8]) -> bool {
    climbs(path) || path.windows(2).any(|two| matches!(two, [b'\r' | b'\n', b'/']))
}

fn climbs(path: &[u8]) -> bool {
    let mut depth = 0_usize;
    for segment in segments(path).skip(1) {
        match segment {
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            b"." => {}
            _ => depth += 1,
        }
    }
    false
}

fn backslashes_turned(path: &[u8]) -> Option<Vec<u8>> {
    replaced(path, b'\\', b'/')
}

/// RFC 3986 §3.3: what follows a semicolon in a segment may be a parameter of the segment.
fn parameters_dropped(path: &[u8]) -> Option<Vec<u8>> {
    let kept = segments(path).map(|segment| before_first(segment, |byte| byte == b';'));
    changed(path, kept.collect::<Vec<_>>().join(&b'/'))
}

/// RFC 1808 §2.4.6 knew parameters only at the end of a path.
fn last_parameters_dropped(path: &[u8]) -> Option<Vec<u8>> {
    let from = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let end = path.get(from..)?.iter().position(|byte| *byte == b';')?;
    path.get(..from + end).map(<[u8]>::to_vec)
}

fn slashes_merged(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = path.to_vec();
    out.dedup_by(|next, before| *next == b'/' && *before == b'/');
    changed(path, out)
}

/// RFC 3986 §5.2.4.
fn dots_resolved(path: &[u8]) -> Option<Vec<u8>> {
    if !segments(path).any(|segment| matches!(segment, b"." | b"..")) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut left = segments(path).skip(1).peekable();
    while let Some(segment) = left.next() {
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop();
                }
                if left.peek().is_none() {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    changed(path, rooted(&kept.join(&b'/')))
}

fn trailing_slash_dropped(path: &[u8]) -> Option<Vec<u8>> {
    path.strip_suffix(b"/").filter(|shorter| !shorter.is_empty()).map(<[u8]>::to_vec)
}

/// Servers that take a semicolon for the beginning of the query.
fn cut_at_semicolon(path: &[u8]) -> Option<Vec<u8>> {
    changed(path, before_first(path, |byte| byte == b';').to_vec())
}

/// Servers that decode first and look for the query or a fragment after.
fn cut_at_query(path: &[u8]) -> Option<Vec<u8>> {
    changed(path, before_first(path, |byte| matches!(byte, b'?' | b'#')).to_vec())
}

/// Strings that end with a NUL, and patterns whose end is the end of a line.
fn first_line(path: &[u8]) -> Option<Vec<u8>> {
    changed(path, before_first(path, is_line_end).to_vec())
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\r' | b'\n')
}

/// Blanks and control bytes around segments: to Java's `trim` all of them are white space.
fn blanks_trimmed(path: &[u8]) -> Option<Vec<u8>> {
    trimmed(path, is_blank)
}

/// White space around segments, as PHP and most others know it. Another control byte is then a name: who drops it from
/// one segment does not see it in the next.
fn white_space_trimmed(path: &[u8]) -> Option<Vec<u8>> {
    trimmed(path, |byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\0' | 0x0b | 0x0c))
}

fn trimmed(path: &[u8], drops: fn(u8) -> bool) -> Option<Vec<u8>> {
    let trimmed = segments(path).map(|segment| {
        let from = segment.iter().position(|byte| !drops(*byte)).unwrap_or(segment.len());
        without_end(segment.get(from..).unwrap_or_default(), drops)
    });
    changed(path, trimmed.collect::<Vec<_>>().join(&b'/'))
}

/// Spaces and dots at the ends of segments, which names of files on Windows do not have. A tab is a name there.
fn name_ends_trimmed(path: &[u8]) -> Option<Vec<u8>> {
    let trimmed = segments(path).map(|segment| {
        match without_end(segment, |byte| matches!(byte, b' ' | b'.')) {
            // Dots alone are no name.
            b"" => without_end(segment, |byte| byte == b' '),
            name => name,
        }
    });
    changed(path, trimmed.collect::<Vec<_>>().join(&b'/'))
}

fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

fn without_end(segment: &[u8], drops: fn(u8) -> bool) -> &[u8] {
    let end = segment.iter().rposition(|byte| !drops(*byte)).map_or(0, |last| last + 1);
    segment.get(..end).unwrap_or_default()
}

/// Servers that decode a path as if it were a form.
fn plus_as_blank(path: &[u8]) -> Option<Vec<u8>> {
    replaced(path, b'+', b' ')
}

/// RFC 3986 §4.2: resolved as a reference, a path with two slashes in front begins with an authority.
fn authority_dropped(path: &[u8]) -> Option<Vec<u8>> {
    let after = path.strip_prefix(b"//")?;
    let from = after.iter().position(|byte| *byte != b'/').unwrap_or(after.len());
    let authority = after.get(from..).unwrap_or_default();
    let path_from = authority.iter().position(|byte| *byte == b'/').unwrap_or(authority.len());
    Some(rooted(authority.get(path_from + 1..).unwrap_or_default()))
}

/// A script in front that hands the rest of the path to its router, such as `/index.php/payments`.
fn script_dropped(path: &[u8]) -> Option<Vec<u8>> {
    let (from, until) = script(path)?;
    Some([path.get(..from).unwrap_or_default(), path.get(until + 1..).unwrap_or_default()].concat())
}

/// A script is run whatever follows its name.
fn cut_after_script(path: &[u8]) -> Option<Vec<u8>> {
    script(path).map(|(_, until)| path.get(..until).unwrap_or_default().to_vec())
}

/// Where the first segment begins and ends that names a script and is not the last.
fn script(path: &[u8]) -> Option<(usize, usize)> {
    const EXTENSIONS: [&[u8]; 13] = [
        b"asax", b"ashx", b"asmx", b"asp", b"aspx", b"cfm", b"cgi", b"fcgi", b"jsp", b"php", b"pl", b"py",
        b"svc",
    ];
    let mut from = 0;
    for segment in segments(path) {
        let until = from + segment.len();
        let extension = segment.rsplit(|byte| *byte == b'.').next().filter(|part| part.len() < segment.len());
        let is_script = extension
            .is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)));
        if is_script {
            return (until < path.len()).then_some((from, until));
        }
        from = until + 1;
    }
    None
}

/// A session that ASP.NET keeps in the path instead of in a cookie: `/(S(…))`.
fn marker_dropped(path: &[u8]) -> Option<Vec<u8>> {
    let begins = |four: &[u8]| matches!(four, [b'/', b'(', letter, b'('] if letter.is_ascii_alphabetic());
    let from = path.windows(4).position(begins)?;
    let (before, marker) = path.split_at(from);
    let length = marker.windows(2).position(|two| two == b"))")? + 2;
    let read = [before, marker.get(length..).unwrap_or_default()].concat();
    Some(if read.starts_with(b"/") { read } else { rooted(&read) })
}

/// A format asked for by the end of a path, such as `/payments.json`.
fn extension_dropped(path: &[u8]) -> Option<Vec<u8>> {
    let (stem_end, _) = dots_in_last_segment(path)?;
    path.get(..stem_end).map(<[u8]>::to_vec)
}

fn extensions_dropped(path: &[u8]) -> Option<Vec<u8>> {
    let (_, stem_end) = dots_in_last_segment(path)?;
    path.get(..stem_end).map(<[u8]>::to_vec)
}

/// Where the last and the first dot stand that end the name of the last segment.
fn dots_in_last_segment(path: &[u8]) -> Option<(usize, usize)> {
    let from = path.iter().rposition(|byte| *byte == b'/')? + 1;
    let segment = path.get(from..)?;
    let name = segment.iter().position(|byte| *byte != b'.')?;
    let is_dot = |byte: &u8| *byte == b'.';
    let last = segment.iter().rposition(is_dot).filter(|at| *at > name)?;
    let first = segment.iter().skip(name).position(is_dot)? + name;
    Some((from + last, from + first))
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

fn before_first(text: &[u8], ends: fn(u8) -> bool) -> &[u8] {
    text.split(|byte| ends(*byte)).next().unwrap_or_default()
}

fn replaced(path: &[u8], sign: u8, by: u8) -> Option<Vec<u8>> {
    changed(path, path.iter().map(|byte| if *byte == sign { by } else { *byte }).collect())
}

fn rooted(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

pub(super) fn changed(path: &[u8], read: Vec<u8>) -> Option<Vec<u8>> {
    (read != path).then_some(read)
}
