//! Another configuration by SIGHUP: what is taken, what is refused, and what requests see of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::{Client, Gate, Gateway, GatewayPlan, Reply, Upstream, get, post};

/// The gateway stays as it was, and says which key is the reason.
fn refuses(old: &GatewayPlan, new: &GatewayPlan, words: &str) {
    let gateway = old.start();
    assert!(!gateway.reload(new), "{}", gateway.log());
    assert!(gateway.log().contains(words), "{words}:\n{}", gateway.log());
    assert_eq!(gateway.ask(&post("/payments").key("after")).status, 201);
}

#[test]
fn another_upstream_takes_the_requests_that_come_after_a_reload_and_outstanding_keys_replay() {
    let (one, other) = (Upstream::of_payments(), Upstream::always(Reply::payment(100)));
    let gateway = GatewayPlan::before(&one).start();
    let mut kept = gateway.send(&post("/payments").key("before"));
    assert_eq!(kept.read().text(), "payment 1");
    assert!(gateway.reload(&GatewayPlan::before(&other).policy("ttl = \"2h\"")));
    assert_eq!(kept.send(&post("/payments").key("after")).read().text(), "payment 100");
    let replay = kept.send(&post("/payments").key("before")).read();
    assert_eq!((replay.text(), replay.word().as_deref()), ("payment 1".into(), Some("replayed")));
    assert_eq!((one.executions(), other.executions()), (1, 1));
}

#[test]
fn a_request_under_way_keeps_the_configuration_that_it_began_with() {
    let gate = Gate::shut();
    let (one, other) = (Upstream::always(Reply::payment(1).held_by(&gate)), Upstream::of_payments());
    let gateway = GatewayPlan::before(&one).start();
    let mut first = gateway.send(&post("/payments").key("k"));
    one.request(1);
    assert!(gateway.reload(&GatewayPlan::before(&other)));
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (409, "in-flight".into()));
    gate.open();
    assert_eq!(first.read().text(), "payment 1");
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 1");
    assert_eq!(other.executions(), 0);
}

#[test]
fn an_upstream_that_stays_as_it_is_keeps_its_connections() {
    let upstream = Upstream::always(Reply::answer(200).body("ok"));
    let gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    gateway.ask(&get("/"));
    assert!(gateway.reload(&GatewayPlan::before(&upstream).server("threads = 1").route("/new", "")));
    gateway.ask(&get("/"));
    assert_eq!(upstream.request(2).connection, upstream.request(1).connection);
}

#[test]
fn what_has_changed_is_logged() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    assert!(gateway.reload(&GatewayPlan::before(&upstream).policy("ttl = \"1h\"").route("/new", "")));
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("the new configuration holds")).unwrap();
    assert!(line.contains("routes_added=/new") && line.contains("routes_changed=/payments"), "{line}");
}

#[test]
fn a_file_that_is_not_valid_is_refused_with_every_problem_and_its_place() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    assert!(!gateway.reload_text("[server]\nlisten = 1\nfoo = 2\n"));
    let log = gateway.log();
    for problem in
        ["onceway.toml:2:10  server.listen", "server.foo: found an unknown key", "upstreams: found nothing"]
    {
        assert!(log.contains(problem), "{problem}:\n{log}");
    }
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 1");
}

#[test]
fn what_cannot_change_while_running_is_refused_by_its_name_and_nothing_else_changes() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream);
    let with_more = |plan: GatewayPlan| plan.route("/more", "");
    for (changed, key) in [
        (plan.clone().store_line("namespace = \"other\""), "store.namespace"),
        (plan.clone().server("threads = 7"), "server.threads"),
        (plan.clone().log_line("format = \"json\""), "log.format"),
    ] {
        refuses(&plan, &with_more(changed), &format!("change {key} while running: it takes a restart"));
    }
}

#[test]
fn a_reload_that_would_make_keys_in_another_way_is_refused() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream);
    for (line, key) in [
        ("scope = []", "scope"),
        ("fingerprint_body = \"json\"", "fingerprint_body"),
        ("fingerprint_headers = [\"X-Tenant\"]", "fingerprint_headers"),
        ("key_from = [\"header:X-Id\"]", "key_from"),
    ] {
        let words = format!("POST /payments: {key} would no longer find outstanding keys");
        refuses(&plan, &plan.clone().policy(line), &words);
    }
}

#[test]
fn a_reload_that_leaves_a_path_unguarded_is_refused_unless_the_keys_are_given_up() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream);
    let off = plan.clone().without_routes().route("/{*rest}", "key = \"off\"");
    refuses(&plan, &off, "POST /payments: outstanding keys would pass unguarded");
    let gateway = plan.start();
    assert!(gateway.reload(&off.store_line("accept_lost_keys = true")));
    assert_eq!(gateway.ask(&post("/payments").key("k")).word(), None);
}

#[test]
fn a_gateway_without_a_file_says_that_there_is_nothing_to_read() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start_without_file();
    gateway.signal("HUP");
    crate::harness::until("it is told", || gateway.log().contains("it was started without one"));
    assert_eq!(gateway.ask(&post("/payments").key("k")).text(), "payment 1");
}

#[test]
fn reloads_under_load_fail_no_request_and_run_nothing_twice() {
    const CLIENTS: usize = 4;
    const RELOADS: usize = 6;
    let upstream =
        Upstream::by(|request| Reply::answer(201).body(request.header("idempotency-key").unwrap()));
    let plan = GatewayPlan::before(&upstream);
    let gateway = plan.start();
    let is_over = AtomicBool::new(false);
    let asked: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (gateway, is_over) = (&gateway, &is_over);
                scope.spawn(move || {
                    let mut client: Client = gateway.client();
                    let mut asked = 0;
                    while !is_over.load(Ordering::Acquire) {
                        let key = format!("{number}-{asked}");
                        for _ in 0..2 {
                            let answer = client.send(&post("/payments").key(&key)).read();
                            assert_eq!(
                                (answer.status, answer.text()),
                                (201, key.clone()),
                                "{}",
                                answer.shown()
                            );
                        }
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for number in 0..RELOADS {
            assert!(
                gateway.reload(
                    &plan
                        .clone()
                        .policy(&format!("ttl = \"{}h\"", number + 1))
                        .upstream(&format!("response_timeout = \"{}s\"", 60 + number))
                )
            );
        }
        is_over.store(true, Ordering::Release);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(asked > RELOADS);
    assert_eq!(upstream.executions(), asked);
}

/// The way in which keys are made changes from the credential to the account.
fn by_account(plan: &GatewayPlan) -> GatewayPlan {
    plan.clone()
        .policy("scope = [\"header:X-Account\"]")
        .policy("fingerprint_body = \"json\"")
        .policy("previous = { scope = [\"header:Authorization\"], fingerprint_body = \"bytes\" }")
}

#[test]
fn outstanding_keys_replay_after_a_reload_that_makes_them_in_another_way_and_gives_the_old_one() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream);
    let gateway = plan.start();
    let ask = |key: &str| post("/payments").key(key).caller("Bearer one").header("X-Account", "7");
    assert_eq!(gateway.ask(&ask("before")).text(), "payment 1");
    assert!(gateway.reload(&by_account(&plan)), "{}", gateway.log());
    assert_eq!(gateway.ask(&ask("before")).word().as_deref(), Some("replayed"));
    assert_eq!(gateway.ask(&ask("during")).text(), "payment 2");
    let rotated = ask("during").without_header("Authorization").caller("Bearer two");
    assert_eq!(gateway.ask(&rotated).text(), "payment 2");
    assert_eq!(gateway.ask(&ask("before").body("another")).problem(), (422, "key-reused".into()));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn previous_cannot_be_dropped_while_records_from_before_it_may_last() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream);
    let gateway = by_account(&plan).start();
    let after = plan.policy("scope = [\"header:X-Account\"]").policy("fingerprint_body = \"json\"");
    assert!(!gateway.reload(&after));
    assert!(gateway.log().contains("previous must stand for"), "{}", gateway.log());
}

#[test]
fn a_key_is_found_where_it_stood_before() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream).policy("key = \"required\"");
    let old = plan.clone().policy("key_from = [\"header:X-Request-Id\"]");
    let gateway = old.start();
    let ask = post("/payments").header("X-Request-Id", "k");
    assert_eq!(gateway.ask(&ask).text(), "payment 1");
    assert!(gateway.reload(&plan.policy("previous = { key_from = [\"header:X-Request-Id\"] }")));
    assert_eq!(gateway.ask(&ask).word().as_deref(), Some("replayed"));
    assert_eq!(gateway.ask(&post("/payments")).problem(), (400, "key-missing".into()));
}

/// A self-signed certificate for localhost, in two files that a configuration names.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let certificates = Self(tempfile::TempDir::new().unwrap());
        certificates.renew();
        certificates
    }

    /// Puts another certificate into the same files, and gives its bytes.
    fn renew(&self) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(self.0.path().join("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.0.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    fn lines(&self) -> String {
        let dir = self.0.path().display();
        format!("tls_certificate_file = \"{dir}/certificate.pem\"\ntls_key_file = \"{dir}/key.pem\"")
    }
}

/// Whether the gateway shows this certificate to a client that trusts it alone.
fn shows(gateway: &Gateway, certificate: &[u8]) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.to_vec().into()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut stream = std::net::TcpStream::connect(gateway.listen_addr()).unwrap();
    session.complete_io(&mut stream).is_ok()
}

#[test]
fn a_certificate_that_was_renewed_in_its_file_is_shown_after_a_reload() {
    let (certificates, upstream) = (Certificates::new(), Upstream::of_payments());
    let plan = GatewayPlan::before(&upstream).server(&certificates.lines());
    let gateway = plan.start();
    let renewed = certificates.renew();
    assert!(!shows(&gateway, &renewed));
    assert!(gateway.reload(&plan), "{}", gateway.log());
    assert!(shows(&gateway, &renewed));
    std::fs::write(certificates.0.path().join("key.pem"), "no key").unwrap();
    assert!(!gateway.reload(&plan));
    assert!(shows(&gateway, &renewed));
}
