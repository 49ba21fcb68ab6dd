//! What stands behind the gateways: a service that does what it is asked each time it is asked, and remembers it.
//!
//! Its answers name the run that they are of. It answers soon, late or never, whole or in part, or breaks off, as the
//! weather says. Must not know what gateways make of it.

use bytes::Bytes;

use super::carriage::What;
use super::message::{Answer, Framing, Received, Request, answer, field, read_request};
use super::process::Moment;
use super::truth::{Done, Key, ROUTES, Run, SCOPES};
use super::world::{Event, World};
use crate::net::simulated::Number;

/// A body of this size is kept; one of three times as much is not.
const KEPT_MAX: usize = 1024;

/// What takes less than this is in time for a gateway.
const PROMPT: Moment = 1_400;

/// How a service answers one request.
pub(super) struct Plan {
    bytes: Vec<u8>,
    /// Where the answer breaks off, and whether by a reset.
    cut: Option<(usize, bool)>,
    closes: bool,
    /// How long it pauses in the middle.
    pause: Moment,
    has_begun: bool,
}

/// What a service makes of a request.
struct Intent {
    done: Done,
    status: u16,
    body: usize,
    framing: Framing,
    fields: Vec<(String, String)>,
}

impl World {
    /// Bytes, or an end, have come to the service.
    pub(super) fn service_hears(&mut self, number: Number, is_end: bool) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if is_end {
            connection.is_over = true;
        }
        if connection.is_over || connection.is_busy {
            return;
        }
        match read_request(&connection.received) {
            Received::Part => {}
            Received::Broken => self.truth.faults.push("a gateway sent what is no request".to_owned()),
            Received::Whole(request, length) => {
                connection.received.drain(..length);
                connection.is_busy = true;
                self.work(number, &request);
            }
        }
    }

    fn work(&mut self, number: Number, request: &Request) {
        let Some((key, payload)) = asked(request) else {
            self.truth.faults.push(format!("a request came that nobody sent: {request:?}"));
            return;
        };
        let intent = self.intend(key);
        let run = self.truth.runs.len();
        let mut fields = vec![
            ("x-run".to_owned(), run.to_string()),
            ("content-type".to_owned(), "application/json".to_owned()),
            ("x-twice".to_owned(), "one".to_owned()),
            ("x-twice".to_owned(), format!("two-{run}")),
        ];
        fields.extend(intent.fields);
        let mut body =
            format!("{{\"run\":{run},\"for\":\"{}\",\"payload\":{payload}}}", SCOPES[key.scope]).into_bytes();
        if body.len() < intent.body {
            body.resize(intent.body, b'.');
        }
        let given = Answer { status: intent.status, fields, body };
        let is_kept_whole = given.body.len() <= KEPT_MAX && intent.framing != Framing::Close;
        let plan = self.plan(&given, intent.framing);
        let breaks_at_once =
            plan.as_ref().is_some_and(|(_, plan)| plan.cut.is_some_and(|(length, _)| length == 0));
        // Whether it did anything before it broke the connection off, the gateway cannot know.
        let done = if breaks_at_once && self.random.bool() { Done::Dropped } else { intent.done };
        self.say(format_args!(
            "run {run} of {key:?}, payload {payload}: {done:?}, {}, whole {is_kept_whole}",
            given.status
        ));
        let says = !(given.status == 500 && key.doubts());
        let is_plain =
            says && plan.as_ref().is_some_and(|(delay, plan)| *delay < PROMPT && plan.cut.is_none());
        self.truth.ran(Run { key, payload, done, answer: given, is_kept_whole, is_plain });
        let Some((delay, plan)) = plan else { return };
        self.put(self.now + delay, Event::Serve { connection: number, plan: Box::new(plan) });
    }

    fn intend(&mut self, key: Key) -> Intent {
        let plain = Intent {
            done: Done::Executed,
            status: 201,
            body: 0,
            framing: Framing::Length,
            fields: Vec::new(),
        };
        if self.weather.is_healed || !self.chance(self.weather.mischief) {
            return plain;
        }
        // A release by one who has lost its claim meanwhile is what is to be seen.
        if key.retries() && self.chance(300) {
            return Intent { done: Done::Refused, status: 429, ..plain };
        }
        let retry_after = vec![("retry-after".to_owned(), "1".to_owned())];
        match self.random.u32(..12) {
            0 | 1 => Intent { body: 3 * KEPT_MAX, ..plain },
            2 => Intent { framing: Framing::Close, ..plain },
            3 => Intent { framing: Framing::Chunked, body: 700, ..plain },
            4 => Intent { status: 402, ..plain },
            // Where such an answer frees the key, by the word of whoever configured it, nothing was done.
            5 if key.releases() => Intent { done: Done::Refused, status: 500, ..plain },
            5 => Intent { status: 500, ..plain },
            6 => Intent { done: Done::Refused, status: 429, ..plain },
            7 => Intent { done: Done::Refused, status: 503, fields: retry_after, ..plain },
            8 => Intent { framing: Framing::Chunked, body: 3 * KEPT_MAX, ..plain },
            _ => plain,
        }
    }

    /// How an answer is given, and how long after the request; `None`: never.
    fn plan(&mut self, given: &Answer, framing: Framing) -> Option<(Moment, Plan)> {
        let mut closes = framing == Framing::Close;
        let mut bytes = Vec::new();
        if !self.weather.is_healed && self.chance(60) {
            bytes.extend(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        }
        closes |= self.chance(100);
        bytes.extend(answer(given, framing, closes));
        let quick = self.random.u64(1..60);
        let mut plan = Plan { bytes, cut: None, closes, pause: 0, has_begun: false };
        if self.weather.is_healed {
            return Some((quick, plan));
        }
        let length = plan.bytes.len();
        // An answer that ends with its connection and is cut in order looks whole: that is told apart by nobody.
        let least = if framing == Framing::Close { 1 } else { 2 };
        let delay = match self.random.u32(..10) {
            0 | 1 => self.random.u64(60..PROMPT),
            2 if self.chance(self.weather.mischief) => self.random.u64(PROMPT..4_000),
            3 if self.chance(self.weather.mischief / 2) => return None,
            4 if self.chance(self.weather.mischief) => {
                plan.cut = Some((0, self.random.bool()));
                quick
            }
            5 if self.chance(self.weather.mischief) => {
                plan.cut = Some((self.random.usize(1..length), least == 1 || self.random.bool()));
                quick
            }
            6 => {
                plan.pause = self.random.u64(1..900);
                quick
            }
            _ => quick,
        };
        Some((delay, plan))
    }

    /// The service goes on with an answer.
    pub(super) fn serve(&mut self, number: Number, mut plan: Plan) {
        let Some(connection) = self.connections.get(&number) else { return };
        if connection.is_over {
            return;
        }
        if let Some((length, _)) = plan.cut {
            plan.bytes.truncate(length);
        }
        if plan.pause > 0 && !plan.has_begun {
            let rest = plan.bytes.split_off(self.random.usize(..=plan.bytes.len()));
            let first = Bytes::from(std::mem::replace(&mut plan.bytes, rest));
            self.send_to_gateway(number, What::Bytes(first));
            plan.has_begun = true;
            return self
                .put(self.now + plan.pause, Event::Serve { connection: number, plan: Box::new(plan) });
        }
        self.send_to_gateway(number, What::Bytes(Bytes::from(plan.bytes)));
        if let Some((_, is_reset)) = plan.cut {
            self.send_to_gateway(number, if is_reset { What::Reset } else { What::Finish });
        } else if plan.closes {
            self.send_to_gateway(number, What::Finish);
        }
        let connection = self.connections.get_mut(&number).unwrap();
        connection.is_busy = false;
        connection.is_over = plan.closes || plan.cut.is_some();
        // The next request may have come while the last bytes of this answer were on their way.
        self.service_hears(number, false);
    }
}

/// Whose request it is, by its fields and body.
fn asked(request: &Request) -> Option<(Key, usize)> {
    let scope = field(&request.fields, "authorization")?;
    let scope = SCOPES.iter().position(|known| *known == scope)?;
    let route = ROUTES.iter().position(|known| *known == request.path)?;
    let key = field(&request.fields, "idempotency-key")?.strip_prefix("key-")?;
    let number = key.split_once('-')?.1.parse().ok()?;
    let payload = std::str::from_utf8(&request.body).ok()?.strip_prefix("{\"pay\":")?;
    let payload = payload.trim_end_matches([' ', '}']).parse().ok()?;
    Some((Key { route, scope, number }, payload))
}
