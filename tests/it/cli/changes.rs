//! `onceway keys resolve` and `forget` before a scripted operators' listener: what a change needs, and what is said
//! when nobody can tell whether it was made.

use std::path::PathBuf;

use clap::Parser as _;
use onceway::cli::keys::{KeysError, Seat};
use onceway::cli::{Cli, Command};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Ended;
use super::keys::{ATTEMPT, REF, answer, keys, keys_with, operation, problem};
use crate::harness::{Reply, Upstream};

const TOKEN: &str = "a-token-of-sixteen-or-more";

/// A directory with the file of a token.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: TempDir::new().unwrap() };
        std::fs::write(desk.file("token"), format!("{TOKEN}\n")).unwrap();
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Types a change, with the token at hand.
    fn change(&self, gateway: &Upstream, arguments: &[&str]) -> Ended {
        let token = self.file("token");
        let token = ["--token-file", token.to_str().unwrap(), "--reason", "ticket 4711"];
        keys(gateway, &[arguments, &token[..]].concat())
    }
}

fn resolved() -> Reply {
    answer(200, &json!({ "operation": null }))
}

#[test]
fn a_release_names_the_attempt_that_was_seen_and_shows_the_token() {
    let gateway = Upstream::always(resolved());
    let ended = Desk::new().change(&gateway, &["resolve", REF, "--release", "--attempt", ATTEMPT]);
    assert_eq!(
        (ended.code, &*ended.out),
        (Some(0), "released: the next request with this key is a first one\n")
    );
    let request = gateway.request(1);
    assert_eq!(request.header("authorization"), Some(format!("Bearer {TOKEN}")));
    assert_eq!(request.target, format!("/v1/operations/{REF}/resolve"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({ "outcome": "release", "expected_attempt": ATTEMPT, "reason": "ticket 4711" }));
}

#[test]
fn a_completion_carries_the_true_answer() {
    let (gateway, desk) = (Upstream::always(resolved()), Desk::new());
    std::fs::write(desk.file("answer.json"), "{\"id\":\"ch_17\"}").unwrap();
    let body = desk.file("answer.json");
    let what = ["resolve", REF, "--complete", "--status", "201", "--attempt", ATTEMPT, "--body-file"];
    let fields =
        ["--header", "Content-Type: application/json", "--header", "link: </a>", "--header", "Link: </b>"];
    let ended = desk.change(&gateway, &[&what[..], &[body.to_str().unwrap()], &fields[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let body: Value = serde_json::from_slice(&gateway.request(1).body).unwrap();
    assert_eq!((&body["outcome"], &body["status"]), (&json!("complete"), &json!(201)));
    assert_eq!(body["headers"], json!({ "content-type": ["application/json"], "link": ["</a>", "</b>"] }));
    assert_eq!(body["body"], json!("{\"id\":\"ch_17\"}"));
}

#[test]
fn a_body_that_is_no_text_travels_in_base64() {
    let (gateway, desk) = (Upstream::always(resolved()), Desk::new());
    std::fs::write(desk.file("answer"), b"\xff\x00").unwrap();
    let body = desk.file("answer");
    let what = ["resolve", REF, "--complete", "--status", "200", "--attempt", ATTEMPT, "--body-file"];
    desk.change(&gateway, &[&what[..], &[body.to_str().unwrap()]].concat());
    let body: Value = serde_json::from_slice(&gateway.request(1).body).unwrap();
    assert_eq!((&body["body_base64"], body.get("body")), (&json!("/wA="), None));
}

#[test]
fn the_first_digits_of_an_attempt_stand_for_the_one_that_is_there() {
    let gateway = Upstream::in_turn([answer(200, &operation("unknown")), resolved()]);
    Desk::new().change(&gateway, &["resolve", REF, "--release", "--attempt", "6F1D2C3B"]);
    let body: Value = serde_json::from_slice(&gateway.request(2).body).unwrap();
    assert_eq!(body["expected_attempt"], json!(ATTEMPT));
}

#[test]
fn nothing_is_asked_of_the_gateway_when_another_attempt_stands_there() {
    let gateway = Upstream::always(answer(200, &operation("unknown")));
    let ended = Desk::new().change(&gateway, &["forget", REF, "--attempt", "77777777"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains(ATTEMPT) && ended.err.contains("Nothing was changed"), "{ended:?}");
    assert_eq!(gateway.targets(), [format!("/v1/operations/{REF}")]);
}

#[test]
fn without_an_attempt_and_without_a_person_to_ask_no_change_is_made() {
    let gateway = Upstream::always(resolved());
    for change in [&["resolve", REF, "--release"][..], &["forget", REF]] {
        let ended = Desk::new().change(&gateway, change);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(&format!("onceway keys show {REF}")), "{ended:?}");
    }
    assert_eq!(gateway.executions(), 0);
}

#[test]
fn a_key_is_forgotten_with_the_reason_for_the_audit_log() {
    let gateway = Upstream::always(Reply::answer(204).end_of_head());
    let ended = Desk::new().change(&gateway, &["forget", REF, "--attempt", ATTEMPT]);
    assert_eq!(
        (ended.code, &*ended.out),
        (Some(0), "forgotten: the next request with this key is a first one\n")
    );
    let request = gateway.request(1);
    assert_eq!(request.method, "DELETE");
    assert_eq!(request.target, format!("/v1/operations/{REF}?expected_attempt={ATTEMPT}"));
    assert_eq!(request.body, br#"{"reason":"ticket 4711"}"#);
}

#[test]
fn a_change_of_which_no_word_came_back_is_told_as_doubtful() {
    let unreachable = problem(503, "store-unavailable", "the store is out of reach");
    for reply in [Reply::default().reset(), unreachable] {
        let gateway = Upstream::always(reply);
        let ended = Desk::new().change(&gateway, &["forget", REF, "--attempt", ATTEMPT]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("may have been made or not"), "{ended:?}");
    }
}

#[test]
fn a_change_that_was_refused_is_told_with_what_to_do_next() {
    for (status, code, next) in [
        (409, "attempt-changed", "Look at it again"),
        (409, "not-unknown", "only unknown outcomes are resolved"),
        (403, "changes-off", "admin.token_file"),
        (401, "token-wrong", "--token-file"),
        (503, "audit-unavailable", "Nothing was changed"),
    ] {
        let gateway = Upstream::always(problem(status, code, "no"));
        let ended = Desk::new().change(&gateway, &["resolve", REF, "--release", "--attempt", ATTEMPT]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(&format!("no ({code}, status {status})")), "{ended:?}");
        assert!(ended.err.contains(next) && !ended.err.contains(TOKEN), "{ended:?}");
    }
}

#[test]
fn what_makes_no_change_ends_with_2_and_asks_nothing() {
    let (gateway, desk) = (Upstream::always(resolved()), Desk::new());
    for change in [
        &["resolve", REF][..],
        &["resolve", REF, "--release", "--complete", "--status", "200"],
        &["resolve", REF, "--complete"],
        &["resolve", REF, "--complete", "--status", "101"],
        &["resolve", REF, "--release", "--status", "200"],
        &["resolve", REF, "--release", "--attempt", "6f1d"],
        &["resolve", REF, "--complete", "--status", "200", "--header", "no colon", "--attempt", ATTEMPT],
        &["forget"],
    ] {
        let ended = desk.change(&gateway, change);
        assert_eq!((ended.code, gateway.executions()), (Some(2), 0), "{change:?}: {ended:?}");
    }
}

#[test]
fn a_change_needs_a_token_and_a_reason() {
    let gateway = Upstream::always(resolved());
    let change = ["resolve", REF, "--release", "--attempt", ATTEMPT];
    let no_reason = keys(&gateway, &change);
    assert!(no_reason.code == Some(2) && no_reason.err.contains("--reason"), "{no_reason:?}");
    let no_token = keys_with(&gateway, &[&change[..], &["--reason", "x"]].concat(), "");
    assert!(no_token.code == Some(2) && no_token.err.contains("--token-file"), "{no_token:?}");
    assert_eq!(gateway.executions(), 0);
}

/// Types a release with nobody naming the attempt; a person sits there and says `said`. What was asked of them, too.
async fn release_attended(desk: &Desk, gateway: &Upstream, said: &str) -> (Result<(), KeysError>, String) {
    let (url, token) = (gateway.url(), desk.file("token"));
    let words =
        ["onceway", "keys", "resolve", REF, "--release", "--reason", "x", "--admin", &url, "--token-file"];
    let cli = Cli::parse_from(words.iter().copied().chain([token.to_str().unwrap()]));
    let Command::Keys(args) = cli.command else { panic!("keys should parse") };
    let mut questions = Vec::new();
    let mut seat = Seat {
        input: &mut said.as_bytes(),
        out: &mut Vec::new(),
        questions: &mut questions,
        is_attended: true,
    };
    let ended = args.run(&mut seat).await;
    (ended, String::from_utf8(questions).unwrap())
}

#[tokio::test]
async fn a_person_who_says_yes_releases_the_attempt_that_was_shown() {
    let gateway = Upstream::in_turn([answer(200, &operation("unknown")), resolved()]);
    let (ended, asked) = release_attended(&Desk::new(), &gateway, "y\n").await;
    assert!(ended.is_ok() && asked.contains(ATTEMPT), "{ended:?} {asked}");
    assert!(asked.ends_with("Release it? The next request with this key will run. [y/N] "), "{asked}");
    let body: Value = serde_json::from_slice(&gateway.request(2).body).unwrap();
    assert_eq!(body["expected_attempt"], json!(ATTEMPT));
}

#[tokio::test]
async fn whoever_does_not_say_yes_changes_nothing() {
    for said in ["n\n", "\n", ""] {
        let gateway = Upstream::always(answer(200, &operation("unknown")));
        let (ended, _) = release_attended(&Desk::new(), &gateway, said).await;
        assert!(matches!(ended, Err(KeysError::Declined)), "{ended:?}");
        assert_eq!(gateway.executions(), 1);
    }
}

#[tokio::test]
async fn nobody_is_asked_to_release_what_is_not_unknown() {
    let gateway = Upstream::always(answer(200, &operation("done")));
    let (ended, asked) = release_attended(&Desk::new(), &gateway, "y\n").await;
    assert!(matches!(ended, Err(KeysError::NotUnknown(_))) && asked.is_empty(), "{ended:?} {asked}");
}
