//! Finds the record of a key that somebody tells on the telephone.
//!
//! The key travels in a body, so that it stands in no URL and in no log. Reads only, so no token is needed; but
//! whoever asks could try out keys, which is one reason why the operations API is for operators.

use serde_json::{Value, json};

use super::answers::{self, Answer};
use super::asked::{Members, invalid};
use super::desk::{Derived, Desk, Sought};
use super::problem::Problem;
use super::{given, operations};

/// Bytes of a question at most: a key, and what a caller shows of itself.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// `POST /v1/operations/find`
pub(super) async fn find(desk: &Desk, asked: Members) -> Result<Answer, Problem> {
    let mut found: Vec<Value> = Vec::new();
    for Derived { key, derivation } in (desk.derive)(&sought(asked)?)? {
        found.push(json!({
            "ref": key.to_string(),
            "operation": operations::looked_up(desk, &key).await?,
            "derivation": derivation.as_str(),
        }));
    }
    Ok(answers::json(&json!({ "found": found })))
}

fn sought(mut asked: Members) -> Result<Sought, Problem> {
    let sought = Sought {
        key: asked.needed_text("key")?,
        route: asked.text("route")?,
        host: asked.text("host")?,
        scope: asked.object("scope")?.unwrap_or_default().into_iter().map(part).collect::<Result<_, _>>()?,
    };
    asked.end()?;
    Ok(sought)
}

/// One part of the scope: its source as the configuration writes it, in lower case, and its values.
fn part((source, values): (String, Value)) -> Result<(String, Vec<String>), Problem> {
    let values = given::texts(values)
        .ok_or_else(|| invalid("scope", "each of its members is a string or a list of strings"))?;
    Ok((source.to_ascii_lowercase(), values))
}
