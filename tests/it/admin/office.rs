//! A gateway whose operators have a token, and what they ask it.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::document;
use crate::harness::{Answer, Ask, Client, Gateway, GatewayPlan, Reply, Upstream, ask, post};

pub(crate) const TOKEN: &str = "the-token-of-these-tests";

/// The files of the gateway that operators have to do with.
pub(crate) struct Files(TempDir);

/// A gateway, as its operators meet it.
pub(super) struct Office {
    pub(super) gateway: Gateway,
    pub(super) files: Files,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        std::fs::create_dir(files.0.path().join("audit")).unwrap();
        files.change_token(TOKEN);
        files
    }

    pub(super) fn change_token(&self, token: &str) {
        std::fs::write(self.0.path().join("token"), token).unwrap();
    }

    /// The lines of `[admin]` that name them.
    pub(crate) fn lines(&self) -> String {
        let token = self.0.path().join("token");
        format!("token_file = \"{}\"\naudit_file = \"{}\"", token.display(), self.audit().display())
    }

    pub(super) fn audit(&self) -> PathBuf {
        self.0.path().join("audit/log.jsonl")
    }

    /// What was put down, line by line.
    pub(crate) fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Takes the place away where changes are put down.
    pub(super) fn lose_audit(&self) {
        std::fs::remove_dir_all(self.audit().parent().unwrap()).unwrap();
    }
}

impl Office {
    pub(super) fn before(upstream: &Upstream) -> Self {
        Self::of(&GatewayPlan::before(upstream))
    }

    pub(super) fn of(plan: &GatewayPlan) -> Self {
        let files = Files::new();
        let gateway = plan.clone().admin(&files.lines()).start();
        Self { gateway, files }
    }

    pub(super) fn ask(&self, ask: &Ask) -> Answer {
        asked(&self.gateway, ask)
    }

    /// Reads a document.
    pub(super) fn see(&self, target: &str) -> Value {
        let answer = self.ask(&read(target));
        assert_eq!(answer.status, 200, "{}", answer.shown());
        read_from(&answer)
    }

    /// The only record there is.
    pub(super) fn only_operation(&self) -> Value {
        let listed = self.see("/v1/operations");
        let operations = listed["operations"].as_array().unwrap();
        assert_eq!(operations.len(), 1, "{listed}");
        operations[0].clone()
    }

    /// Pays under `key`; answers what became of it.
    pub(super) fn pay(&self, key: &str) -> (String, String) {
        let answer = self.gateway.ask(&post("/payments").key(key));
        (answer.text(), answer.word().unwrap_or_default())
    }

    /// An operation whose outcome is unknown: where it is, and its attempt.
    pub(super) fn with_unknown(upstream: &Upstream) -> (Self, String, String) {
        let office = Self::before(upstream);
        assert_eq!(office.pay("k").1, "unknown");
        let operation = office.only_operation();
        assert_eq!(operation["state"], "unknown", "{operation}");
        let text = |name: &str| operation[name].as_str().unwrap().to_owned();
        (office, format!("/v1/operations/{}", text("ref")), text("attempt"))
    }
}

/// A service that breaks off the first request, and answers the others.
pub(super) fn failing_once() -> Upstream {
    Upstream::in_turn([Reply::default().reset(), Reply::payment(2)])
}

/// Asks a gateway's operators' listener on a connection of its own.
pub(super) fn asked(gateway: &Gateway, ask: &Ask) -> Answer {
    let answer = Client::connect(gateway.admin_addr()).send(ask).read();
    document::describes(ask, &answer);
    answer
}

pub(super) fn read(target: &str) -> Ask {
    here("GET", target)
}

/// A question under the name of this machine.
pub(super) fn here(method: &str, target: &str) -> Ask {
    ask(method, target).without_header("Host").header("Host", "localhost")
}

/// A question with a body, from somebody who has no token.
pub(super) fn question(target: &str, body: &Value) -> Ask {
    here("POST", target).header("Content-Type", "application/json").body(body.to_string())
}

/// As [`question`], from somebody who has it.
pub(super) fn order(target: &str, body: &Value) -> Ask {
    with_token(question(target, body))
}

pub(super) fn with_token(ask: Ask) -> Ask {
    ask.header("Authorization", format!("Bearer {TOKEN}"))
}

/// The document that an answer is.
pub(super) fn read_from(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{}", answer.shown());
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    serde_json::from_slice(&answer.body).unwrap()
}
