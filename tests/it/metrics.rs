//! What the gateway counts, read from its page as a scraper reads it.

mod page;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use onceway::telemetry::metrics::FAMILIES;

use crate::harness::{
    Answer, Ask, Client, Gate, Gateway, GatewayPlan, Reply, Upstream, ask, get, post, until,
};
use crate::servers::redis::RedisServer;
use page::{Dialect, Page};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";
const REQUESTS: &str = "onceway_requests_total";

fn scrape(gateway: &Gateway, ask: &Ask) -> Answer {
    let answer = Client::connect(gateway.admin_addr()).send(ask).read();
    assert_eq!(answer.status, 200);
    answer
}

fn page(gateway: &Gateway) -> Page {
    Page::read(&scrape(gateway, &get("/metrics")).text(), Dialect::Prometheus)
}

/// How much each series of a family grew by what `happens`, those that did not left out.
fn growth(gateway: &Gateway, name: &str, happens: impl FnOnce()) -> Vec<(Vec<String>, u64)> {
    let before = page(gateway);
    happens();
    let after = page(gateway);
    let grown = after.counted().filter(|((found, _), _)| found == name).map(|(series, number)| {
        let before = before.series.get(series).copied().unwrap_or_default();
        (series.1.values().cloned().collect(), page::whole(number - before))
    });
    grown.filter(|(_, growth)| *growth != 0).collect()
}

fn once(labels: &[&str]) -> Vec<(Vec<String>, u64)> {
    vec![(labels.iter().map(|label| (*label).to_owned()).collect(), 1)]
}

/// What a request is told, and what is counted of it.
fn counts(gateway: &Gateway, ask: &Ask, word: &str) {
    let counted = growth(gateway, REQUESTS, || {
        assert_eq!(gateway.ask(ask).word().as_deref(), Some(word));
    });
    assert_eq!(counted, once(&["/payments", word]));
}

#[test]
fn each_word_that_a_request_is_told_is_counted_once_for_its_route() {
    let large = Reply::answer(200).body([b'x'; 2000]);
    let replies = [Reply::payment(1), Reply::answer(500).reset(), Reply::answer(401).body("no"), large];
    let upstream = Upstream::in_turn(replies);
    let gateway = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"").start();
    let with_key = |key| post("/payments").key(key);
    counts(&gateway, &with_key("k"), "executed");
    counts(&gateway, &with_key("k"), "replayed");
    counts(&gateway, &with_key("k").body("other"), "mismatch");
    counts(&gateway, &with_key("lost"), "unknown");
    counts(&gateway, &with_key("lost"), "unknown");
    counts(&gateway, &with_key("refused"), "released");
    counts(&gateway, &with_key("large"), "executed");
    counts(&gateway, &with_key("large"), "body-not-kept");
    counts(&gateway, &post("/payments"), "none");
}

#[test]
fn a_duplicate_of_a_request_in_flight_is_counted_as_that() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    counts(&gateway, &post("/payments").key("k"), "in-flight");
    gate.open();
    assert_eq!(first.read().status, 201);
}

#[test]
fn a_request_that_no_route_guards_is_counted_as_passed_and_without_its_path() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let counted = growth(&gateway, REQUESTS, || {
        gateway.ask(&get("/customers/4711"));
        gateway.ask(&get("/payments"));
    });
    assert_eq!(counted, [once(&["", "passed"]), once(&["/payments", "passed"])].concat());
}

#[test]
fn a_request_whose_caller_leaves_is_counted_and_so_is_what_became_of_its_claim() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).start();
    let first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    first.leave();
    let left = [("route", "/payments"), ("verdict", "caller-left")];
    until("the caller is counted", || page(&gateway).number(REQUESTS, &left) == 1);
    gate.open();
    let kept = [("outcome", "completed"), ("settlement", "stored")];
    until("the claim is counted", || page(&gateway).number("onceway_claims_settled_total", &kept) == 1);
}

#[test]
fn what_a_route_that_only_observes_would_have_told_is_counted() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("mode = \"observe\"\nkey = \"required\"").start();
    let would_be = |ask: &Ask, word| {
        let counted = growth(&gateway, "onceway_would_be_total", || assert_eq!(gateway.ask(ask).status, 201));
        assert_eq!(counted, once(&["/payments", word]));
    };
    gateway.ask(&post("/payments").key("k"));
    would_be(&post("/payments").key("k"), "replayed");
    would_be(&post("/payments").key("k").body("other"), "mismatch");
    would_be(&post("/payments"), "key-missing");
}

#[test]
fn each_problem_is_counted_by_its_code() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream).named("payments").policy("key = \"required\"");
    let gateway = plan.policy("request_body_max = \"1KiB\"").start();
    let problems = [
        (post("/payments"), "key-missing"),
        (post("/payments").key("a, b"), "key-invalid"),
        (post("/payments").key("k").body([b'x'; 2000]), "request-too-large"),
        (post("/nowhere"), "no-route"),
        (ask("TRACE", "/payments"), "method-not-supported"),
        (get("/payments").header("Expect", "more"), "expectation-failed"),
    ];
    for (ask, code) in problems {
        let counted = growth(&gateway, "onceway_problems_total", || {
            assert_eq!(gateway.ask(&ask).problem().1, code);
        });
        assert_eq!(counted, once(&[code]));
    }
}

#[test]
fn a_first_request_costs_two_calls_to_the_store_and_a_replay_none() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let calls = || {
        let page = page(&gateway);
        let of = |call| page.number("onceway_store_call_seconds_count", &[("call", call), ("outcome", "ok")]);
        [of("insert"), of("swap"), of("fetch")]
    };
    assert_eq!(calls(), [0; 3]);
    for _ in 0..2 {
        gateway.ask(&post("/payments").key("k"));
        assert_eq!(calls(), [1, 1, 0]);
    }
    let page = page(&gateway);
    let cache = ["hits_total", "misses_total", "records"]
        .map(|name| page.number(&format!("onceway_local_cache_{name}"), &[]));
    assert_eq!(cache, [1; 3]);
    assert_eq!(page.number("onceway_replay_age_seconds_count", &[]), 1);
}

#[test]
fn how_an_upstream_fails_is_counted_by_whether_the_request_may_have_left() {
    let upstream = Upstream::always(Reply::answer(500).reset());
    let gateway = GatewayPlan::before(&upstream).route("/gone", "upstream = \"gone\"");
    let gateway = gateway.more("[upstreams.gone]\nurl = \"http://127.0.0.1:1\"").start();
    let failures = |happens: &dyn Fn()| growth(&gateway, "onceway_upstream_failures_total", happens);
    let lost = failures(&|| assert_eq!(gateway.ask(&post("/payments").key("k")).status, 502));
    assert_eq!(lost, once(&["unknown", "default"]));
    let unreached = failures(&|| assert_eq!(gateway.ask(&post("/gone").key("other")).status, 502));
    assert_eq!(unreached, once(&["not-sent", "gone"]));
}

#[test]
fn a_limit_that_bites_is_counted() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("header_bytes_max = \"1KiB\"").start();
    let counted = growth(&gateway, "onceway_limits_hit_total", || {
        assert_eq!(gateway.ask(&get("/").header("X-Large", [b'x'; 2000])).status, 431);
    });
    assert_eq!(counted, once(&["header-bytes"]));
}

#[test]
fn what_is_under_way_is_shown_and_at_rest_nothing_is() {
    const GAUGES: [&str; 5] = [
        "claims_in_flight",
        "waiters",
        "requests_in_flight",
        "buffered_bytes",
        "upstream_requests_in_flight",
    ];
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway =
        GatewayPlan::before(&upstream).policy("in_flight = \"wait\"\nwait_timeout = \"1m\"").start();
    let shown = || {
        let page = page(&gateway);
        let connections = page.number("onceway_connections", &[("listener", "server")]);
        (GAUGES.map(|name| page.sum(&format!("onceway_{name}"))), connections)
    };
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let mut second = gateway.send(&post("/payments").key("k"));
    // Two bodies of ten bytes each.
    until("both are under way", || shown() == ([1, 1, 2, 20, 1], 2));
    gate.open();
    assert_eq!((first.read().status, second.read().status), (201, 201));
    drop((first, second));
    until("nothing is under way", || shown() == ([0; 5], 0));
    let server = [("server", &*upstream.authority()), ("upstream", "default")];
    let page = page(&gateway);
    assert!(page.number("onceway_connections", &[("listener", "admin")]) > 0, "whoever asks for the page");
    assert_eq!(page.number("onceway_upstream_connections", &server), 1);
    assert_eq!(page.number("onceway_upstream_server_healthy", &server), 1);
}

#[test]
fn no_counter_goes_back_by_a_reload_and_routes_that_are_gone_stay() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream);
    let gateway = plan.clone().route("/old", "").start();
    for path in ["/payments", "/old"] {
        gateway.ask(&post(path).key(path));
    }
    let before = page(&gateway);
    assert!(gateway.reload(
        &plan.clone().route("/new", "").policy("ttl = \"2h\"").store_line("accept_lost_keys = true")
    ));
    assert!(!gateway.reload(&plan.server("threads = 7")));
    gateway.ask(&post("/payments").key("other"));
    let after = page(&gateway);
    for (series, number) in before.counted() {
        assert!(after.series[series] >= number, "{series:?}");
    }
    let executed = |route| [("route", route), ("verdict", "executed")];
    assert_eq!(after.number(REQUESTS, &executed("/payments")), 2);
    assert_eq!(after.number(REQUESTS, &executed("/old")), 1);
    assert!(after.has(REQUESTS, &executed("/new")), "from the beginning, so that its first request is seen");
    for outcome in ["taken", "refused"] {
        assert_eq!(after.number("onceway_config_reloads_total", &[("outcome", outcome)]), 1);
    }
}

#[test]
fn a_page_is_well_formed_in_both_texts_while_requests_are_served() {
    let upstream = Upstream::of_payments();
    let odd = "/odd\"'=,".to_owned();
    let plan = GatewayPlan::before(&upstream).without_routes();
    let gateway = plan.route(&odd.replace('"', "\\\""), "").start();
    let is_over = AtomicBool::new(false);
    let mut served = 0;
    thread::scope(|scope| {
        for caller in 0..2 {
            let (gateway, is_over, odd) = (&gateway, &is_over, &odd);
            scope.spawn(move || {
                let mut client = gateway.client();
                for number in 0.. {
                    client.send(&post(odd).key(&format!("{caller}-{}", number / 2))).read();
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for round in 0..20 {
            let (ask, dialect) = match round % 2 {
                0 => (get("/metrics").header("Accept", OPEN_METRICS), Dialect::OpenMetrics),
                _ => (get("/metrics"), Dialect::Prometheus),
            };
            let page = Page::read(&scrape(&gateway, &ask).text(), dialect);
            let executed = page.number(REQUESTS, &[("route", &odd), ("verdict", "executed")]);
            assert!(executed >= served, "{executed} after {served}");
            served = executed;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(served > 0);
}

#[test]
fn a_scraper_is_told_which_text_it_gets() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let kind = |ask: &Ask| scrape(&gateway, ask).header("content-type").unwrap();
    assert_eq!(kind(&get("/metrics")), "text/plain; version=0.0.4; charset=utf-8");
    let open = kind(&get("/metrics").header("Accept", OPEN_METRICS));
    assert_eq!(open, "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

#[test]
fn no_key_credential_query_or_body_is_on_the_page() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let telling = post("/payments?q=secret-query").key("secret-key").caller("Bearer secret-credential");
    let telling = telling.header("X-Request-Id", "secret-id").body("secret-body");
    for ask in [
        telling.clone(),
        telling.clone(),
        telling.clone().body("secret-other"),
        telling.target("/secret-path"),
    ] {
        gateway.ask(&ask);
    }
    for ask in [get("/metrics"), get("/metrics").header("Accept", OPEN_METRICS)] {
        let text = scrape(&gateway, &ask).text();
        assert!(text.contains("verdict=\"mismatch\"} 1\n"), "it was counted");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn the_page_has_the_families_that_are_documented_and_no_others() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let page = page(&gateway);
    let described = FAMILIES.iter().map(|family| (family.page_name(), family.kind.as_str().to_owned()));
    // Of routes that only observe, and there is none here.
    let expected = described.filter(|(name, _)| name != "onceway_would_be_total").collect();
    assert_eq!(page.families, expected);
}

#[test]
fn the_documentation_has_a_row_for_each_family_and_no_other() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(file).unwrap();
    let is_row = |line: &&str| line.starts_with("| `onceway_") || line.starts_with("| `process_");
    let found: Vec<_> = text.lines().filter(is_row).map(str::to_owned).collect();
    let expected: Vec<_> = FAMILIES.iter().map(|family| family.row()).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_documentation_has_each_word_that_a_label_can_hold() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(file).unwrap();
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("mode = \"observe\"").start();
    gateway.ask(&post("/payments").key("k"));
    // Their values come from the configuration, are explained elsewhere, or are numbers.
    let elsewhere = ["route", "upstream", "server", "code", "version", "le"];
    for ((name, labels), _) in page(&gateway).series {
        for (label, word) in labels.iter().filter(|(label, _)| !elsewhere.contains(&label.as_str())) {
            assert!(text.contains(&format!("`{word}`")), "{label} of {name}: {word}");
        }
    }
}

#[test]
fn what_operators_change_is_counted() {
    let upstream = Upstream::always(Reply::answer(500).reset());
    let dir = tempfile::TempDir::new().unwrap();
    let (token, audit) = (dir.path().join("token"), dir.path().join("audit"));
    std::fs::write(&token, "a-token-that-is-long-enough-to-be-one\n").unwrap();
    let lines = format!("token_file = \"{}\"\naudit_file = \"{}\"", token.display(), audit.display());
    let gateway = GatewayPlan::before(&upstream).admin(&lines).start();
    let level = |level: &str| {
        let ask = ask("PUT", "/v1/log-level").header("Content-Type", "application/json");
        let ask = ask.header("Authorization", "Bearer a-token-that-is-long-enough-to-be-one");
        let ask = ask.without_header("Host").header("Host", "localhost");
        Client::connect(gateway.admin_addr()).send(&ask.body(format!("{{\"level\":\"{level}\"}}"))).read()
    };
    let counted = growth(&gateway, "onceway_operator_changes_total", || {
        assert_eq!(level("debug").status, 204);
    });
    assert_eq!(counted, once(&["log-level", "done"]));
}

#[test]
fn a_store_that_is_away_is_shown_and_so_is_what_that_did_to_answers() {
    let (mut redis, gate) = (RedisServer::start(), Gate::shut());
    let upstream = Upstream::by({
        let gate = gate.latch();
        move |request| {
            gate.wait();
            Reply::payment(request.number)
        }
    });
    let plan = GatewayPlan::before(&upstream).store(&redis.url()).store_line("timeout = \"300ms\"");
    let plan = plan.policy("commit_timeout = \"300ms\"\non_store_error = \"forward\"");
    let gateway = plan.with_short_sessions().start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let is_reachable = || page(&gateway).number("onceway_store_reachable", &[]) == 1;
    assert!(is_reachable());
    redis.kill();
    until("the store is shown as away", || !is_reachable());
    gate.open();
    assert_eq!(first.read().word().as_deref(), Some("unstored"));
    counts(&gateway, &post("/payments").key("other"), "unprotected");
    let away = page(&gateway);
    let settled = [("outcome", "completed"), ("settlement", "unstored")];
    assert_eq!(away.number("onceway_claims_settled_total", &settled), 1);
    assert_eq!(away.number(REQUESTS, &[("route", "/payments"), ("verdict", "unstored")]), 1);
    let failed = away.sum_where("onceway_store_call_seconds_count", "outcome", |outcome| outcome != "ok");
    assert!(failed > 0, "calls without an answer");
    redis.restart();
    until("the store is shown as back", is_reachable);
}

#[test]
fn an_answer_that_comes_late_and_is_kept_is_counted() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).upstream("response_timeout = \"100ms\"").start();
    counts(&gateway, &post("/payments").key("k"), "unknown");
    let unanswered = [("upstream", "default"), ("left", "unknown")];
    assert_eq!(page(&gateway).number("onceway_upstream_failures_total", &unanswered), 1);
    gate.open();
    until("it is counted", || page(&gateway).number("onceway_late_answers_total", &[]) == 1);
    counts(&gateway, &post("/payments").key("k"), "replayed");
}
