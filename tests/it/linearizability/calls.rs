//! What is recorded of calls to a store, and what a store must answer if calls come one at a time.
//!
//! Owns the sequential meaning of insert, swap, remove and fetch; must not know any store. Read
//! `search.rs` after.

use onceway::store::Swapped;

/// A record that somebody wrote or wanted to write, by number. Two may have one version: a late write and
/// the one that it is late for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Written {
    pub(super) number: usize,
    pub(super) version: usize,
}

/// What stands under the key.
pub(super) type Stands = Option<Written>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Insert(Written),
    Swap { seen: usize, next: Written },
    Remove { seen: usize },
    Fetch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Found(Found),
    Swapped(Swapped),
}

/// What an insert or a fetch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Record(Written),
    /// Something stood there.
    Unreadable,
    /// A record that nobody wrote: torn, or put together from two.
    Foreign,
}

/// One call, from its beginning to its answer. Moments are numbers that only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) caller: usize,
    pub(super) asked: Asked,
    pub(super) began: u64,
    /// `None`: failed, or given up. It may have done its work, may yet do it, or never.
    pub(super) ended: Option<(u64, Answer)>,
}

/// What stands after `asked`, and the answer, if nobody else asks at the same time.
pub(super) fn apply(asked: Asked, stands: Stands) -> (Stands, Answer) {
    let swapped = |seen: usize, next: Stands| match stands {
        None => (None, Answer::Swapped(Swapped::Absent)),
        Some(written) if written.version == seen => (next, Answer::Swapped(Swapped::Done)),
        Some(_) => (stands, Answer::Swapped(Swapped::Changed)),
    };
    match asked {
        Asked::Insert(fresh) => (Some(stands.unwrap_or(fresh)), Answer::Found(found(stands))),
        Asked::Swap { seen, next } => swapped(seen, Some(next)),
        Asked::Remove { seen } => swapped(seen, None),
        Asked::Fetch => (stands, Answer::Found(found(stands))),
    }
}

/// Whether a store that should have given `due` may have given `given`.
pub(super) fn fits(due: Answer, given: Answer) -> bool {
    match (due, given) {
        (Answer::Found(due), Answer::Found(Found::Unreadable)) => due != Found::Nothing,
        (due, given) => due == given,
    }
}

fn found(stands: Stands) -> Found {
    stands.map_or(Found::Nothing, Found::Record)
}
