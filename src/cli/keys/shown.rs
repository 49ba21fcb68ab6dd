//! Operations as text for people: a table of several, a sheet of one.
//!
//! Whatever comes from the gateway is written without control characters, which a terminal would obey.

use std::time::{Duration, SystemTime};

use super::operation::Operation;
use crate::cli::columns;

/// Several operations, one a line, the oldest first, since its caller has waited longest; empty for none.
pub(super) fn table(operations: &[Operation], now: SystemTime) -> String {
    const HEAD: [&str; 7] = ["STATE", "AGE", "ROUTE", "ANSWER", "ATTEMPTS", "ATTEMPT", "REF"];
    if operations.is_empty() {
        return String::new();
    }
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    let mut operations: Vec<_> = operations.iter().collect();
    // All moments are written alike, in UTC. Those of records that cannot be read are not known and come first.
    operations.sort_by_key(|operation| operation.opened_at.as_deref());
    rows.extend(operations.into_iter().map(|operation| row(operation, now)));
    columns::table(&rows)
}

fn row(operation: &Operation, now: SystemTime) -> Vec<String> {
    let attempt = operation.attempt.as_deref().map(|attempt| attempt.chars().take(8).collect::<String>());
    let age = operation.opened_at.as_deref().and_then(|opened| since(opened, now)).map(rough);
    let answer = match (&operation.reason, operation.status) {
        (Some(reason), _) => Some(reason.clone()),
        (None, Some(status)) => Some(status.to_string()),
        (None, None) => None,
    };
    let attempts = operation.attempts.map(|attempts| attempts.to_string());
    let or_dash = |cell: Option<String>| cell.map_or_else(|| "-".to_owned(), |cell| plain(&cell));
    vec![
        plain(&operation.state),
        or_dash(age),
        or_dash(operation.route.clone()),
        or_dash(answer),
        or_dash(attempts),
        or_dash(attempt),
        plain(&operation.reference),
    ]
}

/// One operation, one fact a line, and what can be done about it.
pub(super) fn sheet(operation: &Operation, now: SystemTime) -> String {
    let state = match &operation.reason {
        Some(reason) => format!("{}, {reason}", operation.state),
        None => operation.state.clone(),
    };
    let ago = |moment: &String| match since(moment, now) {
        Some(age) => format!("{moment} ({} ago)", rough(age)),
        None => moment.clone(),
    };
    let left = |moment: &String| match until(moment, now) {
        Some(left) => format!("{moment} (in {})", rough(left)),
        None => moment.clone(),
    };
    let facts = [
        ("ref", Some(operation.reference.clone())),
        ("state", Some(state)),
        ("route", operation.route.clone()),
        ("answer", operation.status.map(|status| format!("status {status}"))),
        ("body", operation.body_bytes.map(|bytes| format!("{bytes} bytes"))),
        ("attempt", operation.attempt.clone()),
        ("attempts", operation.attempts.map(|attempts| attempts.to_string())),
        ("session", operation.session.clone()),
        ("opened", operation.opened_at.as_ref().map(ago)),
        ("settled", operation.settled_at.as_ref().map(ago)),
        ("expires", operation.expires_at.as_ref().map(left)),
    ];
    let rows = facts.into_iter().filter_map(|(name, fact)| Some(vec![name.to_owned(), plain(&fact?)]));
    let mut text = columns::table(&rows.collect::<Vec<_>>());
    if operation.is_unknown() {
        text.push_str(next_steps(operation));
    }
    text
}

fn next_steps(operation: &Operation) -> &'static str {
    if operation.attempt.is_none() {
        return "\nThis gateway cannot read the record, so nobody can say what it holds. It is never taken for absent.\n";
    }
    "\nNobody here knows whether the upstream did it. Ask the upstream, then\n\
     \x20 it did nothing:  onceway keys resolve REF --release --attempt ATTEMPT --reason WHY\n\
     \x20 it did it:       onceway keys resolve REF --complete --status STATUS --body-file FILE --attempt ATTEMPT \
     --reason WHY\n"
}

/// How long ago a moment was; nothing for what is no moment.
fn since(moment: &str, now: SystemTime) -> Option<Duration> {
    let moment = humantime::parse_rfc3339_weak(moment).ok()?;
    // Two machines' clocks may differ: what is not over yet has just been.
    Some(now.duration_since(moment).unwrap_or_default())
}

fn until(moment: &str, now: SystemTime) -> Option<Duration> {
    humantime::parse_rfc3339_weak(moment).ok()?.duration_since(now).ok()
}

/// A duration in its largest unit of which there are two or more.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> Operation {
        serde_json::from_str(&format!(
            r#"{{"ref":"{}","state":"unknown","reason":"response-timeout","route":"/payments",
                "attempt":"6f1d2c3b-0000-4000-8000-000000000000","attempts":2,
                "session":"a1b2c3d4-0000-4000-8000-000000000000","opened_at":"2026-11-23T07:00:00.250Z",
                "settled_at":null,"expires_at":"2026-11-30T07:00:00.000Z","status":null,"body_bytes":null}}"#,
            "3f".repeat(32)
        ))
        .unwrap()
    }

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-11-23T07:03:12Z").unwrap()
    }

    #[test]
    fn a_table_shows_what_is_needed_to_step_in() {
        let done = Operation {
            state: "done".into(),
            reason: None,
            status: Some(201),
            opened_at: Some("2026-11-23T07:03:00.000Z".into()),
            ..unknown()
        };
        let reference = "3f".repeat(32);
        let expected = format!(
            "\
STATE    AGE  ROUTE      ANSWER            ATTEMPTS  ATTEMPT   REF
unknown  3m   /payments  response-timeout  2         6f1d2c3b  {reference}
done     12s  /payments  201               2         6f1d2c3b  {reference}
"
        );
        assert_eq!(table(&[done, unknown()], now()), expected);
        assert_eq!(table(&[], now()), "");
    }

    #[test]
    fn a_sheet_of_an_unknown_outcome_says_what_can_be_done() {
        let expected = format!(
            "\
ref       {}
state     unknown, response-timeout
route     /payments
attempt   6f1d2c3b-0000-4000-8000-000000000000
attempts  2
session   a1b2c3d4-0000-4000-8000-000000000000
opened    2026-11-23T07:00:00.250Z (3m ago)
expires   2026-11-30T07:00:00.000Z (in 6d)

Nobody here knows whether the upstream did it. Ask the upstream, then
  it did nothing:  onceway keys resolve REF --release --attempt ATTEMPT --reason WHY
  it did it:       onceway keys resolve REF --complete --status STATUS --body-file FILE --attempt ATTEMPT --reason WHY
",
            "3f".repeat(32)
        );
        assert_eq!(sheet(&unknown(), now()), expected);
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_written() {
        let operation = Operation { route: Some("/a\u{1b}[2J\n".into()), ..unknown() };
        assert!(!table(std::slice::from_ref(&operation), now()).contains('\u{1b}'));
        assert!(sheet(&operation, now()).contains("/a\u{fffd}[2J\u{fffd}"));
    }

    #[test]
    fn a_record_that_cannot_be_read_shows_what_is_known() {
        let text = r#"{"ref":"00","state":"unknown","reason":"unreadable"}"#;
        let operation: Operation = serde_json::from_str(text).unwrap();
        assert!(
            table(std::slice::from_ref(&operation), now())
                .ends_with("unknown  -    -      unreadable  -         -        00\n")
        );
        assert!(sheet(&operation, now()).contains("never taken for absent"));
    }
}
