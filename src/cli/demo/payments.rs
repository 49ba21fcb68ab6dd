//! A payments API as so many are: every `POST /payments` charges the card, whatever its headers say.
//!
//! Owns the ledger that counts. Must not know idempotency keys, nor that a gateway may stand before it:
//! the demo would prove nothing otherwise. Read `story.rs` next.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a payment takes, unless its query says `slow_ms`.
const PAYMENT_TAKES: Duration = Duration::from_millis(150);
/// The longest `slow_ms` that is obeyed.
const SLOW_MAX: Duration = Duration::from_mins(1);
/// Largest accepted body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Charges kept. Beyond them nothing is charged, so that no count is ever wrong.
const CHARGES_MAX: usize = 100_000;
/// Length of a payment's name: 64 random bits, written in hexadecimal after `pay_`.
const ID_CHARS: usize = 20;
/// How many of the newest charges a listing shows.
const LISTED_MAX: usize = 100;
/// Connections served at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// How long a request's head may take.
const HEAD_TAKES_MAX: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, such as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running payments API. Dropping it stops it.
#[derive(Debug)]
pub struct Payments {
    address: SocketAddr,
    charges: Arc<Charges>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Every charge so far.
#[derive(Debug, Default)]
pub struct Charges {
    book: Mutex<Book>,
    total: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Book {
    charges: Vec<Charge>,
    by_card: HashMap<String, usize>,
}

/// One charge, as the API lists it.
#[derive(Clone, Debug, Serialize)]
struct Charge {
    id: String,
    amount: serde_json::Number,
    currency: String,
    card: String,
}

/// What a client asks for.
#[derive(Deserialize)]
struct Payment {
    amount: serde_json::Number,
    currency: String,
    card: String,
}

/// What a client is told of its payment.
#[derive(Serialize)]
struct Receipt {
    id: String,
    amount: serde_json::Number,
    /// How often the card has been charged, this payment included.
    charges: usize,
}

/// The newest charges, and how many there are in all.
#[derive(Serialize)]
struct Listing {
    total: usize,
    newest: Vec<Charge>,
}

/// What the API tells a client that asked for something wrong.
#[derive(Serialize)]
struct Refusal {
    error: &'static str,
}

/// How a payment misbehaves, when its query asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Play {
    takes: Duration,
    loses_answer: bool,
}

/// The connection is dropped where the answer should stand.
#[derive(Debug, thiserror::Error)]
#[error("answer: the request asked for its answer to be lost")]
struct AnswerLost;

type Answer = Response<Full<Bytes>>;

/// Serves the API on `listener` until the handle is stopped or dropped.
///
/// Errors: the listener has no address.
pub fn serve(listener: TcpListener) -> std::io::Result<Payments> {
    let payments = Payments {
        address: listener.local_addr()?,
        charges: Arc::default(),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let (charges, stop, tasks) = (payments.charges.clone(), payments.stop.clone(), payments.tasks.clone());
    payments.tasks.spawn(stop.clone().run_until_cancelled_owned(accept(listener, charges, stop, tasks)));
    Ok(payments)
}

impl Payments {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its ledger.
    pub fn charges(&self) -> &Charges {
        &self.charges
    }

    /// Stops it; payments under way are cut off.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Payments {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Charges {
    /// How many charges there are in all.
    pub fn total(&self) -> usize {
        *self.total.borrow()
    }

    /// How often a card was charged.
    pub fn of_card(&self, card: &str) -> usize {
        self.book().by_card.get(card).copied().unwrap_or_default()
    }

    /// Waits until there are more than `seen` charges.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn beyond(&self, seen: usize) {
        let mut total = self.total.subscribe();
        // The sender lives as long as `self`, so the wait can only end by the count.
        drop(total.wait_for(|total| *total > seen).await);
    }

    /// Charges the card. `None`: the ledger is full, and nothing was charged.
    fn charge(&self, payment: Payment) -> Option<(Charge, usize)> {
        let mut id = format!("pay_{}", uuid::Uuid::new_v4().simple());
        id.truncate(ID_CHARS);
        let Payment { amount, currency, card } = payment;
        let charge = Charge { id, amount, currency, card };
        let mut book = self.book();
        if book.charges.len() >= CHARGES_MAX {
            return None;
        }
        book.charges.push(charge.clone());
        let of_card = book.by_card.entry(charge.card.clone()).or_default();
        *of_card += 1;
        let of_card = *of_card;
        // Told before the lock is given back, so that totals never run backwards.
        self.total.send_replace(book.charges.len());
        Some((charge, of_card))
    }

    fn listing(&self) -> Listing {
        let book = self.book();
        Listing {
            total: book.charges.len(),
            newest: book.charges.iter().rev().take(LISTED_MAX).cloned().collect(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, charges: Arc<Charges>, stop: CancellationToken, tasks: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = room.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = converse(stream, charges.clone());
        let stopped = stop.clone();
        tasks.spawn(async move {
            stopped.run_until_cancelled(connection).await;
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, charges: Arc<Charges>) {
    let service = service_fn(move |request| {
        let charges = charges.clone();
        async move { answer(&charges, request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TAKES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is an everyday thing here, and the charge stands anyway.
    drop(connection.await);
}

async fn answer(charges: &Charges, request: Request<Incoming>) -> Result<Answer, AnswerLost> {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::POST, "/payments") => pay(charges, request).await,
        (&Method::GET, "/payments") => Ok(json(StatusCode::OK, &charges.listing())),
        (&Method::GET, "/health") => Ok(json(StatusCode::OK, &serde_json::json!({"ok": true}))),
        (_, "/payments" | "/health") => Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, "no such method here")),
        _ => Ok(refuse(StatusCode::NOT_FOUND, "nothing here: try /payments")),
    }
}

async fn pay(charges: &Charges, request: Request<Incoming>) -> Result<Answer, AnswerLost> {
    let play = Play::asked_by(request.uri().query().unwrap_or_default());
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return Ok(refuse(StatusCode::BAD_REQUEST, "the body is broken or too large"));
    };
    let Ok(payment) = serde_json::from_slice::<Payment>(&body.to_bytes()) else {
        return Ok(refuse(
            StatusCode::BAD_REQUEST,
            "wanted: {\"amount\": 42.00, \"currency\": \"EUR\", \"card\": \"4242\"}",
        ));
    };
    // First the charge, then the time it takes: a client that leaves meanwhile has paid.
    let Some((charge, charges)) = charges.charge(payment) else {
        return Ok(refuse(StatusCode::INSUFFICIENT_STORAGE, "the ledger is full; nothing was charged"));
    };
    tokio::time::sleep(play.takes).await;
    if play.loses_answer {
        return Err(AnswerLost);
    }
    Ok(json(StatusCode::CREATED, &Receipt { id: charge.id, amount: charge.amount, charges }))
}

impl Play {
    /// Reads `slow_ms=N` and `lose=1`; whatever else stands there is left alone.
    fn asked_by(query: &str) -> Self {
        let mut play = Self { takes: PAYMENT_TAKES, loses_answer: false };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "lose" => play.loses_answer = value == "1",
                "slow_ms" => {
                    play.takes = value.parse().map_or(PAYMENT_TAKES, Duration::from_millis).min(SLOW_MAX);
                }
                _ => {}
            }
        }
        play
    }
}

fn refuse(status: StatusCode, error: &'static str) -> Answer {
    json(status, &Refusal { error })
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // These types hold nothing that JSON cannot say; were it so, an empty body would show it.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_wishes_means_an_ordinary_payment() {
        for query in ["", "lose=0", "slow_ms=soon", "else=1"] {
            assert_eq!(Play::asked_by(query), Play { takes: PAYMENT_TAKES, loses_answer: false }, "{query}");
        }
    }

    #[test]
    fn slowness_is_bounded() {
        assert_eq!(Play::asked_by("slow_ms=5").takes, Duration::from_millis(5));
        assert_eq!(Play::asked_by("lose=1&slow_ms=999999999").takes, SLOW_MAX);
    }

    #[test]
    fn every_charge_counts_and_has_its_own_name() {
        let charges = Charges::default();
        let payment = |card: &str| Payment { amount: 7.into(), currency: "EUR".into(), card: card.into() };
        let first = charges.charge(payment("a"));
        let second = charges.charge(payment("a"));
        let other = charges.charge(payment("b"));
        let (Some((first, 1)), Some((second, 2)), Some((_, 1))) = (first, second, other) else {
            panic!("the counts are wrong");
        };
        assert_ne!(first.id, second.id);
        assert_eq!((charges.total(), charges.of_card("a")), (3, 2));
    }
}
