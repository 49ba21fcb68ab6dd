//! Records, as operators are shown them: never an answer's body, never a key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::answers::{self, Answer};
use super::asked::{Members, invalid};
use super::desk::Desk;
use super::problem::Problem;
use super::shown;
use crate::ledger::operations::{State, Wanted};
use crate::ledger::{Ledger, Unavailable};
use crate::protocol::scope::StorageKey;
use crate::store::{Cursor, StoreError};

/// Operations of one page, where nothing else is asked for, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 500;

/// `GET /v1/operations`
pub(super) async fn list(desk: &Desk, query: Option<&str>) -> Result<Answer, Problem> {
    let mut asked = Members::of_query(query)?;
    let state = asked.text("state")?.map(|word| {
        let known = State::WORDS.into_iter().find(|known| *known == word);
        known.ok_or_else(|| invalid("state", &format!("it is one of {}", State::WORDS.join(", "))))
    });
    let wanted = Wanted { state: state.transpose()?, route: asked.text("route")? };
    let limit = asked.text("limit")?.map(|text| match text.parse() {
        Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Ok(_) | Err(_) => Err(invalid("limit", "it is a number from 1 to 500")),
    });
    let limit = usize::try_from(limit.transpose()?.unwrap_or(LIMIT)).unwrap_or(usize::MAX);
    let after = asked.text("cursor")?.map(|text| match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) => Ok(Cursor(bytes)),
        Err(_) => Err(strange_cursor()),
    });
    let after = after.transpose()?;
    asked.end()?;
    let found = match ledger(desk)?.list(&wanted, after, limit).await {
        Err(Unavailable::Store(StoreError::StrangeCursor)) => Err(strange_cursor()),
        found => found.map_err(|error| unavailable(&error)),
    }?;
    Ok(answers::json(&json!({
        "operations": found.operations.iter().map(shown::operation).collect::<Vec<_>>(),
        "next": found.next.map(|Cursor(bytes)| URL_SAFE_NO_PAD.encode(bytes)),
        "looked_through": found.looked_through,
    })))
}

fn strange_cursor() -> Problem {
    invalid("cursor", "it is none that a page of this store has told as its next")
}

/// `GET /v1/operations/{ref}`
pub(super) async fn look(desk: &Desk, key: &StorageKey) -> Result<Answer, Problem> {
    let found = looked_up(desk, key).await?;
    found.map(|shown| answers::json(&shown)).ok_or(Problem::OperationNotFound)
}

/// What is known of a key, to be shown; `None`: nothing.
pub(super) async fn looked_up(desk: &Desk, key: &StorageKey) -> Result<Option<Value>, Problem> {
    let found = ledger(desk)?.look(key).await.map_err(|error| unavailable(&error))?;
    Ok(found.as_ref().map(shown::operation))
}

/// The records, once the store is open.
pub(super) fn ledger(desk: &Desk) -> Result<Ledger, Problem> {
    (desk.ledger)().ok_or(Problem::Starting)
}

/// The store did not answer a question.
pub(super) fn unavailable(error: &Unavailable) -> Problem {
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, "an operator's question was not answered");
    Problem::StoreUnavailable { may_be_made: false }
}

/// Reads the name of an operation: 64 hexadecimal digits.
pub(super) fn reference(text: &str) -> Result<StorageKey, Problem> {
    let wrong = || invalid("ref", "it is 64 hexadecimal digits");
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_not_hex| wrong())?;
    }
    Ok(StorageKey::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_64_hexadecimal_digits() {
        let text = "00ff".repeat(16);
        assert_eq!(reference(&text).unwrap().to_string(), text);
        assert_eq!(reference(&text.to_uppercase()).unwrap().to_string(), text);
        for wrong in
            [&text[1..], "", &format!("{text}0"), &"0g".repeat(32), &"+f".repeat(32), &"é".repeat(32)]
        {
            assert!(reference(wrong).is_err(), "{wrong}");
        }
    }
}
