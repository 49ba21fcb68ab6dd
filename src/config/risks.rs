//! Choices that are valid and may still surprise, each in one line. Decides nothing: `check` prints them,
//! and a gateway may log them when it starts.

use std::time::Duration;

use crate::protocol::policy::{
    FingerprintBody, KeyMode, KeySource, Mode, OnStoreError, OnUnknown, Policy, ScopeMissing, ScopeSource,
};

use super::{CallersCertificate, Config, Route, StoreUrl, Upstream};

/// Of the routes that a choice concerns, so many are named where it is shown.
const ROUTES_NAMED_MAX: usize = 10;

/// A choice that may surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    /// The routes it concerns, as path or host and path; empty when it concerns the whole gateway.
    pub routes: Vec<String>,
    /// What may surprise.
    pub text: &'static str,
}

/// Every risky choice of a configuration, those of the whole gateway first.
pub fn risks(config: &Config) -> Vec<Risk> {
    let mut risks: Vec<_> = of_gateway(config)
        .into_iter()
        .chain(of_admin(config))
        .map(|text| Risk { routes: Vec::new(), text })
        .collect();
    let of_gateway = risks.len();
    for route in config.routes.iter().filter(|route| route.policy.key != KeyMode::Off) {
        for text in of_policy(&route.policy, all_show_certificates(config)) {
            match risks.iter_mut().skip(of_gateway).find(|risk| risk.text == text) {
                Some(risk) => risk.routes.push(label(route)),
                None => risks.push(Risk { routes: vec![label(route)], text }),
            }
        }
    }
    risks
}

impl std::fmt::Display for Risk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = self.routes.get(..ROUTES_NAMED_MAX).unwrap_or(&self.routes);
        match self.routes.len() - named.len() {
            0 if named.is_empty() => {}
            0 => write!(f, "{}: ", named.join(", "))?,
            others => write!(f, "{} and {others} more: ", named.join(", "))?,
        }
        f.write_str(self.text)
    }
}

fn label(route: &Route) -> String {
    format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path)
}

fn of_gateway(config: &Config) -> Vec<&'static str> {
    let is_unprotected = config.routes.iter().all(|route| route.policy.key == KeyMode::Off);
    let choices = [
        (is_unprotected, "no route is protected: every request is passed through"),
        (
            matches!(config.store.url, StoreUrl::Memory),
            "store.url = \"memory:\": every key is forgotten at a restart, and a retry then runs again",
        ),
        (
            config.store.hash_key.is_none(),
            "no store.hash_key_file: whoever reads the store can test guesses of short keys and credentials",
        ),
        (
            config.store.open_only,
            "store.encryption_key_file begins with open-only: its keys open records, and none is sealed",
        ),
        (
            !config.store.encryption_keys.is_empty() && config.store.accept_unsealed,
            "store.accept_unsealed = true: whoever can write to the store can forge answers; switch it off once \
             no record is left from before sealing",
        ),
        (
            config.default_upstream.is_none(),
            "no [upstreams.default]: whatever no route names is answered 404",
        ),
        (
            config.upstreams.iter().any(has_idle_tls_keys),
            "ca_file, server_name and client_certificate_file do nothing for an upstream whose url begins with http://",
        ),
    ];
    chosen(choices)
}

/// What operators may miss when they are needed, and what others may get.
fn of_admin(config: &Config) -> Vec<&'static str> {
    let admin = &config.admin;
    let is_here = admin.listen.ip().is_loopback();
    let asks = admin.tls.as_ref().is_some_and(|tls| tls.callers.is_some());
    let choices = [
        (
            !is_here && !asks,
            "admin.listen is not loopback and there is no admin.tls_client_ca_file: whoever reaches it reads health and \
             metrics, and the console and the operations API are served to nobody but this machine",
        ),
        (admin.token.is_none(), "no admin.token_file: nobody can resolve an unknown outcome or forget a key"),
        (admin.is_token_open, "admin.token_file can be read by every user of this machine: chmod o-r"),
        (
            admin.token.is_none() && admin.audit_file.is_some(),
            "admin.audit_file does nothing without admin.token_file",
        ),
    ];
    chosen(choices)
}

fn has_idle_tls_keys(upstream: &Upstream) -> bool {
    let has_keys =
        upstream.authorities.is_some() || upstream.server_name.is_some() || upstream.identity.is_some();
    has_keys && !upstream.tls
}

/// Whether nobody gets as far as a request without a certificate.
fn all_show_certificates(config: &Config) -> bool {
    let callers = config.server.tls.as_ref().and_then(|tls| tls.callers.as_ref());
    callers.is_some_and(|(_, certificate)| *certificate == CallersCertificate::Required)
}

fn of_policy(policy: &Policy, all_show_certificates: bool) -> Vec<&'static str> {
    const HOUR: Duration = Duration::from_hours(1);
    let is_scoped_by = |name: &str| {
        policy.scope.iter().any(|source| match source {
            ScopeSource::Header(header) => header == name,
            ScopeSource::ClientCertificate => false,
        })
    };
    let may_lack_a_part = policy.scope.iter().any(|source| match source {
        ScopeSource::Header(_) => true,
        ScopeSource::ClientCertificate => !all_show_certificates,
    });
    let choices = [
        (
            policy.mode == Mode::Observe,
            "mode = \"observe\": nothing is protected, every duplicate is forwarded",
        ),
        (
            !policy.key_from.iter().any(|source| is_reachable(source, policy)),
            "key_from: none of the sources can hold a key, so no request is protected",
        ),
        (
            policy.scope.is_empty(),
            "scope = []: all callers share one space, a caller that repeats another's request and key gets its answer",
        ),
        (
            is_scoped_by("authorization"),
            "scope by raw Authorization: a rotated token is another caller and its retry would run again",
        ),
        (
            may_lack_a_part && policy.scope_missing == ScopeMissing::Anonymous,
            "scope_missing = \"anonymous\": all callers without what the scope asks for share one space",
        ),
        (
            policy.on_unknown == OnUnknown::Retry,
            "on_unknown = \"retry\": a retry of an unknown outcome runs again; only for an upstream that is \
             idempotent itself",
        ),
        (
            policy.on_store_error == OnStoreError::Forward,
            "on_store_error = \"forward\": while the store is out of reach a retry runs again",
        ),
        (
            policy.fingerprint_body == FingerprintBody::Off,
            "fingerprint_body = \"off\": a key reused with another body gets the first answer instead of a 422",
        ),
        (
            policy.unknown_ttl < policy.ttl,
            "unknown_ttl is shorter than ttl: an unknown outcome is forgotten before an answer would be, and a \
             retry then runs again",
        ),
        (
            policy.previous.as_ref().is_some_and(|previous| previous.scope != policy.scope),
            "previous: while it stands, callers are told apart only as far as they were before, too",
        ),
        (policy.ttl < HOUR, "ttl is shorter than 1h: a retry that comes later runs again"),
    ];
    chosen(choices)
}

fn chosen<const N: usize>(choices: [(bool, &'static str); N]) -> Vec<&'static str> {
    choices.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
}

/// Whether a request can carry a key there at all.
fn is_reachable(source: &KeySource, policy: &Policy) -> bool {
    // RFC 9110 §7.6.1: these end at the gateway or are read by its HTTP library.
    const NEVER: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    match source {
        KeySource::Header(name) => !NEVER.contains(&name.as_str()),
        KeySource::Json(_) => policy.request_body_max > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EncryptionKey, Store, for_upstream};

    fn with(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = for_upstream("http://127.0.0.1:9000", None, None).unwrap();
        config.store.hash_key = Some(crate::config::Secret::new("sixteen bytes or more"));
        config.admin.token = Some(crate::config::Secret::new("sixteen bytes or more"));
        config.admin.audit_file = Some("/var/lib/onceway/audit.jsonl".into());
        config.routes[0].policy.scope = vec![ScopeSource::Header("x-account".into())];
        config.routes[0].policy.scope_missing = ScopeMissing::Reject;
        change(&mut config);
        risks(&config).iter().map(Risk::to_string).collect()
    }

    fn of(change: impl FnOnce(&mut Policy)) -> String {
        let found = with(|config| change(&mut config.routes[0].policy));
        assert_eq!(found.len(), 1, "{found:#?}");
        found.into_iter().next().unwrap()
    }

    #[test]
    fn a_careful_configuration_has_none() {
        assert_eq!(with(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn each_risky_choice_of_a_route_is_named() {
        let second = Duration::from_secs(1);
        let found = [
            of(|policy| policy.mode = Mode::Observe),
            of(|policy| policy.key_from = vec![KeySource::Header("connection".into())]),
            of(|policy| {
                policy.key_from = vec![KeySource::Json("/id".into())];
                policy.request_body_max = 0;
            }),
            of(|policy| policy.scope = Vec::new()),
            of(|policy| policy.scope = vec![ScopeSource::Header("authorization".into())]),
            of(|policy| policy.scope_missing = ScopeMissing::Anonymous),
            of(|policy| policy.on_unknown = OnUnknown::Retry),
            of(|policy| policy.on_store_error = OnStoreError::Forward),
            of(|policy| policy.fingerprint_body = FingerprintBody::Off),
            of(|policy| policy.unknown_ttl = 3600 * second),
            of(|policy| policy.previous = Some(Box::new(Policy::default()))),
            of(|policy| policy.ttl = 3599 * second),
        ];
        for line in found {
            assert!(line.starts_with("/{*rest}: "), "{line}");
        }
    }

    #[test]
    fn of_many_routes_some_are_named_and_the_others_counted() {
        let text = "it may surprise";
        let shown = |number: usize| {
            let routes = (1..=number).map(|number| format!("/{number}")).collect();
            Risk { routes, text }.to_string()
        };
        assert_eq!(shown(0), "it may surprise");
        assert_eq!(shown(2), "/1, /2: it may surprise");
        assert_eq!(shown(10), "/1, /2, /3, /4, /5, /6, /7, /8, /9, /10: it may surprise");
        assert_eq!(shown(1000), "/1, /2, /3, /4, /5, /6, /7, /8, /9, /10 and 990 more: it may surprise");
    }

    #[test]
    fn each_risky_choice_of_the_gateway_is_named() {
        assert!(with(|config| config.store.url = StoreUrl::Memory)[0].contains("memory:"));
        assert!(with(|config| config.store = Store::default())[0].contains("hash_key_file"));
        assert!(with(|config| config.default_upstream = None)[0].contains("404"));
        assert!(with(|config| config.store.open_only = true)[0].contains("none is sealed"));
        assert!(with(accept_unsealed)[0].contains("accept_unsealed"));
        assert!(with(|config| config.routes.clear())[0].contains("no route is protected"));
        let of_upstream = with(|config| config.upstreams[0].server_name = Some("api.internal".into()));
        assert!(of_upstream[0].contains("http://"));
    }

    #[test]
    fn each_risky_choice_for_operators_is_named() {
        let of_admin = |change: fn(&mut crate::config::Admin)| {
            let found = with(|config| change(&mut config.admin));
            assert_eq!(found.len(), 1, "{found:#?}");
            found.concat()
        };
        assert!(of_admin(|admin| admin.listen = ([0, 0, 0, 0], 8081).into()).contains("not loopback"));
        assert!(of_admin(|admin| admin.is_token_open = true).contains("chmod o-r"));
        assert!(
            of_admin(|admin| (admin.token, admin.audit_file) = (None, None)).contains("nobody can resolve")
        );
        let idle = with(|config| config.admin.token = None);
        assert!(idle[1].contains("audit_file does nothing"), "{idle:#?}");
    }

    #[test]
    fn where_every_caller_shows_a_certificate_none_lacks_that_part_of_its_scope() {
        let scope = vec![ScopeSource::ClientCertificate];
        let policy = Policy { scope, scope_missing: ScopeMissing::Anonymous, ..Policy::default() };
        let warns = |all_show| of_policy(&policy, all_show).iter().any(|text| text.contains("scope_missing"));
        assert_eq!((warns(false), warns(true)), (true, false));
    }

    fn accept_unsealed(config: &mut Config) {
        config.store.encryption_keys = EncryptionKey::from_hex(&"0a".repeat(32)).into_iter().collect();
        config.store.accept_unsealed = true;
    }

    #[test]
    fn one_risk_of_several_routes_is_told_once_and_an_unprotected_route_has_none() {
        let found = with(|config| {
            config.routes[0].policy.on_unknown = OnUnknown::Retry;
            let mut second = config.routes[0].clone();
            second.path = "/b".into();
            second.host = Some("h".into());
            let mut off = second.clone();
            off.policy.key = KeyMode::Off;
            config.routes.extend([second, off]);
        });
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("/{*rest}, h/b: on_unknown"), "{found:#?}");
    }
}
