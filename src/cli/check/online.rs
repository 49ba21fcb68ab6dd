//! What `check --online` found, as text: how well the store keeps what it acknowledges, and who answers.

use super::line;
use crate::cli::columns::table;
use crate::config::Config;
use crate::gateway::online::{Found, StoreFound};
use crate::store::durability::{Durability, Fault, Severity};
use crate::store::{Closure, Gate};

/// Whether a gateway with this configuration would start and serve.
pub(super) fn is_sound(config: &Config, found: &Found) -> bool {
    let is_store_sound = match &found.store {
        Ok(StoreFound::Told(durability, gate)) => {
            durability.refusal(config.store.accept_eviction).is_none() && *gate == Gate::Open
        }
        Ok(StoreFound::NotYetMade) => true,
        Err(_) => false,
    };
    is_store_sound && found.upstreams.iter().all(Result::is_ok)
}

/// What was found; ends with a newline.
pub(super) fn report(config: &Config, found: &Found) -> String {
    let mut rows = Vec::new();
    let mut sentences = String::new();
    match &found.store {
        Ok(StoreFound::Told(durability, gate)) => {
            rows.extend(durability.facts.iter().map(|(name, value)| row(&format!("store {name}"), value)));
            tell(&mut sentences, durability, config.store.accept_eviction);
            if let Gate::Closed(closure) = gate {
                line(&mut sentences, &format!("refused: {}", reason(*closure)));
            }
        }
        Ok(StoreFound::NotYetMade) => rows.push(row("store", "not there yet: made at the first start")),
        Err(error) => rows.push(row("store", &failed("use it", &**error))),
    }
    for (upstream, answer) in config.upstreams.iter().zip(&found.upstreams) {
        let answer = match answer {
            Ok(()) => "takes connections".to_owned(),
            Err(error) => failed("connect", &**error),
        };
        rows.push(row(&format!("upstream {}", upstream.name), &answer));
    }
    let table = table(&rows);
    if sentences.is_empty() { table } else { format!("{table}\n{sentences}") }
}

fn tell(text: &mut String, durability: &Durability, accept_eviction: bool) {
    for loss in &durability.losses {
        line(text, &format!("durability: {loss}"));
    }
    for fault in &durability.faults {
        line(text, &format!("{}: {}", consequence(fault, accept_eviction), fault.text));
    }
}

fn reason(closure: Closure) -> &'static str {
    match closure {
        Closure::Leaving => "the store takes no claims: its records are being moved to another, or were",
        Closure::Arriving => "the store takes no claims: not all records of another store have arrived",
        Closure::Backup => {
            "the store takes no claims: it is a backup, and does not know what was claimed after it"
        }
    }
}

fn consequence(fault: &Fault, accept_eviction: bool) -> &'static str {
    match fault.severity {
        Severity::Unusable => "refused",
        Severity::Evicts if !accept_eviction => "refused, unless store.accept_eviction = true",
        Severity::Evicts | Severity::Weak => "warning",
    }
}

fn row(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

/// An error with its causes, on one line.
fn failed(to_do: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("failed to {to_do}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config() -> Config {
        config::parse("f", "[upstreams.default]\nurl = \"http://127.0.0.1:1\"\n", &|_| None).unwrap()
    }

    fn told(faults: Vec<Fault>) -> Found {
        let facts = vec![("persistence", "appendonly yes".to_owned())];
        let losses = vec!["a power loss: the claims of the last second".to_owned()];
        Found {
            store: Ok(StoreFound::Told(Durability { facts, losses, faults }, Gate::Open)),
            upstreams: vec![Err("refused".into())],
        }
    }

    #[test]
    fn what_can_be_lost_and_what_is_refused_is_said_in_sentences() {
        let evicts = Fault { severity: Severity::Evicts, text: "it evicts".to_owned() };
        let found = told(vec![evicts]);
        let expected = "\
store persistence  appendonly yes
upstream default   failed to connect: refused

durability: a power loss: the claims of the last second
refused, unless store.accept_eviction = true: it evicts
";
        assert_eq!(report(&config(), &found), expected);
        assert!(!is_sound(&config(), &found));
    }

    #[test]
    fn all_is_sound_where_all_answer_and_the_store_keeps_what_it_takes() {
        let mut found = told(Vec::new());
        assert!(!is_sound(&config(), &found), "an upstream does not answer");
        found.upstreams = vec![Ok(())];
        assert!(is_sound(&config(), &found));
        found.store = Ok(StoreFound::Told(Durability::default(), Gate::Closed(Closure::Backup)));
        assert!(!is_sound(&config(), &found), "it takes no claims");
        assert!(report(&config(), &found).contains("refused: the store takes no claims: it is a backup"));
        found.store = Err("away".into());
        assert!(!is_sound(&config(), &found));
    }
}
