//! What operators may change: an unknown outcome that they resolve, a key that they have forgotten.
//!
//! A change needs the token, and is put down in the audit log before it is made; if it cannot be put down it is not
//! made. Whether the record is still the one that the operator has seen is decided by the ledger, in one step with the
//! change. Read `audit.rs` before.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;

use super::access::Who;
use super::answers::{self, Answer};
use super::asked::{Members, invalid};
use super::audit::{Audit, CannotAudit, Change, Event};
use super::desk::{Desk, Terms};
use super::problem::Problem;
use super::{given, operations, shown, token};
use crate::ledger::operations::{NotChanged, Resolution};
use crate::protocol::record::Attempt;
use crate::protocol::scope::StorageKey;
use crate::telemetry::metrics::{ChangeOutcome, Metrics, OperatorAction};

/// Bytes of a question at most: the largest body that is given as base64, and room for the rest.
pub(super) const BODY_MAX: usize = 2 * 1024 * 1024;

/// Bytes of a question for a key to be forgotten at most.
pub(super) const FORGETTING_MAX: usize = 64 * 1024;

/// Bytes of a given answer's body at most, whatever the route keeps.
const ANSWER_MAX: u64 = 1024 * 1024;

/// The right to make one change, and the duty to put it down.
pub(super) struct Licence {
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
    who: Who,
    work: TaskTracker,
}

/// Asks for the token. `metrics`: where changes are counted. `work`: what is waited for before the process ends.
///
/// To be asked for before anything of a body is read: nobody else gets to use that much memory.
pub(super) fn licence(
    terms: &Terms,
    metrics: &Arc<Metrics>,
    fields: &HeaderMap,
    who: &Who,
    work: &TaskTracker,
) -> Result<Licence, Problem> {
    let token = terms.token.as_ref().ok_or(Problem::ChangesOff)?;
    token.is_shown_in(fields)?;
    let audit = terms.audit.clone().ok_or(Problem::AuditUnavailable)?;
    Ok(Licence { audit, metrics: Arc::clone(metrics), who: who.clone(), work: work.clone() })
}

/// `POST /v1/operations/{ref}/resolve`
pub(super) async fn resolve(
    desk: &Desk,
    licence: Licence,
    key: StorageKey,
    mut asked: Members,
) -> Result<Answer, Problem> {
    let ledger = operations::ledger(desk)?;
    let outcome = asked.needed_text("outcome")?;
    let expected = asked.attempt("expected_attempt")?;
    let expected = expected.ok_or_else(|| invalid("expected_attempt", "it is missing"))?;
    let reason = asked.reason("reason")?.ok_or_else(|| invalid("reason", "it is missing"))?;
    let mut members = about(&key, Some(expected), Some(&reason));
    let resolution = match outcome.as_str() {
        "release" => Resolution::Release,
        "complete" => {
            let stands = ledger.look(&key).await.map_err(|error| operations::unavailable(&error))?;
            let stands = stands.ok_or(Problem::OperationNotFound)?;
            let route = stands.outline.map(|outline| outline.route).ok_or(Problem::Unreadable)?;
            let keeping = (desk.keeping)(&route);
            let answer = given::answer(&mut asked, keeping.body_max.min(ANSWER_MAX))?;
            let body = json!({ "bytes": answer.body.len(), "sha256": token::sha256(&answer.body) });
            members.insert("status".to_owned(), answer.head.status.into());
            members.insert("body".to_owned(), body);
            Resolution::Complete { answer, keep_for: keeping.keep_for }
        }
        _ => return Err(invalid("outcome", "it is release or complete")),
    };
    asked.end()?;
    members.insert("action".to_owned(), outcome.into());
    licence
        .make(members, async move {
            let stands = ledger.resolve(&key, expected, resolution).await.map_err(|error| refused(&error))?;
            Ok(answers::json(&json!({ "operation": stands.as_ref().map(shown::operation) })))
        })
        .await
}

/// `DELETE /v1/operations/{ref}`
pub(super) async fn forget(
    desk: &Desk,
    licence: Licence,
    key: StorageKey,
    mut asked: Members,
) -> Result<Answer, Problem> {
    let ledger = operations::ledger(desk)?;
    let expected = asked.attempt("expected_attempt")?;
    let mut members = about(&key, expected, asked.reason("reason")?.as_deref());
    asked.end()?;
    members.insert("action".to_owned(), "forget".into());
    licence
        .make(members, async move {
            ledger.forget(&key, expected).await.map_err(|error| refused(&error))?;
            Ok(answers::nothing())
        })
        .await
}

fn about(key: &StorageKey, expected: Option<Attempt>, reason: Option<&str>) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("ref".to_owned(), key.to_string().into());
    members.insert("expected_attempt".to_owned(), expected.map(shown::attempt).into());
    members.insert("reason".to_owned(), reason.into());
    members
}

fn refused(error: &NotChanged) -> Problem {
    if let NotChanged::Unavailable(cause) = error {
        let cause: &dyn std::error::Error = cause;
        tracing::warn!(error = cause, "an operator's change may have been made or not");
    }
    error.into()
}

impl Licence {
    /// Puts a change down, makes it, and puts down what came of it: in a task that outlives whoever asked, who may
    /// hang up between any two of these.
    pub(super) async fn make<F>(self, members: Map<String, Value>, change: F) -> Result<Answer, Problem>
    where
        F: Future<Output = Result<Answer, Problem>> + Send + 'static,
    {
        let action = members.get("action").and_then(Value::as_str).and_then(OperatorAction::of);
        let told = Change::new(&self.who, members);
        let metrics = self.metrics;
        let task = self.work.spawn(Box::pin(async move {
            let made = made(self.audit, told, change).await;
            if let Some(action) = action {
                metrics.changes.by_operator(action, outcome(&made));
            }
            made
        }));
        task.await.unwrap_or(Err(Problem::Internal))
    }
}

fn outcome(made: &Result<Answer, Problem>) -> ChangeOutcome {
    match made {
        Ok(_) => ChangeOutcome::Done,
        Err(Problem::StoreUnavailable { may_be_made: true } | Problem::Internal) => ChangeOutcome::Unknown,
        Err(_) => ChangeOutcome::Refused,
    }
}

async fn made(
    audit: Arc<Audit>,
    told: Change,
    change: impl Future<Output = Result<Answer, Problem>>,
) -> Result<Answer, Problem> {
    if let Err(error) = put_down(&audit, &told, Event::Intended).await {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "an operator's change was not made");
        return Err(Problem::AuditUnavailable);
    }
    let made = change.await;
    let event = match &made {
        Ok(_) => Event::Done,
        Err(problem) => Event::Failed(problem.code()),
    };
    tracing::info!(change = %told, outcome = event.outcome(), "an operator asked for a change");
    if let Err(error) = put_down(&audit, &told, event).await {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, change = %told, "what came of a change is not in the audit log");
    }
    made
}

/// A disk may hang, and the store's heartbeat goes by this runtime.
async fn put_down(audit: &Arc<Audit>, change: &Change, event: Event) -> Result<(), CannotAudit> {
    let (audit, change) = (Arc::clone(audit), change.clone());
    let file = audit.file().to_owned();
    let written = tokio::task::spawn_blocking(move || audit.write(&change, event)).await;
    written.unwrap_or_else(|panicked| Err(CannotAudit(file, std::io::Error::other(panicked))))
}
