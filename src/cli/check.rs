//! `onceway check`: what a configuration protects, as text. Prints nothing; connects to nothing unless asked to.
//!
//! Read `check/online.rs` for what it says of a store and upstreams that it was asked to look at.

mod online;

use std::path::PathBuf;

use clap::Args;

use super::columns;
use crate::config::risks::risks;
use crate::config::{self, Config, ConfigProblems, Route, Upstream, name_of, show_duration, show_size};
use crate::gateway;
use crate::protocol::policy::{InFlightMode, KeyMode, KeySource, Policy, ScopeSource};

/// What `check` can be told.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Also connect to the store and the upstreams, and say how well the store keeps what it acknowledges
    #[arg(long)]
    online: bool,
}

/// What was found, and whether a gateway would start and serve.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// For people; ends with a newline.
    pub report: String,
    /// Whether all is within reach and the store may be trusted; true where nobody looked.
    pub is_sound: bool,
}

impl CheckArgs {
    /// Loads the file and tells what it comes to, and if so asked, what its store and upstreams answer.
    ///
    /// Errors: every problem of the file at once.
    pub async fn run(&self) -> Result<Checked, ConfigProblems> {
        let config = config::load(&self.config)?;
        let report = format!("{} is valid\n\n{}", self.config.display(), report(&config));
        if !self.online {
            return Ok(Checked { report, is_sound: true });
        }
        let found = gateway::online::look(&config).await;
        let is_sound = online::is_sound(&config, &found);
        Ok(Checked { report: format!("{report}\n{}", online::report(&config, &found)), is_sound })
    }
}

/// What a configuration comes to: listeners, store, upstreams, routes, and warnings of risky choices.
/// Holds no credential. Ends with a newline.
pub fn report(config: &Config) -> String {
    let mut parts = vec![columns::table(&facts(config))];
    if config.routes.is_empty() {
        parts.push("no routes\n".to_owned());
    } else {
        parts.push(columns::table(&routes(config)));
    }
    let mut warnings = String::new();
    for risk in risks(config) {
        line(&mut warnings, &format!("warning: {risk}"));
    }
    if !warnings.is_empty() {
        parts.push(warnings);
    }
    parts.join("\n")
}

fn facts(config: &Config) -> Vec<Vec<String>> {
    let store = &config.store;
    let admin = if config.admin.is_explicit { "" } else { " (default; left out where the port is taken)" };
    let cache = match store.local_cache {
        0 => "no local cache".to_owned(),
        bytes => format!("local cache {}", show_size(bytes)),
    };
    let mut facts = vec![
        vec!["listen".to_owned(), config.server.listen.to_string()],
        vec!["admin".to_owned(), format!("{}{admin}", config.admin.listen)],
        vec!["store".to_owned(), format!("{}, namespace {}, {cache}", store.url.describe(), store.namespace)],
    ];
    for upstream in &config.upstreams {
        facts.push(vec!["upstream".to_owned(), format!("{} = {}", upstream.name, address(upstream))]);
    }
    facts
}

fn address(upstream: &Upstream) -> String {
    let scheme = if upstream.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", upstream.authority, upstream.base_path)
}

fn routes(config: &Config) -> Vec<Vec<String>> {
    const HEAD: [&str; 11] = [
        "PATH",
        "HOST",
        "METHODS",
        "UPSTREAM",
        "KEY",
        "KEY FROM",
        "SCOPE",
        "IN FLIGHT",
        "TTL",
        "UNKNOWN TTL",
        "MODE",
    ];
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(config.routes.iter().map(|route| row(config, route)));
    rows
}

fn row(config: &Config, route: &Route) -> Vec<String> {
    let policy = &route.policy;
    let upstream = config.upstreams.get(route.upstream).map_or("-", |upstream| upstream.name.as_str());
    let mut row = vec![
        route.path.clone(),
        route.host.clone().unwrap_or_else(|| "any".to_owned()),
        policy.methods.join(","),
        upstream.to_owned(),
        name_of(policy.key).to_owned(),
    ];
    if policy.key != KeyMode::Off {
        row.extend(guarded(policy));
    }
    row
}

fn guarded(policy: &Policy) -> [String; 6] {
    let key_from = policy.key_from.iter().map(|source| match source {
        KeySource::Header(name) => format!("header:{name}"),
        KeySource::Json(pointer) => format!("json:{pointer}"),
    });
    let scope = policy.scope.iter().map(|source| match source {
        ScopeSource::Header(name) => format!("header:{name}"),
        ScopeSource::ClientCertificate => "client-cert".to_owned(),
    });
    let in_flight = match policy.in_flight {
        InFlightMode::Reject => name_of(InFlightMode::Reject).to_owned(),
        InFlightMode::Wait => {
            format!("{} {}", name_of(InFlightMode::Wait), show_duration(policy.wait_timeout))
        }
    };
    [
        key_from.collect::<Vec<_>>().join(","),
        if policy.scope.is_empty() { "shared".to_owned() } else { scope.collect::<Vec<_>>().join(",") },
        in_flight,
        show_duration(policy.ttl),
        show_duration(policy.unknown_ttl),
        name_of(policy.mode).to_owned(),
    ]
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(text: &str) -> String {
        report(&config::parse("f", text, &|_| None).unwrap())
    }

    #[test]
    fn the_report_shows_what_is_protected_where_and_on_which_store() {
        let text = "\
[store]
url = \"redis://me:hunter2@cache:6379/1\"
[upstreams.default]
url = \"https://api.internal/base\"
[policy]
scope = []
in_flight = \"wait\"
[[routes]]
path = \"/payments\"
key = \"required\"
[[routes]]
path = \"/orders/{id}\"
host = \"api.example.com\"
key = \"off\"
";
        let expected = "\
listen    127.0.0.1:8080
admin     127.0.0.1:8081 (default; left out where the port is taken)
store     redis://cache:6379/1, namespace onceway, local cache 64MiB
upstream  default = https://api.internal/base

PATH          HOST             METHODS  UPSTREAM  KEY       KEY FROM                SCOPE   IN FLIGHT  TTL  \
UNKNOWN TTL  MODE
/payments     any              POST     default   required  header:idempotency-key  shared  wait 10s   24h  \
7d           enforce
/orders/{id}  api.example.com  POST     default   off

warning: no store.hash_key_file: whoever reads the store can test guesses of short keys and credentials
warning: no admin.token_file: nobody can resolve an unknown outcome or forget a key
warning: /payments: scope = []: all callers share one space, a caller that repeats another's request and key \
gets its answer
";
        assert_eq!(report_of(text), expected);
    }

    #[test]
    fn a_configuration_without_routes_is_told_to_protect_nothing() {
        let shown = report_of("[upstreams.default]\nurl = \"http://127.0.0.1:9000\"\n");
        assert!(shown.contains("no routes\n") && shown.contains("warning: no route is protected"), "{shown}");
    }
}
