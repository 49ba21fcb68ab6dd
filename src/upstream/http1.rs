//! One connection to a server over HTTP/1.1.
//!
//! hyper parses and writes; before it reads, `http1/answers.rs` has looked at every byte. Must not know what is asked,
//! nor which connection is taken (`pool.rs`).

mod answers;
mod chunks;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::RequestBody;
use super::connect::Transport;
use super::connection::{Link, Start};
use super::failure::{Broken, Doubted, NotSent, SendError, Undelivered, of_http1};
use super::progress::Progress;
pub(super) use answers::HEAD_LEN_MAX;
use answers::{Answers, Asked, Sight, UNASKED};

/// A connection that one request travels on at a time.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: SendRequest<RequestBody>,
    link: Link,
    expected: Expected,
}

impl Http1 {
    /// Speaks HTTP/1.1 on a new connection.
    pub(super) async fn open(transport: Transport) -> Result<Self, SendError> {
        let (link, expected) = (transport.link().clone(), Expected::default());
        let heard = Heard { transport, answers: Answers::new(), expected: expected.clone(), ended: None };
        let opened = Builder::new().max_headers(answers::FIELDS_MAX).handshake(TokioIo::new(heard)).await;
        let (sender, connection) =
            opened.map_err(|error| SendError::NotSent(NotSent::Connect, error.into()))?;
        // A failure reaches whoever has asked; nobody else wants to know.
        TokioExecutor::new().execute(async move { drop(connection.with_upgrades().await) });
        Ok(Self { sender, link, expected })
    }

    /// Whether a request can be given to it now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.link.is_refused()
    }

    /// Completes when it is known whether another request can be given to it; answers that.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok() && self.is_ready()
    }

    /// Ends the connection.
    pub(super) fn cut(&self) {
        self.link.cut();
    }

    /// Sends a request; the connection goes on in the answer's body.
    ///
    /// Cancel safety: dropping the future closes the connection; the request may have left.
    pub(super) async fn send(
        mut self,
        mut request: Box<Request<RequestBody>>,
        authority: &Authority,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Option<Self>), Undelivered> {
        let start = Start::of(progress);
        prepare(&mut request, authority);
        let asked = Asked {
            is_head: request.method() == Method::HEAD,
            offers_upgrade: request.headers().contains_key(header::UPGRADE),
        };
        self.expected.set(asked, &start);
        self.link.announce(&start);
        progress.connected();
        let mut travelling = CutOnDrop(Some(&self.link));
        let sent = self.sender.try_send_request(*request).await;
        travelling.0 = None;
        drop(travelling);
        match sent {
            Ok(mut response) => {
                // Its body is broken already, while nothing of it has gone to the caller.
                if let Some(reason) = self.link.doubted() {
                    return Err(SendError::Unknown(Broken::Malformed, Doubted(reason).into()).into());
                }
                // RFC 9110 §8.6: there is no body that it could be the length of.
                if response.status() == StatusCode::NO_CONTENT {
                    response.headers_mut().remove(header::CONTENT_LENGTH);
                }
                let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                // RFC 9110 §9.3.2: no body follows. Some servers send one all the same, and it would be taken for the
                // answer to the next request.
                let may_send_a_body = asked.is_head && tells_of_a_body(&response);
                Ok((response, (!is_switched && !may_send_a_body).then_some(self)))
            }
            Err(mut error) => {
                let request = error.take_message().map(Box::new);
                let error = error.into_error();
                if request.is_some() {
                    self.link.refuse();
                    let error = SendError::NotSent(NotSent::ConnectionDead, error.into());
                    return Err(Undelivered { error, request });
                }
                Err(of_http1(error, &start, &self.link).into())
            }
        }
    }
}

fn tells_of_a_body(response: &Response<Incoming>) -> bool {
    let fields = response.headers();
    fields.contains_key(header::TRANSFER_ENCODING)
        || fields.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// Puts a request into the form of this connection: RFC 9112 §3.2.1 for its target, §3.2 for `Host`.
fn prepare(request: &mut Request<RequestBody>, authority: &Authority) {
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = http::Version::HTTP_11;
    let fields = request.headers_mut();
    if !fields.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        fields.insert(header::HOST, host);
    }
}

/// Ends the connection of a request that is given up before its answer: hyper alone would keep it for as long as
/// the peer neither reads nor closes.
struct CutOnDrop<'a>(Option<&'a Link>);

impl Drop for CutOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.cut();
        }
    }
}

/// The question whose answer comes next.
#[derive(Clone, Debug, Default)]
struct Expected(Arc<Mutex<Option<(Asked, Start)>>>);

impl Expected {
    fn set(&self, asked: Asked, start: &Start) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, start.clone()));
    }

    /// What was asked, once a byte of it was written.
    fn take(&self) -> Option<Asked> {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expected.take_if(|(_, start)| start.is_written()).map(|(asked, _)| asked)
    }
}

/// A connection whose answers are looked over as they are read.
#[derive(Debug)]
struct Heard {
    transport: Transport,
    answers: Answers,
    expected: Expected,
    /// Nothing after a doubtful byte is read.
    ended: Option<&'static str>,
}

impl Heard {
    fn end(&mut self, reason: &'static str) -> io::Error {
        let link = self.transport.link();
        if reason != UNASKED {
            link.doubt(reason);
        }
        link.refuse();
        self.ended = Some(reason);
        io::Error::new(io::ErrorKind::InvalidData, Doubted(reason))
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(reason) = this.ended {
            return Poll::Ready(Err(this.end(reason)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if this.answers.is_at_rest()
            && let Some(asked) = this.expected.take()
        {
            this.answers.expect(asked);
        }
        match this.answers.look(read) {
            Sight::Clear => Poll::Ready(Ok(())),
            Sight::Doubt { reason, clear } => {
                let error = this.end(reason);
                buf.set_filled(before + clear);
                if clear == 0 { Poll::Ready(Err(error)) } else { Poll::Ready(Ok(())) }
            }
        }
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
