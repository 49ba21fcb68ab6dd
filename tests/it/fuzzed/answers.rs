//! What a hostile upstream says for one request: its caller never gets as a whole answer what is none, the request is
//! never sent again by a retry, and the retry gets the first answer or hears that nobody knows.
//!
//! The first byte chooses the road and whether the upstream keeps the connection open, the rest is what it says.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::grammar::{Next, next};
use super::message::Message;
use super::place::{self, Answer, Gateway};

/// The statuses by which an upstream says that it processed nothing (`release_statuses`).
const RELEASED: [u16; 6] = [401, 407, 408, 421, 425, 429];

/// Stands for the status where the connection ended without an answer.
const NONE: u16 = 0;

/// What is kept of an answer at most.
const KEPT_MAX: usize = 1024;

/// A gateway before an upstream that says what it is told to.
pub(crate) struct Stage {
    gateway: Gateway,
    upstream: Hostile,
    next: AtomicU64,
}

/// An upstream that runs for as long as the process.
struct Hostile(Arc<Mutex<HashMap<String, Script>>>);

/// What the upstream does when it is asked under one key.
struct Script {
    says: Vec<u8>,
    lingers: bool,
    asked: usize,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let (upstream, address) = Hostile::start();
        let rest = format!(
            "[upstreams.default]\nurl = \"http://{address}\"\nresponse_timeout = \"10s\"\n\
             [policy]\nscope = []\nresponse_body_max = \"1KiB\"\n[[routes]]\npath = \"/guarded\"\n"
        );
        Self { gateway: place::gateway("", "", &rest), upstream, next: AtomicU64::new(1) }
    }

    pub(crate) fn bear(&self, bytes: &[u8]) {
        let Some((choice, says)) = bytes.split_first() else { return };
        let key = format!("key-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let meant = place::answer(says, false).map(|(answer, _)| answer);
        // Only somebody who has said everything may stay without keeping the caller waiting.
        let is_all_said = matches!(&meant, Ok(answer) if answer.is_whole && is_framed(answer));
        self.upstream.will_say(&key, says, choice & 1 == 1 && is_all_said);
        let meant = meant.ok().filter(|answer| answer.is_whole);
        let story = Story { said: says, meant: meant.as_ref() };
        if choice & 2 == 0 {
            let first = self.ask("POST /guarded", &key);
            let again = self.ask("POST /guarded", &key);
            story.expect_once(&first, &again, self.upstream.forget(&key));
        } else {
            story.expect_passed(&self.ask("GET /open", &key));
            self.upstream.forget(&key);
        }
    }

    fn ask(&self, what: &str, key: &str) -> Answer {
        let text = format!(
            "{what} HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let back = place::asked(self.gateway.callers, text.as_bytes());
        if back.is_empty() {
            return Answer { status: NONE, message: Message::default(), is_whole: false };
        }
        let (answer, used) =
            place::answer(&back, false).unwrap_or_else(|why| panic!("{why}: {}", back.escape_ascii()));
        assert_eq!(used, back.len(), "more than an answer: {}", back.escape_ascii());
        answer
    }
}

/// What was said, and what of it is an answer.
struct Story<'a> {
    said: &'a [u8],
    meant: Option<&'a Answer>,
}

impl Story<'_> {
    fn expect_once(&self, first: &Answer, again: &Answer, executions: usize) {
        let told = format!(
            "{}\nbecame {first:?}\nand then {again:?}\nby {executions} executions",
            self.said.escape_ascii()
        );
        let words = [first.field("idempotency-status"), again.field("idempotency-status")];
        match words[0].as_str() {
            "executed" if self.is_streamed() => {
                assert!(!first.is_whole || self.is_meant(first), "{told}");
                assert!(again.status == 409 && executions == 1, "{told}");
            }
            "executed" => {
                assert!(self.is_meant(first), "{told}");
                assert!(again.is_same(first) && words[1] == "replayed" && executions == 1, "{told}");
                assert_eq!(again.field("idempotent-replayed"), "true", "{told}");
            }
            "body-not-kept" => {
                assert!(!first.is_whole || self.is_meant(first), "{told}");
                assert!(again.status == 409 && executions == 1, "{told}");
            }
            "released" => {
                let is_released = RELEASED.contains(&first.status)
                    || (first.status == 503 && !first.field("retry-after").is_empty());
                assert!(is_released && self.is_meant(first) && executions == 2, "{told}");
            }
            "unknown" => {
                assert!(matches!(first.status, 502 | 504) && first.is_whole, "{told}");
                assert!(again.status == 409 && words[1] == "unknown" && executions == 1, "{told}");
            }
            // It broke off before anything of it had gone on its way to the caller.
            "" if first.status == NONE => {
                assert!(self.meant.is_none() && again.status == 409 && executions == 1, "{told}");
            }
            _ => panic!("{told}"),
        }
    }

    fn expect_passed(&self, answer: &Answer) {
        let is_of_the_gateway =
            matches!(answer.status, 502 | 504) && answer.field("proxy-status").contains("onceway");
        let is_right = is_of_the_gateway || !answer.is_whole || self.is_meant(answer);
        assert!(is_right, "{}\nbecame {answer:?}", self.said.escape_ascii());
        // What is whole comes whole.
        let is_lost = !answer.is_whole && self.meant.is_some();
        assert!(!is_lost, "{}\nwas cut: {answer:?}", self.said.escape_ascii());
    }

    /// Whether it goes to the caller as it comes, and its body is not kept: an answer without a length that is known
    /// before it ends, of events, or a large one. One that is none may have seemed to be such a one.
    fn is_streamed(&self) -> bool {
        self.meant.is_none_or(|meant| {
            !is_framed(meant)
                || meant.message.body.len() > KEPT_MAX
                || meant.field("content-type").contains("text/event-stream")
        })
    }

    fn is_meant(&self, answer: &Answer) -> bool {
        self.meant.is_some_and(|meant| meant.is_same(answer))
    }
}

/// Whether an answer tells where it ends.
fn is_framed(answer: &Answer) -> bool {
    matches!(answer.status, 204 | 304)
        || ["content-length", "transfer-encoding"].iter().any(|name| !answer.field(name).is_empty())
}

impl Hostile {
    fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let scripts = Arc::<Mutex<HashMap<String, Script>>>::default();
        let hostile = Self(Arc::clone(&scripts));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let scripts = Arc::clone(&scripts);
                thread::spawn(move || serve(stream, &scripts));
            }
        });
        (hostile, address)
    }

    fn will_say(&self, key: &str, says: &[u8], lingers: bool) {
        let script = Script { says: says.to_vec(), lingers, asked: 0 };
        self.0.lock().expect("a lock").insert(key.to_owned(), script);
    }

    /// How often it was asked.
    fn forget(&self, key: &str) -> usize {
        self.0.lock().expect("a lock").remove(key).map_or(0, |script| script.asked)
    }
}

fn serve(mut stream: TcpStream, scripts: &Mutex<HashMap<String, Script>>) {
    let (mut ahead, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Next::Whole(request, used) = next(&ahead) {
            ahead.drain(..used);
            let key = String::from_utf8_lossy(&request.head.all("idempotency-key").concat()).into_owned();
            let script = {
                let mut scripts = scripts.lock().expect("a lock");
                scripts.get_mut(&key).map(|script| {
                    script.asked += 1;
                    (script.says.clone(), script.lingers)
                })
            };
            let Some((says, lingers)) = script else { return };
            if stream.write_all(&says).is_err() {
                return;
            }
            if !lingers {
                stream.shutdown(Shutdown::Write).ok();
            }
            continue;
        }
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => ahead.extend_from_slice(&piece[..count]),
            Ok(_) | Err(_) => return,
        }
    }
}

#[test]
fn whatever_a_hostile_upstream_said_once_is_sent_once_and_told_truly() {
    let stage = Stage::start();
    super::try_each("answers", |bytes| stage.bear(bytes));
}
