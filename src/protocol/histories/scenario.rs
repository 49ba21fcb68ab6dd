//! What is played: who asks for what, and which accidents may befall them.

use super::super::key::{IdempotencyKey, KeyFormat, KeyRules};
use super::super::mistake::{Made, Mistake};
use super::super::scope::{HashKey, ScopePart, StorageKey};
use super::world::Asks;

/// What is played.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each named where it is set")]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) requests: Vec<Asks>,
    /// How many accidents a history may have, of whatever kind.
    pub(super) troubles: u8,
    /// Whether records expire.
    pub(super) expiry: bool,
    /// Whether operators act.
    pub(super) operators: bool,
    /// Whether they release and forget, beside completing.
    pub(super) removals: bool,
    /// Whether the upstream may prove that it did not process a request.
    pub(super) refusals: bool,
    /// Whether answers may be too long to keep, and claims are renewed while they stream.
    pub(super) long_answers: bool,
    /// Whether a record may become unreadable.
    pub(super) damage: bool,
    /// Whether processes crash, or drain.
    pub(super) crashes: bool,
    /// Whether a command that nobody waits for any more may reach the store twice.
    pub(super) repeats: bool,
    /// Whether requests wait for the end of a claim in flight.
    pub(super) waits: bool,
    /// Whether processes stand still, for longer than their sessions live and their claims are kept.
    pub(super) stops: bool,
    pub(super) replication: Replication,
    /// Whether a key may run again when the store has lost a claim on it that it acknowledged.
    pub(super) losses_forgiven: bool,
    pub(super) heed: Heed,
    pub(super) planted: Planted,
    /// The storage key of each request, as a number. Filled in where the search begins.
    pub(super) keys: Vec<usize>,
}

/// How the store keeps what it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replication {
    /// How many servers may take the master's place.
    pub(super) replicas: u8,
    /// How many of them have a write before it is acknowledged.
    pub(super) acknowledged_by: u8,
}

/// One server, which keeps what it has acknowledged.
pub(super) const NO_REPLICAS: Replication = Replication { replicas: 0, acknowledged_by: 0 };

/// Which properties count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heed {
    /// The promises made to callers, and what they rest on.
    Everything,
    /// The promises alone, so that a history goes on to the harm.
    Promises,
}

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// One of the known ones: in the machine and in the scope the real code makes it, in the ledger `play.rs`.
    Known(Mistake),
    /// Claims expire while their owner is at work, as a lock with a lease does.
    ShortClaims,
    /// `swap` looks only whether something stands there.
    SwapWhateverStands,
    /// `swap` and `remove` look at the attempt and not at the revision.
    IgnoreRevisions,
    /// A process that could not write an outcome says later that it never sent the request.
    ForgetThatItWasSent,
    /// A claim that got no answer is taken for granted.
    ForwardUnclaimed,
    /// A claim is not confirmed after its process stood still.
    ForwardUnconfirmed,
    /// A claim that another has taken over meanwhile is taken for granted.
    IgnoreLostReclaim,
    /// A claim that was removed and landed once more is settled as if it had never been away.
    SettleRisenClaims,
    /// An operator does not look whether somebody works on a claim.
    LookAway,
    /// An operator's completion counts on from the version that it replaces.
    CompleteWithoutLeap,
    /// An operator's completion does not look at the version.
    CompleteWhateverStands,
    /// What is known of an outcome takes the place of whatever stands there.
    RestoreWhateverStands,
    /// What is put in an empty place counts on as if nothing unseen could have been written before.
    RestoreWithoutLeap,
    /// Who waits looks again only when its own process settles the key.
    DeafWaiter,
}

impl Planted {
    /// Makes the mistake in the real code, in this thread.
    pub(super) fn make(self) -> Option<Made> {
        if let Self::Known(mistake) = self { Some(mistake.make()) } else { None }
    }
}

impl Scenario {
    pub(super) fn asks(&self, request: usize) -> Asks {
        // Places without a request are over from the start; they belong to process 0.
        self.requests.get(request).copied().unwrap_or(self.requests[0])
    }

    pub(super) fn process_of(&self, request: usize) -> Option<usize> {
        self.requests.get(request).map(|asks| asks.process)
    }

    /// The storage key of a request, as a number.
    pub(super) fn key(&self, request: usize) -> usize {
        self.keys.get(request).copied().unwrap_or(0)
    }

    pub(super) fn last_key(&self) -> usize {
        self.keys.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn makes(&self, mistake: Mistake) -> bool {
        self.planted == Planted::Known(mistake)
    }
}

/// The storage key of each request, by the real scope, as the number of the first request that has the same one.
pub(super) fn storage_keys(scenario: &Scenario) -> Vec<usize> {
    let _made = scenario.planted.make();
    let keys: Vec<_> = scenario.requests.iter().map(|asks| storage_key(asks.caller)).collect();
    let mut distinct: Vec<StorageKey> = Vec::new();
    let numbers = keys.into_iter().map(|key| {
        distinct.iter().position(|known| *known == key).unwrap_or_else(|| {
            distinct.push(key);
            distinct.len() - 1
        })
    });
    numbers.collect()
}

fn storage_key(caller: u8) -> StorageKey {
    let key = IdempotencyKey::from_text("k", KeyRules { format: KeyFormat::Any, max_length: 255 }).unwrap();
    let scope = [ScopePart { source: "header:authorization", values: &[&[caller]] }];
    HashKey::new(None).storage_key("onceway", &scope, &key)
}
