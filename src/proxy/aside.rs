//! What a caller over HTTP/1.1 is told beside the answer that hyper writes: interim answers before it, and trailers
//! after it that its head did not announce. hyper has no words for either.
//!
//! Must not know sockets: `../server/interposed.rs` writes what is noted here, between what hyper writes and nowhere
//! else. Over HTTP/2 hyper sends all trailers, and no interim answers. Source: RFC 9110 §15.2, RFC 9112 §7.1.2.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::{self, HeaderMap};
use http::{Request, Response, StatusCode, Version};

use super::headers;

/// What may wait to be told; interim answers beyond it are dropped.
const WAITING_BYTES_MAX: usize = 16 * 1024;

/// How hyper ends a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How hyper invites a body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What is told on one connection beside its answers.
#[derive(Clone, Debug, Default)]
pub struct Aside(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// To be written as soon as hyper holds nothing back.
    waiting: Vec<u8>,
    /// What hyper is about to write, and must not be written.
    withheld: &'static [u8],
    /// Whether `withheld` may not come at all.
    is_withheld_in_doubt: bool,
    /// Whether all that hyper had was written, and nothing since.
    is_between: bool,
    /// What the caller speaks, until it is answered.
    asked_in: Option<Version>,
    /// Which exchange on the connection this is.
    exchange: u64,
    is_ended_by_the_connection: bool,
    trailers: Trailers,
    /// Of the connection's task.
    waker: Option<Waker>,
}

/// How far unannounced trailers have come.
#[derive(Debug, Default, PartialEq, Eq)]
enum Trailers {
    #[default]
    None,
    /// To be written once all of the body is.
    Behind(Vec<u8>),
    /// Written, or waiting to be: the body may end.
    Ahead,
}

/// hyper was to write something else.
#[derive(Debug, thiserror::Error)]
#[error("write {0:?} next")]
pub struct Unforeseen(&'static str);

impl Aside {
    /// Begins an exchange: from here to [`Aside::answered`], interim answers are told.
    pub(super) fn begin<B>(&self, request: &Request<B>) {
        let mut state = self.state();
        state.exchange += 1;
        state.asked_in = Some(request.version());
        // RFC 9110 §15.2: nobody who speaks HTTP/1.0 knows interim answers, and hyper invites all the same.
        if request.version() == Version::HTTP_10 && request.headers().contains_key(header::EXPECT) {
            (state.withheld, state.is_withheld_in_doubt) = (CONTINUE, true);
        }
    }

    /// Which exchange is under way.
    pub(super) fn exchange(&self) -> u64 {
        self.state().exchange
    }

    /// Passes an interim answer on (RFC 9110 §15.2: a proxy must, unless it asked for it itself). One to an exchange
    /// that was given up is not told to whoever asks next on the connection.
    pub(super) fn interim(&self, exchange: u64, status: StatusCode, fields: &HeaderMap, version: Version) {
        let mut state = self.state();
        let is_awaited = state.exchange == exchange && state.asked_in == Some(Version::HTTP_11);
        if !is_awaited || status == StatusCode::CONTINUE {
            return;
        }
        let mut message = Vec::new();
        message.extend_from_slice(b"HTTP/1.1 ");
        message.extend_from_slice(status.as_str().as_bytes());
        message.push(b' ');
        message.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        message.extend_from_slice(b"\r\n");
        write_lines(&mut message, &headers::of_interim(fields, version));
        if state.waiting.len() + message.len() <= WAITING_BYTES_MAX {
            state.waiting.extend_from_slice(&message);
            state.wake();
        }
    }

    /// The answer begins: what could not be told before it is not told any more.
    pub(super) fn answered<B>(&self, response: &Response<B>) {
        let mut state = self.state();
        state.is_ended_by_the_connection = state.asked_in == Some(Version::HTTP_10)
            && !response.headers().contains_key(header::CONTENT_LENGTH);
        state.asked_in = None;
        if !state.is_between {
            state.waiting.clear();
        }
    }

    /// Whether nothing but the end of the connection tells where the answer ends.
    pub fn is_ended_by_the_connection(&self) -> bool {
        self.state().is_ended_by_the_connection
    }

    /// Ends a chunked body with these trailers. Ready once the body may end.
    pub(super) fn poll_end_with(&self, trailers: &HeaderMap, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        match state.trailers {
            Trailers::None => {
                let mut end = b"0\r\n".to_vec();
                write_lines(&mut end, trailers);
                state.trailers = Trailers::Behind(end);
            }
            Trailers::Behind(_) => {}
            Trailers::Ahead => {
                state.trailers = Trailers::None;
                return Poll::Ready(());
            }
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// hyper holds nothing back: what is to be written now. `cx`: of the connection's task, woken when there is
    /// more.
    pub fn between(&self, cx: &Context<'_>) -> Vec<u8> {
        let mut state = self.state();
        state.is_between = true;
        if let Trailers::Behind(end) = &mut state.trailers {
            let end = std::mem::take(end);
            state.waiting.extend_from_slice(&end);
            (state.withheld, state.is_withheld_in_doubt) = (LAST_CHUNK, false);
            state.trailers = Trailers::Ahead;
            cx.waker().wake_by_ref();
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut state.waiting)
    }

    /// hyper writes: what is to be written first.
    pub fn before_more(&self) -> Vec<u8> {
        let mut state = self.state();
        if state.is_between { std::mem::take(&mut state.waiting) } else { Vec::new() }
    }

    /// How much of what hyper writes is not to be written.
    ///
    /// Errors: hyper writes something else, and nobody would understand it here.
    pub fn withhold(&self, bytes: &[u8]) -> Result<usize, Unforeseen> {
        let mut state = self.state();
        if state.withheld.is_empty() {
            return Ok(0);
        }
        let length = state.withheld.len().min(bytes.len());
        let (now, later) = state.withheld.split_at(length);
        if bytes.starts_with(now) {
            state.withheld = later;
            return Ok(length);
        }
        let is_in_doubt = std::mem::take(&mut state.is_withheld_in_doubt);
        state.withheld = &[];
        if is_in_doubt { Ok(0) } else { Err(Unforeseen("the last chunk")) }
    }

    /// Something of what hyper writes was written.
    pub fn wrote(&self) {
        self.state().is_between = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

fn write_lines(message: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        message.extend_from_slice(name.as_str().as_bytes());
        message.extend_from_slice(b": ");
        message.extend_from_slice(value.as_bytes());
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_answer_is_told_to_nobody_but_whom_it_is_for() {
        let (aside, fields) = (Aside::default(), HeaderMap::new());
        let cx = Context::from_waker(Waker::noop());
        let told = |exchange| {
            aside.interim(exchange, StatusCode::EARLY_HINTS, &fields, Version::HTTP_11);
            String::from_utf8(aside.between(&cx)).unwrap()
        };
        aside.begin(&Request::new(()));
        let first = aside.exchange();
        assert!(told(first).starts_with("HTTP/1.1 103 "));
        aside.answered(&Response::new(()));
        aside.begin(&Request::new(()));
        assert_eq!(told(first), "");
        assert!(told(aside.exchange()).starts_with("HTTP/1.1 103 "));
    }
}
