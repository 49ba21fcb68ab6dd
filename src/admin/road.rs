//! The road of an operator's request: what is there, who may see it, who may change it, and then the one who does it.

use std::sync::Arc;

use http::{Method, Request};
use hyper::body::{Body as _, Incoming};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::access::{self, Who};
use super::answers::{self, Answer};
use super::asked::{self, Members};
use super::desk::{Desk, Terms};
use super::places::Place;
use super::problem::Problem;
use super::{changes, console, find, level, openapi, operations, probes};
use crate::server::Alarm;

/// What requests share.
pub(super) struct Office {
    pub(super) desk: Desk,
    /// Changes that are being made.
    pub(super) work: TaskTracker,
    /// Somebody tries tokens.
    wrong_tokens: Alarm,
    /// One page of metrics at a time. To write one takes milliseconds, everybody may ask for it, and the store's
    /// heartbeat goes by this runtime: whoever waits here lets that have its turn between two pages.
    metrics: Mutex<()>,
}

impl Office {
    pub(super) fn of(desk: Desk) -> Self {
        let (work, wrong_tokens, metrics) = (TaskTracker::new(), Alarm::default(), Mutex::new(()));
        Self { desk, work, wrong_tokens, metrics }
    }
}

/// Answers a request.
///
/// Cancel safety: whoever asked has gone; a change that was begun is made and put down in a task of its own.
pub(super) async fn take(office: &Arc<Office>, who: &Who, request: Request<Incoming>) -> Answer {
    let terms = (office.desk.terms)();
    let answer = answer(office, &terms, who, request).await.unwrap_or_else(|problem| {
        if problem == Problem::TokenWrong
            && let Some(unlogged) = office.wrong_tokens.rings()
        {
            tracing::warn!(peer = %who.peer, unlogged, "an operator showed a wrong token");
        }
        problem.response(&terms.problem_base)
    });
    answers::sealed(answer)
}

async fn answer(
    office: &Office,
    terms: &Terms,
    who: &Who,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let (place, named) = Place::at(head.uri.path()).ok_or(Problem::PathUnknown)?;
    if !place.is_open() {
        access::admit(who, &head.uri, &head.headers, &terms.host_names)?;
    }
    if !place.takes(&head.method) {
        return Err(Problem::MethodNotSupported(place.methods()));
    }
    let (desk, fields) = (&office.desk, &head.headers);
    let licence = || changes::licence(terms, &desk.metrics, fields, who, &office.work);
    let key = || operations::reference(named);
    match place {
        Place::Live => Ok(probes::live()),
        Place::Ready => Ok(probes::ready(desk)),
        Place::Metrics => {
            let _turn = office.metrics.lock().await;
            Ok(probes::metrics(desk, fields))
        }
        Place::Console => Ok(answers::page(console::page())),
        Place::OpenApi => Ok(openapi::document()),
        Place::LogLevel if head.method == Method::PUT => {
            let licence = licence()?;
            level::set(licence, asked::document(fields, body, level::BODY_MAX).await?).await
        }
        Place::LogLevel => Ok(level::show()),
        Place::Status => Ok(answers::json(&(desk.status)().document())),
        Place::Operations => operations::list(desk, head.uri.query()).await,
        Place::Find => find::find(desk, asked::document(fields, body, find::BODY_MAX).await?).await,
        Place::Operation if head.method == Method::DELETE => {
            let (licence, asked) = (licence()?, Members::of_query(head.uri.query())?);
            // Why it is forgotten need not stand in an address, which others log.
            let asked = if body.is_end_stream() {
                asked
            } else {
                asked.and(asked::document(fields, body, changes::FORGETTING_MAX).await?)?
            };
            changes::forget(desk, licence, key()?, asked).await
        }
        Place::Operation => operations::look(desk, &key()?).await,
        Place::Resolve => {
            let (licence, key) = (licence()?, key()?);
            let asked = asked::document(fields, body, changes::BODY_MAX).await?;
            changes::resolve(desk, licence, key, asked).await
        }
    }
}
