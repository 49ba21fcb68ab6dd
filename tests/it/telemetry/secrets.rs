//! Requests of every kind with secrets in them, and a look at everything that is written meanwhile: the log at its
//! most talkative, problem documents, metrics, the store's files.

use std::fs;

use bytes::Bytes;
use tempfile::TempDir;

use crate::harness::{Ask, Client, Gateway, GatewayPlan, Reply, Upstream, ask, get, over_http2, post};
use crate::servers::postgres::PostgresServer;

/// Stands in every key, credential, query and body that callers send.
const ASKED: &str = "pl4nted";

/// Stands in every answer.
const ANSWERED: &str = "answ3red";

/// Answers with secrets, or fails with some on the way.
fn service() -> Upstream {
    Upstream::by(|request| {
        let secret = format!("{ANSWERED}-{}", request.number);
        let begun = Reply::answer(201).header("Set-Cookie", &secret).header("X-Receipt", &secret);
        match request.header("x-fate").as_deref() {
            Some("reset") => Reply::default().reset(),
            Some("cut") => begun.header("Content-Length", "99").end_of_head().raw(&secret).close(),
            Some("malformed") => Reply::default().raw(format!("HTTP/1.1 200 OK\r\n {secret}: x\r\n\r\n")),
            Some("401") => Reply::answer(401).header("WWW-Authenticate", &secret).body(&secret),
            Some("stream") => {
                begun.header("Content-Type", "text/event-stream").chunked(&[&secret], &[("x", &secret)])
            }
            Some(_) | None => begun.body(&secret),
        }
    })
}

fn with_secrets(ask: Ask) -> Ask {
    let secret = |what: &str| format!("{ASKED}-{what}");
    ask.caller(&format!("Bearer {}.{}.{}", secret("jwt"), secret("claims"), secret("signature")))
        .header("Cookie", format!("session={}", secret("cookie")))
        .header("X-Api-Key", secret("api-key"))
        .header("traceparent", format!("00-{}", secret("trace")))
        .header("tracestate", format!("vendor={}", secret("state")))
        .header("Forwarded", format!("for=\"{}\"", secret("forwarded")))
}

fn paid(what: &str) -> Ask {
    with_secrets(post(&format!("/payments?card={ASKED}-query")))
        .key(&format!("{ASKED}-key-{what}"))
        .body(format!("card={ASKED}-body"))
}

/// Everything that callers do, well-formed and not. Answers the problem documents that came of it.
fn traffic(gateway: &Gateway) -> Vec<String> {
    let in_json =
        |body: String| with_secrets(post("/events")).header("Content-Type", "application/json").body(body);
    let mut asks =
        vec![paid("one"), paid("one"), paid("one").body(format!("{ASKED} again")), paid("a,b"), paid("")];
    asks.extend(["reset", "cut", "malformed", "401", "stream"].map(|fate| paid(fate).header("X-Fate", fate)));
    asks.extend(["reset", "cut", "malformed"].map(|fate| paid(fate).header("X-Fate", fate)));
    asks.push(in_json(format!("{{\"id\": \"{ASKED}-event\"}}")));
    asks.push(in_json(format!("{{\"id\": \"{ASKED}")));
    asks.push(paid("chunked").chunked(&[&format!("{ASKED}-chunk")], &[("X-Sum", &format!("{ASKED}-sum"))]));
    asks.push(paid("large").body(ASKED.repeat(2000)));
    asks.push(with_secrets(get(&format!("/about?token={ASKED}"))));
    asks.push(with_secrets(ask("TRACE", &format!("/about?token={ASKED}"))));
    asks.push(paid("twice").key(&format!("{ASKED}-other")));
    asks.push(with_secrets(post(&format!("/x/../payments?{ASKED}"))).key(&format!("{ASKED}-path")));
    let mut problems: Vec<_> = asks
        .iter()
        .filter_map(|ask| gateway.client().send(ask).try_read())
        .filter(|answer| answer.header("content-type").as_deref() == Some("application/problem+json"))
        .map(|answer| answer.text())
        .collect();
    for bytes in [
        format!("POST /payments?{ASKED} HTTP/1.1\r\nHost: {ASKED} {ASKED}\r\n\r\n"),
        format!("POST /payments HTTP/1.1\r\nHost: a\r\nAuthorization : {ASKED}\r\n\r\n"),
        format!("{ASKED}\r\n\r\n"),
    ] {
        problems.extend(gateway.client().say(bytes.as_bytes()).try_read().map(|answer| answer.text()));
    }
    // One that leaves in the middle of its body.
    gateway.client().say(&[paid("left").head_bytes(), b"card=".to_vec()].concat());
    over_http2(gateway.listen_addr(), |mut sender| async move {
        let request = http::Request::post(format!("http://api.test/payments?card={ASKED}"))
            .header("authorization", format!("Bearer {ASKED}-h2"))
            .header("idempotency-key", format!("{ASKED}-h2"));
        let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from(format!("card={ASKED}-h2")), true).unwrap();
        answer.await.unwrap();
    });
    problems
}

/// Fails where a secret stands in `text`, as letters or as the numbers by which Rust shows bytes.
fn holds_none(place: &str, text: &[u8], secrets: &[&str]) {
    for secret in secrets {
        let numbers: Vec<_> = secret.bytes().map(|byte| byte.to_string()).collect();
        for form in [(*secret).to_owned(), numbers.join(", "), numbers.join(",")] {
            let found = text.windows(form.len()).position(|window| window == form.as_bytes());
            if let Some(at) = found {
                let around = &text[at.saturating_sub(300)..text.len().min(at + 100)];
                panic!("{secret} in {place}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// Plays the traffic, has the file read again, ends the gateway, and looks at what was written.
fn play(plan: &GatewayPlan, level: &str) -> Gateway {
    let plan = plan
        .clone()
        .logged(level)
        .policy("request_body_max = \"8KiB\"")
        .route("/events", "key_from = [\"json:/id\"]")
        .upstream("response_timeout = \"10s\"");
    let mut gateway = plan.start();
    for problem in traffic(&gateway) {
        holds_none("a problem document", problem.as_bytes(), &[ASKED, ANSWERED]);
    }
    let metrics = Client::connect(gateway.admin_addr()).send(&get("/metrics")).read();
    holds_none("the metrics", &metrics.body, &[ASKED, ANSWERED]);
    let bad = plan
        .text()
        .replace("[store]\nurl = ", &format!("[store]\nurl = \"redis://:{ASKED}@[\"\nnamespace = "));
    assert!(!gateway.reload_text(&bad));
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));
    let log = gateway.log();
    assert!(
        log.matches("onceway::access").count() > 20 || log.matches("request method").count() > 20,
        "{log}"
    );
    holds_none("the log", log.as_bytes(), &[ASKED, ANSWERED]);
    gateway
}

fn files_hold_none(gateway: &Gateway, secrets: &[&str]) {
    let files = gateway.files();
    assert!(files.iter().any(|(path, _)| path.extension().is_some_and(|kind| kind == "redb")), "{files:?}");
    // The configuration is what the test wrote.
    for (path, bytes) in files.into_iter().filter(|(path, _)| !path.ends_with("onceway.toml")) {
        holds_none(&path.display().to_string(), &bytes, secrets);
    }
}

#[test]
fn neither_a_talkative_log_nor_an_unsealed_store_holds_keys_and_credentials() {
    let upstream = service();
    let gateway = play(&GatewayPlan::before(&upstream).store("file:./data"), "trace");
    files_hold_none(&gateway, &[ASKED]);
}

#[test]
fn a_sealed_store_holds_no_answers_either() {
    let (upstream, keys) = (service(), TempDir::new().unwrap());
    let file = keys.path().join("keys");
    fs::write(&file, "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0").unwrap();
    let sealed = format!("encryption_key_file = '{}'", file.display());
    let plan = GatewayPlan::before(&upstream).store("file:./data").store_line(&sealed);
    let gateway = play(&plan.log_line("format = \"json\""), "debug");
    files_hold_none(&gateway, &[ASKED, ANSWERED]);
}

#[test]
fn what_a_library_tells_of_its_work_stays_out_of_the_log() {
    let upstream = service();
    let store = PostgresServer::shared().url();
    let plan = GatewayPlan::before(&upstream).store(&store).store_line("namespace = \"secrets\"");
    let gateway = play(&plan.log_line("format = \"json\""), "trace,tokio_postgres::query=trace,h2=trace");
    for line in gateway.log().lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        let is_quiet = ["TRACE", "DEBUG"].iter().any(|level| event["level"] == *level);
        assert!(!is_quiet || event["target"].as_str().unwrap().starts_with("onceway"), "{line}");
    }
}
