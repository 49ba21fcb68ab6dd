//! Paths that stand for all paths: for two patterns and each length, one path that both match and that nothing
//! matches which does not match all such paths.
//!
//! Which pattern wins a path is decided segment by segment, a literal before a parameter before the rest. Where the
//! two leave a segment open, a segment stands that no pattern names. Whatever matches the witness then matches every
//! path of that length that both match, and so, if one of those is won by the two, the witness is. Must not know
//! what is compared.

use crate::config::Route;

use super::is_folded;

/// What lies beyond all patterns.
pub(super) struct Beyond {
    /// A segment that none of them names.
    segment: String,
    /// More segments than any of them has.
    length: usize,
}

#[derive(Clone, Copy)]
enum Piece<'p> {
    Literal(&'p str),
    One,
    Rest,
}

impl Beyond {
    pub(super) fn all(routes: &[&Route]) -> Self {
        let mut segment = "any".to_owned();
        while routes.iter().any(|route| route.path.to_ascii_lowercase().contains(&segment)) {
            segment.push('0');
        }
        let length = routes.iter().map(|route| pieces(&route.path).len()).max().unwrap_or_default() + 1;
        Self { segment, length }
    }
}

/// The paths that stand for all those that both routes' patterns match.
pub(super) fn witnesses(one: &Route, other: &Route, beyond: &Beyond) -> Vec<String> {
    let folds = is_folded(one) || is_folded(other);
    let mut paths = Vec::new();
    for first in shapes(&one.path) {
        for second in shapes(&other.path) {
            for length in 1..=beyond.length {
                paths.extend(meet(&first, &second, length, folds, beyond));
                if folds {
                    paths.extend(meet(&second, &first, length, folds, beyond));
                }
            }
        }
    }
    if folds {
        let others: Vec<_> =
            paths.iter().flat_map(|path| [path.to_ascii_lowercase(), path.to_ascii_uppercase()]).collect();
        paths.extend(others);
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// A pattern as its segments; a pattern that ends in a slash matches without it too.
fn shapes(pattern: &str) -> Vec<Vec<Piece<'_>>> {
    let shorter = pattern.strip_suffix('/').filter(|shorter| !shorter.is_empty());
    [Some(pattern), shorter].into_iter().flatten().map(pieces).collect()
}

fn pieces(pattern: &str) -> Vec<Piece<'_>> {
    let segments = pattern.strip_prefix('/').unwrap_or(pattern).split('/');
    let piece = |segment| match segment {
        rest if str::starts_with(rest, "{*") => Piece::Rest,
        one if str::starts_with(one, "{") => Piece::One,
        literal => Piece::Literal(literal),
    };
    segments.map(piece).collect()
}

/// The path of `length` segments that both match, if there is one.
fn meet(
    one: &[Piece<'_>],
    other: &[Piece<'_>],
    length: usize,
    folds: bool,
    beyond: &Beyond,
) -> Option<String> {
    if !(can_end(one, length) && can_end(other, length)) {
        return None;
    }
    let mut path = String::new();
    for at in 0..length {
        let segment = match (piece_at(one, at)?, piece_at(other, at)?) {
            (Piece::Literal(one), Piece::Literal(other)) => {
                let is_same = if folds { one.eq_ignore_ascii_case(other) } else { one == other };
                is_same.then_some(one)?
            }
            (Piece::Literal(""), Piece::One) | (Piece::One, Piece::Literal("")) => return None,
            (Piece::Literal(literal), Piece::One | Piece::Rest)
            | (Piece::One | Piece::Rest, Piece::Literal(literal)) => literal,
            (Piece::One | Piece::Rest, Piece::One | Piece::Rest) => &beyond.segment,
        };
        path.push('/');
        path.push_str(segment);
    }
    Some(path)
}

/// The piece that stands for a segment; the rest stands for all that follow.
fn piece_at<'p>(pieces: &[Piece<'p>], at: usize) -> Option<Piece<'p>> {
    pieces.get(at).copied().or_else(|| pieces.last().copied().filter(|last| matches!(last, Piece::Rest)))
}

fn can_end(pieces: &[Piece<'_>], length: usize) -> bool {
    match pieces.split_last() {
        Some((Piece::Rest, before)) => length >= before.len(),
        Some((Piece::Literal(_) | Piece::One, _)) => length == pieces.len(),
        None => false,
    }
}
