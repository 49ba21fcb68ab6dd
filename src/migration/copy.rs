//! Records on their way: page by page, as bytes, each compared by a print of all its bytes.
//!
//! A round goes through all records of the source and puts into the destination what is not known to stand there in
//! the same bytes. What the head of a record tells decides only what is copied early and for whom to wait; a record of
//! which nothing can be read moves as all others do. Read `mod.rs` before.

use std::collections::HashSet;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::time::Instant;

use super::note::{self, Desk};
use super::patience::Side;
use super::{MoveError, Step};
use crate::protocol::record::{Phase, Seen, Session, Version};
use crate::protocol::scope::StorageKey;
use crate::store::Cursor;
use crate::store::codec::{self, Standing};
use crate::store::transfer::{Moved, Page};

/// Records that the first page has.
const PAGE_FIRST: usize = 256;

/// Records that a page may have.
const PAGE_MAX: usize = 2000;

/// Bytes that a page should have; two are in memory at a time.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Tells a record from every other: half a SHA-256 of its key and all its bytes.
type Print = [u8; 16];

/// The prints of records that stand in the destination.
pub(super) type Prints = HashSet<Print>;

/// Which records a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that never change.
    Answered,
    /// All.
    All,
}

/// What a round has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Records looked at.
    pub seen: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records copied.
    pub copied: u64,
    /// How long it took.
    pub took: Duration,
}

/// A record that may change, by the version that was copied.
type Unsettled = (StorageKey, Version);

/// Carries records from one side to the other.
pub(super) struct Carrier<'s> {
    from: &'s Side,
    to: &'s Side,
    /// Records that the next page should have.
    most: usize,
    /// What stands in the destination and may be given back in the source.
    unsettled: Vec<Unsettled>,
    /// What the last round found in flight.
    in_flight: Vec<(StorageKey, Session)>,
}

impl<'s> Carrier<'s> {
    pub(super) fn between(from: &'s Side, to: &'s Side) -> Self {
        Self { from, to, most: PAGE_FIRST, unsettled: Vec::new(), in_flight: Vec::new() }
    }

    /// The prints of what stands in the destination; and remembers what of it may be given back in the source.
    pub(super) async fn survey(&mut self, desk: &mut Desk<'_>) -> Result<Prints, MoveError> {
        let mut prints = Prints::new();
        self.unsettled.clear();
        let mut after = Some(None);
        while let Some(from) = after {
            let page = desk.holding(self.page(self.to, from)).await??;
            for moved in &page.records {
                prints.insert(print_of(moved));
                self.unsettled.extend(unsettled(moved));
            }
            after = page.next.map(Some);
        }
        Ok(prints)
    }

    /// Copies what `known` does not hold, and adds it there.
    pub(super) async fn round(
        &mut self,
        which: Which,
        known: &mut Prints,
        desk: &mut Desk<'_>,
        tell: &mut dyn FnMut(Step),
    ) -> Result<Carried, MoveError> {
        let (began, mut carried) = (Instant::now(), Carried::default());
        self.in_flight.clear();
        let mut page = desk.holding(self.page(self.from, None)).await??;
        loop {
            let (next, fresh) = (page.next.take(), self.choose(which, page.records, known, &mut carried));
            carried.copied += count(fresh.len());
            desk.hold().await?;
            let reading = async {
                match next {
                    Some(after) => page_at(self.from, Some(after), self.most).await.map(Some),
                    None => Ok(None),
                }
            };
            let both = async { tokio::try_join!(self.put(fresh), reading) };
            // Prints of what was not written are forgotten: a failure ends the run.
            let ((), read) = desk.holding(both).await??;
            tell(Step::Copying { seen: carried.seen, copied: carried.copied });
            match read {
                Some(next) => page = self.weigh(next),
                None => break,
            }
        }
        carried.took = began.elapsed();
        Ok(carried)
    }

    /// Removes from the destination what the source has given back since it was copied: there, nothing was
    /// processed, so the key is new.
    pub(super) async fn give_back(&mut self, desk: &mut Desk<'_>) -> Result<(), MoveError> {
        for (key, version) in std::mem::take(&mut self.unsettled) {
            // The source is asked for this very key, so that nothing is removed that a page left out.
            if self.from.call(|store| store.fetch(&key)).await? == Seen::Nothing {
                desk.hold().await?;
                desk.holding(self.to.call(|store| store.remove(&key, version))).await??;
            }
        }
        Ok(())
    }

    /// What the last round found in flight whose owner lives and may tell the outcome.
    pub(super) async fn in_flight_with_owner(
        &self,
        desk: &mut Desk<'_>,
    ) -> Result<Vec<(StorageKey, Session)>, MoveError> {
        let sessions = desk.holding(self.from.sessions()).await??;
        let alive: HashSet<Session> = sessions.into_iter().map(|(session, _)| session).collect();
        let with_owner = self.in_flight.iter().filter(|(_, session)| alive.contains(session));
        Ok(with_owner.copied().collect())
    }

    /// Which of `waiting` are in flight still. What cannot be read here may be.
    pub(super) async fn still_in_flight(
        &self,
        waiting: Vec<(StorageKey, Session)>,
    ) -> Result<Vec<(StorageKey, Session)>, MoveError> {
        let mut still = Vec::new();
        for (key, session) in waiting {
            let is_settled = match self.from.call(|store| store.fetch(&key)).await? {
                Seen::Nothing => true,
                Seen::Record(record) => record.phase != Phase::InFlight,
                Seen::Unreadable => false,
            };
            if !is_settled {
                still.push((key, session));
            }
        }
        Ok(still)
    }

    async fn page(&mut self, side: &Side, after: Option<Cursor>) -> Result<Page, MoveError> {
        let page = page_at(side, after, self.most).await?;
        Ok(self.weigh(page))
    }

    /// Asks for as many records the next time as come to the wanted size.
    fn weigh(&mut self, page: Page) -> Page {
        if !page.records.is_empty() {
            let bytes: usize = page.records.iter().map(size_of).sum();
            let each = (bytes / page.records.len()).max(1);
            self.most = (PAGE_BYTES / each).clamp(1, PAGE_MAX);
        }
        page
    }

    fn choose(
        &mut self,
        which: Which,
        records: Vec<Moved>,
        known: &mut Prints,
        carried: &mut Carried,
    ) -> Vec<Moved> {
        let mut fresh = Vec::new();
        for moved in records {
            carried.seen += 1;
            carried.bytes += count(size_of(&moved));
            let standing = codec::standing(&moved.encoded.head);
            if let Standing::InFlight(session) = standing {
                self.in_flight.push((moved.key, session));
            }
            let is_due = which == Which::All || standing == Standing::Answered;
            if is_due && known.insert(print_of(&moved)) {
                self.unsettled.extend(unsettled(&moved));
                fresh.push(moved);
            }
        }
        fresh
    }

    async fn put(&self, records: Vec<Moved>) -> Result<(), MoveError> {
        if records.is_empty() {
            return Ok(());
        }
        self.to.call(|store| store.put(records.clone())).await
    }
}

impl Carried {
    /// Counts another round among those of a kind.
    pub(super) fn add(&mut self, round: Self) {
        self.seen = round.seen;
        self.bytes = round.bytes;
        self.copied += round.copied;
        self.took += round.took;
    }
}

/// Answers whether no record stands there.
pub(super) async fn is_empty(side: &Side) -> Result<bool, MoveError> {
    let mut after = Some(None);
    while let Some(from) = after {
        let page = page_at(side, from, 1).await?;
        if !page.records.is_empty() {
            return Ok(false);
        }
        after = page.next.map(Some);
    }
    Ok(true)
}

async fn page_at(side: &Side, after: Option<Cursor>, most: usize) -> Result<Page, MoveError> {
    let mut page = side.call(|store| store.page(after.clone(), most)).await?;
    page.records.retain(|moved| !note::is_note(&moved.key));
    Ok(page)
}

fn unsettled(moved: &Moved) -> Option<Unsettled> {
    match codec::standing(&moved.encoded.head) {
        Standing::Answered => None,
        Standing::InFlight(_) | Standing::Other => {
            codec::version_of(&moved.encoded.head).map(|version| (moved.key, version))
        }
    }
}

/// The same whether a store gives a record in one part or in two.
fn print_of(moved: &Moved) -> Print {
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(moved.key.as_bytes());
    digest.update(&moved.encoded.head);
    digest.update(&moved.encoded.body);
    let mut print = Print::default();
    print.copy_from_slice(digest.finish().as_ref().get(..16).unwrap_or(&[0; 16]));
    print
}

fn size_of(moved: &Moved) -> usize {
    moved.encoded.head.len() + moved.encoded.body.len()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
