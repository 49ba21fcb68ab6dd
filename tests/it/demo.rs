//! The demo: its payments API, and the story that it plays.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

use onceway::cli::demo::payments::{self, Payments};
use onceway::cli::demo::story::{self, Charged};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PAYMENT: &str = r#"{"amount":42.00,"currency":"EUR","card":"4242"}"#;

async fn start() -> Payments {
    payments::serve(TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap()
}

/// Sends bytes, and answers everything that comes back until the server closes.
async fn exchange(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn pay(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: pay\r\nIdempotency-Key: one\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

fn read(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: pay\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn the_payments_api_charges_again_though_the_key_is_the_same() {
    let api = start().await;
    let first = exchange(api.address(), &pay("/payments?slow_ms=0", PAYMENT)).await;
    let second = exchange(api.address(), &pay("/payments?slow_ms=0", PAYMENT)).await;
    assert!(first.starts_with("HTTP/1.1 201 Created\r\n"), "{first}");
    assert!(first.ends_with(r#","amount":42.00,"charges":1}"#), "{first}");
    assert!(second.ends_with(r#","amount":42.00,"charges":2}"#), "{second}");
    assert_eq!(api.charges().of_card("4242"), 2);
    let listed = exchange(api.address(), &read("/payments")).await;
    assert!(listed.contains(r#"{"total":2,"newest":[{"id":"pay_"#), "{listed}");
    api.stop().await;
}

#[tokio::test]
async fn the_payments_api_can_charge_and_lose_the_answer() {
    let api = start().await;
    let answer = exchange(api.address(), &pay("/payments?lose=1&slow_ms=0", PAYMENT)).await;
    assert_eq!(answer, "");
    assert_eq!(api.charges().total(), 1);
    api.stop().await;
}

#[tokio::test]
async fn the_payments_api_charges_nothing_for_what_is_no_payment() {
    let api = start().await;
    for body in ["", "[]", r#"{"amount":"much","currency":"EUR","card":"4242"}"#] {
        let answer = exchange(api.address(), &pay("/payments", body)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    for (path, status) in [("/health", "200"), ("/", "404")] {
        let answer = exchange(api.address(), &read(path)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert_eq!(api.charges().total(), 0);
    api.stop().await;
}

#[tokio::test]
async fn without_a_gateway_every_mishap_of_the_story_charges_the_card_twice() {
    let api = start().await;
    let mut told = Vec::new();
    let tally = story::play(&mut told, false, &api, api.address(), api.address()).await.unwrap();
    let told = String::from_utf8(told).unwrap();
    let twice = Charged { lost_answer: 2, double_click: 2, reused_key: 2 };
    assert_eq!((tally.without, tally.with), (twice, twice), "{told}");
    assert!(told.contains("-> no answer: the connection broke\n"), "{told}");
    api.stop().await;
}

/// `onceway demo` on free ports, up to the line that says that it stays up.
struct Demo {
    process: Child,
    temporary: TempDir,
    told: String,
}

impl Demo {
    fn play() -> Self {
        let temporary = TempDir::new().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_onceway"))
            .args(["demo", "--listen", "127.0.0.1:0", "--payments-listen", "127.0.0.1:0"])
            .env("TMPDIR", temporary.path())
            .current_dir(temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        while !told.contains("Ctrl-C") {
            assert_ne!(out.read_line(&mut told).unwrap(), 0, "the demo ended early:\n{told}");
        }
        process.stdout = Some(out.into_inner());
        Self { process, temporary, told }
    }

    /// The address in the first line that begins with `what`.
    fn address_of(&self, what: &str) -> SocketAddr {
        let line = self.told.lines().find(|line| line.trim_start().starts_with(what)).unwrap();
        line.split_once("http://").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn interrupted(&mut self) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.process.wait().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn the_demo_shows_two_charges_without_the_gateway_and_one_with_it() {
    let mut demo = Demo::play();
    for mishap in ["the answer is lost, the client retries", "a double click"] {
        let line = demo.told.lines().rfind(|line| line.trim_start().starts_with(mishap)).unwrap();
        let counts: Vec<_> = line.split_whitespace().rev().take(2).collect();
        assert_eq!(counts, ["1", "2"], "{}", demo.told);
    }
    for seen in ["Idempotent-Replayed: true", "409 Conflict", "422 Unprocessable", "curl -i http://"] {
        assert!(demo.told.contains(seen), "no {seen:?} in:\n{}", demo.told);
    }
    let gateway = demo.address_of("gateway");
    let first = exchange(gateway, &pay("/payments", PAYMENT)).await;
    let retry = exchange(gateway, &pay("/payments", PAYMENT)).await;
    assert!(first.ends_with(r#","amount":42.00,"charges":1}"#), "{first}");
    assert!(retry.ends_with(r#","amount":42.00,"charges":1}"#), "{retry}");
    assert!(demo.interrupted().success());
    assert_eq!(demo.temporary.path().read_dir().unwrap().count(), 0, "files are left behind");
}
