//! Generated spellings of protected paths, hosts and methods, sent to the gateway over its socket.
//!
//! Every protected route here requires a key and no request has one. So whatever reaches the upstream has slipped
//! past, if any server reads it as protected. Read `../spellings/mod.rs` for how that is told.

use fastrand::Rng;

use crate::harness::{Answer, Ask, Client, Gateway, GatewayPlan, Upstream, ask, post};
use crate::spellings::readers::READERS;
use crate::spellings::seeded;
use crate::spellings::site::{Seen, Site, insensitive, off, on};
use crate::spellings::spell::spell;

/// Spellings sent to one gateway.
const SPELLINGS: usize = 700;

const REQUIRED: &str = "key = \"required\"";

/// Sends on one connection for as long as it lasts, and on the next.
struct Caller<'a> {
    gateway: &'a Gateway,
    client: Client,
}

impl<'a> Caller<'a> {
    fn of(gateway: &'a Gateway) -> Self {
        Self { gateway, client: gateway.client() }
    }

    fn ask(&mut self, ask: &Ask) -> Answer {
        let answer = self.client.send(ask).read();
        if answer.headers("connection").iter().any(|option| option == "close") {
            self.client = self.gateway.client();
        }
        answer
    }
}

/// Spells `paths` and sends them; answers how many were refused or told that a key is missing.
fn send_spellings(gateway: &Gateway, random: &mut Rng, paths: &[&str]) -> usize {
    let mut caller = Caller::of(gateway);
    let mut spelling = || {
        let path = *random.choice(paths).unwrap();
        spell(random, path)
    };
    let spellings: Vec<_> = (0..SPELLINGS).map(|_| spelling()).collect();
    spellings.iter().filter(|spelling| caller.ask(&post(spelling).body("")).status == 400).count()
}

/// What reached the upstream although some server reads it as protected.
fn slips(upstream: &Upstream, site: &Site) -> Vec<String> {
    let received = (1..=upstream.executions()).map(|number| upstream.request(number).target);
    let readers = READERS.iter().filter(|reader| !reader.folds_case || site.folds_case());
    let readers: Vec<_> = readers.filter(|reader| site.may_be_served_by(reader.steps)).collect();
    received
        .flat_map(|target| {
            let path = target.split('?').next().unwrap().to_owned();
            let takers =
                readers.iter().filter(|reader| matches!(site.seen(&path, reader.steps), Seen::Protected(_)));
            takers.map(|reader| format!("{target} by {}", reader.name)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn no_spelling_of_a_protected_path_reaches_the_upstream_unguarded() {
    let (upstream, mut random) = (Upstream::of_payments(), seeded());
    let gateway = GatewayPlan::before(&upstream)
        .without_routes()
        .route("/payments", REQUIRED)
        .route("/orders/{id}/refunds", REQUIRED)
        .route("/orders/{id}", "key = \"off\"")
        .route("/v1/{*rest}", REQUIRED)
        .start();
    let site = Site::of([
        on("/payments"),
        on("/orders/{id}/refunds"),
        off("/orders/{id}"),
        on("/v1/{*rest}"),
        off("/{*rest}"),
    ]);
    let paths = ["/payments", "/orders/7/refunds", "/v1/x"];
    assert!(send_spellings(&gateway, &mut random, &paths) > SPELLINGS / 2);
    assert_eq!(slips(&upstream, &site), Vec::<String>::new());
}

#[test]
fn no_spelling_in_any_case_slips_past_a_route_without_regard_to_case() {
    let (upstream, mut random) = (Upstream::of_payments(), seeded());
    let gateway = GatewayPlan::before(&upstream)
        .without_routes()
        .route("/Payments/{*rest}", &format!("{REQUIRED}\npath_case = \"insensitive\""))
        .route("/payments/list", "key = \"off\"")
        .start();
    let site = Site::of([insensitive(on("/Payments/{*rest}")), off("/payments/list"), off("/{*rest}")]);
    send_spellings(&gateway, &mut random, &["/payments/x", "/PAYMENTS", "/Payments/List"]);
    assert_eq!(slips(&upstream, &site), Vec::<String>::new());
}

#[test]
fn no_spelling_leaves_the_base_path_of_an_upstream_for_a_protected_one() {
    let (upstream, mut random) = (Upstream::of_payments(), seeded());
    let other = format!("[upstreams.other]\nurl = \"{}/b\"", upstream.url());
    let gateway = GatewayPlan::before_url(&format!("{}/a", upstream.url()))
        .upstream(&other)
        .without_routes()
        .route("/payments", &format!("{REQUIRED}\nupstream = \"other\""))
        .route("/refunds", REQUIRED)
        .start();
    send_spellings(
        &gateway,
        &mut random,
        &["/payments", "/../b/payments", "/x/../../a/refunds", "/..%2fb/payments"],
    );
    assert_eq!(
        slips(&upstream, &Site::of([on("/b/payments"), on("/a/refunds"), off("/{*rest}")])),
        Vec::<String>::new()
    );
}

#[test]
fn no_spelling_of_a_host_slips_past_a_route_that_it_narrows() {
    let (upstream, mut random) = (Upstream::of_payments(), seeded());
    let narrowed = |host: &str| format!("host = \"{host}\"\n{REQUIRED}");
    let gateway = GatewayPlan::before(&upstream)
        .without_routes()
        .route("/payments", &narrowed("api.example.com"))
        .route("/payments", &narrowed("[::1]"))
        .start();
    let mut caller = Caller::of(&gateway);
    for _ in 0..200 {
        let name = random
            .choice(["api.example.com", "api.example.com.", "[::1]", "[0:0::0:1]", "[0000::1]"])
            .unwrap();
        let cased: String = name
            .chars()
            .map(|letter| if random.bool() { letter.to_ascii_uppercase() } else { letter })
            .collect();
        let host = format!("{cased}{}", random.choice(["", ":", ":80", ":0080", ":65535"]).unwrap());
        let asked = if random.bool() {
            post("/payments").without_header("Host").header("Host", &host)
        } else {
            post(&format!("http://{host}/payments")).without_header("Host").header("Host", &host)
        };
        assert_eq!(caller.ask(&asked).status, 400, "{host}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn no_spelling_of_a_method_slips_past_a_route_that_guards_it() {
    let (upstream, mut random) = (Upstream::of_payments(), seeded());
    let gateway = GatewayPlan::before(&upstream).policy(REQUIRED).start();
    let mut caller = Caller::of(&gateway);
    for _ in 0..50 {
        let method: String = "POST"
            .chars()
            .map(|letter| if random.bool() { letter.to_ascii_lowercase() } else { letter })
            .collect();
        assert_eq!(caller.ask(&ask(&method, "/payments")).status, 400, "{method}");
    }
    assert_eq!(upstream.executions(), 0);
}
