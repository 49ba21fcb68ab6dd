//! Why a move did not come to its end, for people.

use std::fmt;

use crate::store::StoreError;

/// Which of the two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where the records are.
    Source,
    /// Where they go.
    Destination,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// Why a move did not come to its end. Unless it says otherwise, running it again goes on where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A store did not answer.
    #[error("use the {role}")]
    Store {
        /// Which.
        role: Role,
        /// What went wrong the last time that it was tried.
        #[source]
        source: StoreError,
    },
    /// Both addresses lead to one store.
    #[error("move records: source and destination are the same store")]
    SameStore,
    /// The source does not hold all of its records yet.
    #[error("move records from the source: it is the destination of a move that has not been carried out")]
    SourceIsArriving,
    /// The source is closed for ever.
    #[error("move records from the source: they were moved to another store before")]
    SourceHasLeft,
    /// There is nothing to move, which is more likely a wrong address than the truth.
    #[error(
        "find anything to move: the source holds no records and no gateway lives on it; \
         are its address and namespace right?"
    )]
    NothingLives,
    /// The source is a backup.
    #[error(
        "move records from the source: it is a backup, and keys that were claimed after it was taken will look \
         new in the destination, so their requests may run a second time (--accept-loss says that this is accepted)"
    )]
    LossNotAccepted,
    /// No gateway would start on the destination.
    #[error("trust the destination: {0}")]
    DestinationUntrusted(String),
    /// The destination has a past.
    #[error(
        "move records to the destination: it holds records already; make sure that it is not the source by another name, then empty it or take another \
         namespace"
    )]
    DestinationHoldsRecords,
    /// The destination is closed for another reason than this move.
    #[error("move records to the destination: it takes no claims ({0}); empty it or take another namespace")]
    DestinationIsClosed(&'static str),
    /// The destination holds what another move left.
    #[error(
        "move records to the destination: it belongs to another move; empty it or take another namespace"
    )]
    DestinationOfAnother,
    /// The source is on its way elsewhere.
    #[error(
        "move records from the source: a move to another destination is under way; finish it or call it off"
    )]
    SourceOfAnother,
    /// Another run is at work.
    #[error("take the move over: another run is at work on it")]
    AnotherAtWork,
    /// Another run took over, or called the move off.
    #[error("go on with the move: another run has taken it over or called it off")]
    TakenAway,
    /// What a note says cannot be understood.
    #[error("read the note of the move: it is damaged, or written by a later version")]
    NoteUnreadable,
    /// The store forgot that it is closed, or somebody opened it.
    #[error(
        "find the {0} closed: somebody opened it, or it forgot; keys may have been claimed in both stores"
    )]
    NotClosed(Role),
    /// The copies never agreed.
    #[error("find the same records in both stores: the destination does not keep what is put there")]
    NotVerified,
    /// There is nothing to call off.
    #[error("call the move off: no move from this source is under way")]
    NoneUnderWay,
    /// It is too late to call the move off.
    #[error("call the move off: it was carried out, and the destination may have taken claims")]
    CarriedOut,
}
