//! Which route a path leads to, and that no spelling of a protected path slips past it.

use crate::harness::{GatewayPlan, Upstream, ask, get, post};

const SPELLINGS: [&str; 18] = [
    "/payments/",
    "//payments",
    "/./payments",
    "/x/../payments",
    "/%70ayments",
    "/%2e/payments",
    "/x/%2E%2e/payments",
    "/%2fpayments",
    "/%5Cpayments",
    "/x%2f..%2fpayments",
    "/x%5c..%5cpayments",
    "/payments;v=1",
    "/payments;",
    "/x/..;/payments",
    "/payments/.",
    "/payments/x/..",
    "/payments%2f",
    "/payments//",
];

#[test]
fn a_spelling_that_some_upstream_reads_as_a_protected_path_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for spelling in SPELLINGS {
        let answer = gateway.ask(&post(spelling).key("k"));
        assert_eq!(answer.problem(), (400, "path-ambiguous".into()), "{spelling}");
        let unkeyed = gateway.ask(&post(&format!("{spelling}?q")));
        assert_eq!(unkeyed.problem(), (400, "path-ambiguous".into()), "{spelling}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_protected_path_that_some_upstream_reads_as_another_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).without_routes().route("/a/{id}", "").start();
    for spelling in ["/a/x%2fy", "/a/..", "/a/;x", "/a/%2e%2e"] {
        let answer = gateway.ask(&post(spelling).key("k"));
        assert_eq!(answer.problem(), (400, "path-ambiguous".into()), "{spelling}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn any_spelling_passes_untouched_with_a_method_that_is_not_protected() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for (number, spelling) in (1..).zip(SPELLINGS) {
        assert_eq!(gateway.ask(&get(spelling)).word(), None, "{spelling}");
        assert_eq!(upstream.request(number).target, spelling);
    }
}

#[test]
fn where_all_readings_lead_to_one_route_the_upstream_gets_the_bytes_the_caller_sent() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).without_routes().route("/{*rest}", "").start();
    for (number, spelling) in (1..).zip(SPELLINGS) {
        let target = format!("{spelling}?a=%20&&b=/../");
        let answer = gateway.ask(&post(&target).key(&format!("k{number}")));
        assert_eq!(answer.word().as_deref(), Some("executed"), "{spelling}");
        assert_eq!(upstream.request(number).target, target);
    }
}

#[test]
fn a_target_with_a_scheme_and_a_host_is_the_same_path() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("key = \"required\"").start();
    let answer = gateway.ask(&post("http://api.test/payments"));
    assert_eq!(answer.problem(), (400, "key-missing".into()));
    let answer = gateway.ask(&post("http://api.test/payments").key("k"));
    assert_eq!(answer.word().as_deref(), Some("executed"));
    assert_eq!(upstream.request(1).target, "/payments");
}

#[test]
fn a_target_of_an_asterisk_leads_to_no_route() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    assert_eq!(gateway.ask(&ask("OPTIONS", "*")).status, 201);
    assert_eq!(upstream.request(1).target, "*");
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .without_routes()
        .route("/v1/{*rest}", "key = \"off\"")
        .route("/v1/{id}/refunds", "key = \"optional\"")
        .route("/v1/vip/refunds", "key = \"required\"")
        .start();
    let word = |path| gateway.ask(&post(path)).word();
    assert_eq!(word("/v1/7/refunds").as_deref(), Some("none"));
    assert_eq!(gateway.ask(&post("/v1/vip/refunds")).problem(), (400, "key-missing".into()));
    for path in ["/v1", "/v1/7", "/v1/7/refunds/9", "/v1/7/other", "/other"] {
        assert_eq!(word(path), None, "{path}");
    }
}

#[test]
fn a_case_folding_upstream_is_guarded_in_every_case() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .without_routes()
        .route("/Payments", "path_case = \"insensitive\"\nkey = \"required\"")
        .route("/exact", "key = \"required\"")
        .start();
    for path in ["/payments", "/PAYMENTS", "/PaYmEnTs"] {
        assert_eq!(gateway.ask(&post(path)).problem(), (400, "key-missing".into()), "{path}");
    }
    assert_eq!(gateway.ask(&post("/EXACT")).status, 201);
}

#[test]
fn a_host_narrows_a_route_however_it_is_spelled() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .without_routes()
        .route("/payments", "host = \"api.example.com\"\nkey = \"required\"")
        .start();
    let to = |host| post("/payments").without_header("Host").header("Host", host);
    for host in ["api.example.com", "API.Example.COM", "api.example.com:8080", "api.example.com."] {
        assert_eq!(gateway.ask(&to(host)).problem(), (400, "key-missing".into()), "{host}");
    }
    assert_eq!(gateway.ask(&to("other.example.com")).status, 201);
    let absolute = to("other.example.com");
    assert_eq!(gateway.ask(&absolute).status, 201);
    let by_target = to("API.example.com:80").target("http://api.example.com/payments");
    assert_eq!(gateway.ask(&by_target).problem(), (400, "key-missing".into()));
}

/// `docs/limits.md` has these lists.
#[test]
fn the_bytes_that_no_target_may_have_are_those_that_the_documents_name() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for (place, refused) in [("/a", "#<>`"), ("/a?b", "\"#<>")] {
        let mut passed = Vec::new();
        for byte in (0x21..=0x7e_u8).chain(0x80..=0xff) {
            let target = [place.as_bytes(), &[byte], b"c"].concat();
            let head = [b"GET ".as_slice(), &target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            let answer = gateway.client().say(&head).read();
            if refused.as_bytes().contains(&byte) || !byte.is_ascii() {
                assert_eq!(answer.problem(), (400, "malformed-request".into()), "{}", target.escape_ascii());
            } else {
                assert_eq!(answer.status, 201, "{}", target.escape_ascii());
                passed.push(String::from_utf8(target).unwrap());
            }
        }
        assert!(upstream.targets().ends_with(&passed), "not as they came: {:?}", upstream.targets());
    }
    let in_utf8 = "GET /caf\u{e9}?caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(gateway.client().say(in_utf8.as_bytes()).read().status, 400);
}
