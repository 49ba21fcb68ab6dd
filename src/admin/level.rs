//! Which events are logged: seen, and changed while the gateway runs.
//!
//! A change holds until the next reload or restart. It is a change like any other, with the token and in the audit
//! log: whoever turns the log off would not be seen.

use serde_json::{Map, json};

use super::answers::{self, Answer};
use super::asked::{Members, invalid};
use super::changes::Licence;
use super::problem::Problem;
use crate::config;
use crate::telemetry::log;

/// Bytes of a question at most.
pub(super) const BODY_MAX: usize = 4 * 1024;

/// `GET /v1/log-level`
pub(super) fn show() -> Answer {
    // Where no log has started, nothing is written.
    answers::json(&json!({ "level": log::level().as_deref().unwrap_or("off") }))
}

/// `PUT /v1/log-level`
pub(super) async fn set(licence: Licence, mut asked: Members) -> Result<Answer, Problem> {
    let level = asked.needed_text("level")?;
    asked.end()?;
    let level = config::parse_log_level(&level).map_err(|unfit| invalid("level", &unfit.to_string()))?;
    let mut members = Map::new();
    members.insert("action".to_owned(), "log-level".into());
    members.insert("level".to_owned(), level.clone().into());
    licence
        .make(members, async move {
            log::set_level(&level).map(|()| answers::nothing()).map_err(|error| {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "the log level was not changed");
                Problem::Internal
            })
        })
        .await
}
