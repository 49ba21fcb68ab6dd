//! What an operator says of an unknown outcome, as a document of JSON: nothing is changed but by one that says so by the
//! letter, and a true answer that was given is what the next retry gets, as a well-formed answer.
//!
//! The bytes are the document. `ATTEMPT` stands in them for the attempt that the operator saw.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::{Map, Value};

use super::place::{self, Answer, Gateway};

const TOKEN: &str = "a-token-of-the-fuzzer";

/// What a document may say in all, so that nothing is passed over.
const MEMBERS: [&str; 7] =
    ["outcome", "expected_attempt", "reason", "status", "headers", "body", "body_base64"];

/// A gateway whose upstream breaks every connection off.
pub(crate) struct Stage {
    gateway: Gateway,
    next: AtomicU64,
}

impl Stage {
    /// `folder`: where the token and the audit log are put.
    pub(crate) fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                // Of the request something was read, so nobody can say that it was not processed.
                stream.read_exact(&mut [0; 16]).ok();
            }
        });
        let (token, audit) = (folder.join("token"), folder.join("audit.jsonl"));
        fs::write(&token, TOKEN).expect("a file");
        let gateway = place::gateway(
            "",
            &format!("token_file = \"{}\"\naudit_file = \"{}\"", token.display(), audit.display()),
            &format!(
                "[upstreams.default]\nurl = \"http://{address}\"\n[policy]\nscope = []\nresponse_body_max = \"64B\"\n\
                 [[routes]]\npath = \"/guarded\"\n"
            ),
        );
        Self { gateway, next: AtomicU64::new(1) }
    }

    pub(crate) fn bear(&self, bytes: &[u8]) {
        let key = format!("key-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let lost = self.ask_as_caller(&key);
        assert_eq!((lost.status, lost.field("idempotency-status").as_str()), (502, "unknown"), "{lost:?}");
        let reference = member(&lost, "operation_ref");
        let attempt = self.attempt_of(&reference);
        let document = replaced(bytes, b"ATTEMPT", attempt.as_bytes());
        let answer = self.ask_as_operator("POST", &format!("/v1/operations/{reference}/resolve"), &document);
        let told = format!("{}\nwas answered {answer:?}", document.escape_ascii());
        let body: Value =
            serde_json::from_slice(&answer.message.body).unwrap_or_else(|error| panic!("{error}: {told}"));
        assert!(!String::from_utf8_lossy(&answer.message.body).contains(TOKEN), "{told}");
        let again = self.ask_as_caller(&key);
        let told = format!("{told}\nand then {again:?}");
        if answer.status == 200 {
            expect_asked_for(&document, &attempt, &again, &told);
        } else {
            assert!((400..500).contains(&answer.status) && body.get("code").is_some(), "{told}");
            assert_eq!(
                (again.status, again.field("idempotency-status").as_str()),
                (409, "unknown"),
                "{told}"
            );
        }
    }

    fn attempt_of(&self, reference: &str) -> String {
        member(&self.ask_as_operator("GET", &format!("/v1/operations/{reference}"), b""), "attempt")
    }

    fn ask_as_caller(&self, key: &str) -> Answer {
        let text = format!(
            "POST /guarded HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        only_answer(&place::asked(self.gateway.callers, text.as_bytes()))
    }

    fn ask_as_operator(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        only_answer(&place::asked(self.gateway.operators, &[head.as_bytes(), body].concat()))
    }
}

/// Holds a change that was made against the document, read on its own.
fn expect_asked_for(document: &[u8], attempt: &str, again: &Answer, told: &str) {
    let asked: Map<String, Value> =
        serde_json::from_slice(document).unwrap_or_else(|error| panic!("{error}: {told}"));
    let text = |name: &str| asked.get(name).and_then(Value::as_str);
    assert!(asked.keys().all(|name| MEMBERS.contains(&name.as_str())), "{told}");
    let is_attempt = text("expected_attempt").is_some_and(|said| plain(said) == plain(attempt));
    assert!(is_attempt && text("reason").is_some_and(|reason| !reason.is_empty()), "{told}");
    match text("outcome") {
        // The key is free, so the request is sent again, and is lost again.
        Some("release") => assert_eq!(again.status, 502, "{told}"),
        Some("complete") => {
            assert_eq!(asked.get("status").and_then(Value::as_u64), Some(again.status.into()), "{told}");
            assert_eq!(again.field("idempotency-status"), "replayed", "{told}");
            if text("body_base64").is_none() {
                assert_eq!(again.message.body, text("body").unwrap_or_default().as_bytes(), "{told}");
            }
            expect_fields(&asked, again, told);
        }
        Some(_) | None => panic!("{told}"),
    }
}

/// Each field that was given is there, and none that was not but those that a gateway writes.
fn expect_fields(asked: &Map<String, Value>, again: &Answer, told: &str) {
    const WRITTEN: [&str; 8] = [
        "age",
        "connection",
        "content-length",
        "date",
        "idempotency-status",
        "idempotent-replayed",
        "transfer-encoding",
        "via",
    ];
    let mut given = BTreeMap::<String, Vec<String>>::new();
    for (name, values) in asked.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let values: Vec<&Value> =
            values.as_array().map_or_else(|| vec![values], |values| values.iter().collect());
        let texts = values
            .iter()
            .filter_map(|value| value.as_str())
            .map(|text| text.trim_matches([' ', '\t']).to_owned());
        given.entry(name.to_ascii_lowercase()).or_default().extend(texts);
    }
    for (name, value) in &again.message.fields {
        let value = String::from_utf8_lossy(value);
        let is_given = given.get(name).is_some_and(|values| values.iter().any(|given| *given == value));
        assert!(is_given || WRITTEN.contains(&name.as_str()), "{name} is new: {told}");
    }
    for (name, values) in &given {
        let found = again.message.fields.iter().filter(|(found, _)| found == name).count();
        assert!(found >= values.len() || name == "idempotent-replayed", "{name} is lost: {told}");
    }
}

/// A UUID in whatever form it is written.
fn plain(uuid: &str) -> String {
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    // "urn:uuid:" holds one digit of its own, the d.
    digits.to_ascii_lowercase().chars().rev().take(32).collect()
}

fn only_answer(bytes: &[u8]) -> Answer {
    let (answer, used) =
        place::answer(bytes, false).unwrap_or_else(|why| panic!("{why}: {}", bytes.escape_ascii()));
    assert!(used == bytes.len() && answer.is_whole, "{}", bytes.escape_ascii());
    answer
}

fn member(answer: &Answer, name: &str) -> String {
    let document: Value = serde_json::from_slice(&answer.message.body).expect("a document");
    let found =
        document.pointer(&format!("/{name}")).or_else(|| document.pointer(&format!("/operation/{name}")));
    found.and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {document}")).to_owned()
}

fn replaced(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(what.len()).position(|window| window == what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn whatever_an_operator_said_once_changes_a_record_by_the_letter_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path());
    super::try_each("operators", |bytes| stage.bear(bytes));
}
