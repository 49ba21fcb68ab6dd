//! The documents of the operators' API, as far as this command reads and writes them.
//!
//! What `--json` prints is written from the same types, so a member that a gateway adds later does not come through.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is known of one key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Operation {
    #[serde(rename = "ref")]
    pub(super) reference: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) route: Option<String>,
    pub(super) attempt: Option<String>,
    pub(super) attempts: Option<u32>,
    pub(super) session: Option<String>,
    pub(super) opened_at: Option<String>,
    pub(super) settled_at: Option<String>,
    pub(super) expires_at: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) body_bytes: Option<u64>,
}

impl Operation {
    /// Whether a person may resolve it.
    pub(super) fn is_unknown(&self) -> bool {
        self.state == "unknown"
    }
}

/// Some of the operations.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Page {
    pub(super) operations: Vec<Operation>,
    pub(super) next: Option<String>,
    pub(super) looked_through: u64,
}

/// Which operation is looked for, by what its caller sent.
#[derive(Serialize)]
pub(super) struct Sought {
    pub(super) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    pub(super) scope: BTreeMap<String, Vec<String>>,
}

/// Where the key leads.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Places {
    pub(super) found: Vec<Spot>,
}

/// One of the refs that the key leads to.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Spot {
    #[serde(rename = "ref")]
    pub(super) reference: String,
    pub(super) operation: Option<Operation>,
    pub(super) derivation: String,
}

/// How an unknown outcome is resolved.
#[derive(Serialize)]
pub(super) struct Resolution<'a> {
    pub(super) outcome: &'static str,
    pub(super) expected_attempt: &'a str,
    pub(super) reason: &'a str,
    #[serde(flatten)]
    pub(super) answer: Option<Answer>,
}

/// The true answer.
#[derive(Serialize)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_base64: Option<String>,
}

/// What stands after a change.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Resolved {
    pub(super) operation: Option<Operation>,
}

/// What was forgotten.
#[derive(Debug, Serialize)]
pub(super) struct Forgotten<'a> {
    pub(super) forgotten: &'a str,
}

/// How the gateway says no.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    pub(super) code: String,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) detail: String,
}
