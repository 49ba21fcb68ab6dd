//! A call to one of the two stores: each has a deadline, and is tried again for a while.
//!
//! A store that is restarted, or fails over, does not end a move. Everything that is called this way may be done
//! twice. Must not know what the calls are for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{MoveError, Role};
use crate::protocol::record::Session;
use crate::store::transfer::Transfer;
use crate::store::{Gate, StoreError};

/// For how long a call that failed is tried again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one call may take: a page of a store whose names are mostly others' takes its time.
const CALL_MAX: Duration = Duration::from_mins(1);

/// The pauses between tries begin with this and grow.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// They grow to this.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One of the two stores.
pub(super) struct Side {
    pub(super) store: Arc<dyn Transfer>,
    pub(super) role: Role,
}

impl Side {
    /// Calls until there is an answer, or the patience is over.
    pub(super) async fn call<'s, T, Answer>(
        &'s self,
        call: impl Fn(&'s dyn Transfer) -> Answer,
    ) -> Result<T, MoveError>
    where
        Answer: Future<Output = Result<T, StoreError>>,
    {
        let give_up_at = Instant::now() + PATIENCE;
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if Instant::now() >= give_up_at {
                return Err(MoveError::Store { role: self.role, source: error });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    pub(super) async fn gate(&self) -> Result<Gate, MoveError> {
        self.call(Transfer::gate).await
    }

    pub(super) async fn set_gate(&self, gate: Gate) -> Result<(), MoveError> {
        self.call(|store| store.set_gate(gate)).await
    }

    pub(super) async fn sessions(&self) -> Result<Vec<(Session, Duration)>, MoveError> {
        self.call(Transfer::sessions).await
    }

    async fn once<'s, T, Answer>(&'s self, call: impl Fn(&'s dyn Transfer) -> Answer) -> Result<T, StoreError>
    where
        Answer: Future<Output = Result<T, StoreError>>,
    {
        let answer = tokio::time::timeout(CALL_MAX, call(&*self.store)).await;
        answer.unwrap_or(Err(StoreError::TimedOut(CALL_MAX)))
    }
}
