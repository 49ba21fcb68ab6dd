//! One request over HTTP/2, and its answer: the body is sent while the answer is awaited and read.
//!
//! An answer's head does not wait for the end of the request's body, nor the other way round: so streams in both
//! directions pass. Must not know other streams. Source: RFC 9113 §8.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::{Authority, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Ticket;
use crate::upstream::body::RequestBody;
use crate::upstream::connection::Start;
use crate::upstream::failure::{Broken, Doubted, NotSent, SendError, Undelivered, of_http2};
use crate::upstream::progress::Progress;

/// Interim answers (1xx) before the final one.
const INTERIM_MAX: usize = 16;

/// Room that is asked for at once for a body under way.
const PIECE_LEN_MAX: usize = 64 * 1024;

/// The body of an answer over HTTP/2.
#[derive(Debug)]
pub(in crate::upstream) struct Answer {
    stream: RecvStream,
    at: At,
    /// What is left of the length that was declared.
    declared: Option<u64>,
    /// Ends the sending of the request's body, if it still goes on, when the answer has been read or is let go.
    _sending: Option<DropGuard>,
    _ticket: Ticket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Data,
    Trailers,
    End,
}

impl Ticket {
    /// Sends a request whose target is a path.
    ///
    /// Cancel safety: dropping the future ends the stream; the request may have left.
    pub(in crate::upstream) async fn send(
        mut self,
        request: Box<Request<RequestBody>>,
        scheme: &Scheme,
        authority: &Authority,
        progress: &Progress,
    ) -> Result<Response<Answer>, Undelivered> {
        let head = head_of(&request, scheme, authority)
            .map_err(|error| SendError::NotSent(NotSent::Connect, error.into()))?;
        let ends = request.body().is_end_stream();
        let (mut answer, stream) = match self.sender.send_request(head, ends) {
            Ok(opened) => opened,
            Err(error) => {
                let cause = if error.is_io() || error.is_go_away() {
                    NotSent::ConnectionDead
                } else {
                    NotSent::Connect
                };
                let error = SendError::NotSent(cause, error.into());
                return Err(Undelivered { error, request: Some(request) });
            }
        };
        let start = Start::of(progress);
        self.state.opening.push(stream.stream_id().as_u32(), &start);
        progress.connected();
        let sending = (!ends).then(|| Sending::begin(request.into_body(), stream, progress));
        let mut waiting = Waiting(Some(&self));
        let answered = final_answer(&mut answer).await;
        waiting.0 = None;
        drop(waiting);
        let link = &self.state.link;
        let (parts, stream) = match answered {
            Some(Ok(response)) => response.into_parts(),
            Some(Err(error)) => {
                let is_callers = sending.is_some_and(|sending| sending.is_broken());
                return Err(of_http2(error, &start, link, is_callers).into());
            }
            None => {
                let doubt = Doubted("too many interim answers");
                return Err(SendError::Unknown(Broken::Malformed, doubt.into()).into());
            }
        };
        let mut response = Response::from_parts(parts, ());
        let declared = settle(&mut response)?;
        let answer = Answer {
            stream,
            at: At::Data,
            declared,
            _sending: sending.map(|sending| sending.guard),
            _ticket: self,
        };
        Ok(response.map(|()| answer))
    }
}

/// Asks the connection whether it lives when a request on it is given up unanswered.
struct Waiting<'a>(Option<&'a Ticket>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.0 {
            ticket.state.is_suspect.notify_one();
        }
    }
}

/// The final answer; `None` after too many interim ones.
async fn final_answer(answer: &mut ResponseFuture) -> Option<Result<Response<RecvStream>, h2::Error>> {
    for _ in 0..=INTERIM_MAX {
        match poll_fn(|cx| answer.poll_informational(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(Err(error)),
            None => return Some(answer.await),
        }
    }
    None
}

/// The head of a request in the form of this connection: RFC 9113 §8.3.1 for the pseudo-fields, of which the host that
/// the caller named becomes one, and §8.2.2 for the fields that are of HTTP/1.1 alone.
fn head_of(
    request: &Request<RequestBody>,
    scheme: &Scheme,
    authority: &Authority,
) -> Result<Request<()>, http::Error> {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut target =
        Uri::builder().scheme(scheme.clone()).authority(host.unwrap_or_else(|| authority.clone()));
    if let Some(path) = request.uri().path_and_query() {
        target = target.path_and_query(path.clone());
    }
    let mut head = Request::new(());
    *head.uri_mut() = target.build()?;
    *head.method_mut() = request.method().clone();
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = fields_of(request.headers());
    let length = request.body().size_hint().exact();
    if let Some(length) = length.filter(|length| *length > 0 || has_body_by_nature(request.method())) {
        head.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    Ok(head)
}

fn fields_of(fields: &HeaderMap) -> HeaderMap {
    let mut kept = fields.clone();
    for name in [
        header::HOST,
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("http2-settings"),
    ] {
        kept.remove(name);
    }
    let only_trailers = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
    if !kept.get_all(header::TE).iter().all(only_trailers) {
        kept.remove(header::TE);
    }
    kept
}

/// RFC 9110 §8.6: methods whose requests say so when their body is empty.
fn has_body_by_nature(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Takes the declared length, which must be one number (RFC 9110 §8.6). h2 holds the body to it.
fn settle(response: &mut Response<()>) -> Result<Option<u64>, SendError> {
    let mut lengths = response.headers().get_all(header::CONTENT_LENGTH).iter();
    let declared = lengths.next().map(|length| {
        let text = length.to_str().ok()?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    });
    let declared = match (declared, lengths.next()) {
        (Some(None), _) | (_, Some(_)) => {
            let doubt = Doubted("Content-Length is not one number");
            return Err(SendError::Unknown(Broken::Malformed, doubt.into()));
        }
        (declared, None) => declared.flatten(),
    };
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    Ok(declared)
}

impl Answer {
    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.at == At::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Room is made as the reader takes what has come.
                    self.stream.flow_control().release_capacity(data.len())?;
                    let taken = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.declared = self.declared.map(|left| left.saturating_sub(taken));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // Whatever the reason, what was cut short is not whole.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.at = At::Trailers,
            }
        }
        if self.at == At::Trailers {
            let trailers = ready!(self.stream.poll_trailers(cx))?;
            self.at = At::End;
            if let Some(fields) = trailers {
                return Poll::Ready(Some(Ok(Frame::trailers(fields))));
            }
        }
        Poll::Ready(None)
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.at == At::End || self.stream.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A request's body under way. Dropping it ends the sending.
struct Sending {
    guard: DropGuard,
    is_broken: Arc<AtomicBool>,
}

impl Sending {
    /// Sends a body, as far as the server makes room for it, and in a task of its own what does not go at once.
    fn begin(mut body: RequestBody, mut stream: SendStream<Bytes>, progress: &Progress) -> Self {
        let (token, is_broken) = (CancellationToken::new(), Arc::<AtomicBool>::default());
        let sending = Self { guard: token.clone().drop_guard(), is_broken: Arc::clone(&is_broken) };
        if let Some(data) = body.take_small(PIECE_LEN_MAX) {
            progress.moved();
            // A stream that has ended tells its answer why.
            drop(stream.send_data(data, true));
            return sending;
        }
        let progress = progress.clone();
        TokioExecutor::new().execute(async move {
            token.run_until_cancelled_owned(carry(body, stream, is_broken, progress)).await;
        });
        sending
    }

    fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }
}

async fn carry(
    mut body: RequestBody,
    mut stream: SendStream<Bytes>,
    is_broken: Arc<AtomicBool>,
    progress: Progress,
) {
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            // The server wants no more of it: its answer tells why.
            Poll::Pending => stream.poll_reset(cx).map(|_| None),
        });
        let Some(frame) = frame.await else { return };
        let sent = match frame.map(|frame| frame.map(Frame::into_data)) {
            None => stream.send_data(Bytes::new(), true).is_ok(),
            Some(Ok(Ok(data))) => {
                let is_last = body.is_end_stream();
                let is_sent = send(&mut stream, data, is_last, &progress).await;
                if is_last || !is_sent {
                    return;
                }
                continue;
            }
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                Ok(trailers) => stream.send_trailers(trailers).is_ok(),
                Err(_) => continue,
            },
            Some(Err(_)) => {
                is_broken.store(true, Ordering::Release);
                stream.send_reset(Reason::CANCEL);
                false
            }
        };
        if sent {
            progress.moved();
        }
        return;
    }
}

/// Sends a piece as the server makes room for it; answers whether the stream is still open.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, is_last: bool, progress: &Progress) -> bool {
    if data.is_empty() && is_last {
        return stream.send_data(data, true).is_ok();
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(PIECE_LEN_MAX));
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        let piece = data.split_to(room.min(data.len()));
        if piece.is_empty() {
            continue;
        }
        progress.moved();
        if stream.send_data(piece, is_last && data.is_empty()).is_err() {
            return false;
        }
    }
    true
}
