//! The network of one simulated process: pipes in the place of sockets, whose other ends the world of
//! `../simulation/` holds.
//!
//! What the process does on its pipes is put down at its [`Port`] in the order in which it happens; what comes for it is
//! put into the pipes by the world. Nothing here takes time, loses or delays anything: that is the world's part. Must not
//! know what is sent.
//!
//! Longer than 400 lines: a pipe, and whatever this house asks of a socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

thread_local! {
    static HERE: RefCell<Option<Arc<Port>>> = const { RefCell::new(None) };
}

/// Bytes that a process may have written and its peer not taken.
const WINDOW: usize = 64 * 1024;

/// Which connection, in the whole world.
pub(crate) type Number = u64;

/// What a process did on its network.
#[derive(Debug)]
pub(crate) enum Act {
    /// Asks for a connection; it is made or refused through the pipe.
    Connect { pipe: Arc<Pipe> },
    /// Wrote to a connection.
    Write { number: Number, bytes: Bytes },
    /// Writes no more to it.
    Finish { number: Number },
    /// Has closed it; with what it did not read, or by its will, it is reset.
    Close { number: Number, is_reset: bool },
}

/// One process's network card.
#[derive(Debug, Default)]
pub(crate) struct Port {
    state: Mutex<PortState>,
}

#[derive(Debug, Default)]
struct PortState {
    acts: Vec<Act>,
    /// Set when the process has done anything that the world should look at.
    has_acted: bool,
    /// The process is dead: what its memory still does while it is given back happens nowhere.
    is_dead: bool,
    connections: u64,
    number: u64,
}

/// The process's end of a connection, and what the world has put into it.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) number: Number,
    state: Mutex<PipeState>,
}

#[derive(Debug, Default)]
struct PipeState {
    inbox: VecDeque<Bytes>,
    is_connected: bool,
    is_ended: bool,
    is_reset: bool,
    untaken: usize,
    wakers: Vec<Waker>,
}

/// A connection's bytes, both ways.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// In the simulated network.
    Simulated(End),
}

/// A process's end of a connection, held. Dropping it closes the connection.
#[derive(Debug)]
pub struct End {
    pipe: Arc<Pipe>,
    port: Arc<Port>,
    is_reset_on_drop: AtomicBool,
}

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// In the simulated network.
    Simulated(tokio::sync::Mutex<mpsc::UnboundedReceiver<(Stream, SocketAddr)>>),
}

impl Port {
    /// A port whose connections are numbered so that no other's are.
    pub(crate) fn numbered(number: u64) -> Arc<Self> {
        let state = PortState { number, ..PortState::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// What is run on this thread from now on is run by the process at this port, or by none.
    pub(crate) fn run_by(port: Option<&Arc<Self>>) {
        HERE.with_borrow_mut(|here| *here = port.cloned());
    }

    /// Says that the process has done something, on its network or elsewhere.
    pub(crate) fn act(&self) {
        self.state().has_acted = true;
    }

    /// Whether it has since the last time that its acts were taken.
    pub(crate) fn has_acted(&self) -> bool {
        self.state().has_acted
    }

    /// What the process has done since it was asked last, in order.
    pub(crate) fn take_acts(&self) -> Vec<Act> {
        let mut state = self.state();
        state.has_acted = false;
        std::mem::take(&mut state.acts)
    }

    /// From now on nothing that the process does happens.
    pub(crate) fn die(&self) {
        self.state().is_dead = true;
    }

    /// Whether the process is dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// A pipe of the process that nobody has connected.
    pub(crate) fn pipe(&self) -> Arc<Pipe> {
        let mut state = self.state();
        state.connections += 1;
        let number = (state.number << 32) | state.connections;
        Arc::new(Pipe { number, state: Mutex::default() })
    }

    fn put_down(&self, act: Act) {
        let mut state = self.state();
        if !state.is_dead {
            state.acts.push(act);
            state.has_acted = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, PortState> {
        self.state.lock().unwrap()
    }
}

/// A connection to a service in the network of the process that runs, whichever it is; `None` if none is simulated here.
pub(crate) fn connect() -> Option<impl Future<Output = io::Result<Stream>> + Send + use<>> {
    let port = HERE.with_borrow(Option::clone)?;
    let pipe = port.pipe();
    let end = End::of(&pipe, &port);
    port.put_down(Act::Connect { pipe });
    Some(async move {
        std::future::poll_fn(|cx| end.pipe.poll_connected(cx)).await?;
        Ok(Stream::Simulated(end))
    })
}

impl Pipe {
    /// The process's end of a connection that was made to it.
    pub(crate) fn end_at(self: &Arc<Self>, port: &Arc<Port>) -> End {
        self.connected();
        End::of(self, port)
    }

    /// The connection is made.
    pub(crate) fn connected(&self) {
        self.change(|state| state.is_connected = true);
    }

    /// Bytes come for the process.
    pub(crate) fn deliver(&self, bytes: Bytes) {
        self.change(|state| {
            if !state.is_reset && !bytes.is_empty() {
                state.inbox.push_back(bytes);
            }
        });
    }

    /// The peer writes no more.
    pub(crate) fn finish(&self) {
        self.change(|state| state.is_ended = true);
    }

    /// The connection is reset: what was not read is lost (RFC 9293 §3.5.3).
    pub(crate) fn reset(&self) {
        self.change(|state| {
            state.is_reset = true;
            state.inbox.clear();
        });
    }

    /// The peer has taken so many bytes.
    pub(crate) fn taken(&self, bytes: usize) {
        self.change(|state| state.untaken = state.untaken.saturating_sub(bytes));
    }

    fn change(&self, change: impl FnOnce(&mut PipeState)) {
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        if state.is_connected {
            return Poll::Ready(Ok(()));
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.is_reset || state.is_ended || !state.inbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap()
    }
}

impl End {
    fn of(pipe: &Arc<Pipe>, port: &Arc<Port>) -> Self {
        Self { pipe: Arc::clone(pipe), port: Arc::clone(port), is_reset_on_drop: AtomicBool::new(false) }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pipe.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        let mut state = self.pipe.state();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        while let Some(mut bytes) = state.inbox.pop_front() {
            let count = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..count]);
            bytes.advance(count);
            if !bytes.is_empty() {
                state.inbox.push_front(bytes);
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.pipe.state();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(WINDOW.saturating_sub(state.untaken));
        if count == 0 && !bytes.is_empty() {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        state.untaken += count;
        drop(state);
        let bytes = Bytes::copy_from_slice(&bytes[..count]);
        self.port.put_down(Act::Write { number: self.pipe.number, bytes });
        Poll::Ready(Ok(count))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let state = self.pipe.state();
        let is_reset = self.is_reset_on_drop.load(Ordering::Relaxed) || !state.inbox.is_empty();
        drop(state);
        self.port.put_down(Act::Close { number: self.pipe.number, is_reset });
    }
}

impl Stream {
    /// As [`TcpStream::set_nodelay`].
    pub(crate) fn set_nodelay(&self, is_on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(is_on),
            Self::Simulated(_) => Ok(()),
        }
    }

    /// As [`TcpStream::peek`]. No simulated connection is asked: neither TLS nor PROXY headers are simulated.
    pub(crate) async fn peek(&self, ahead: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(ahead).await,
            Self::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// As [`TcpStream::try_write`].
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Simulated(end) => match end.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                Poll::Ready(written) => written,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }

    /// As [`TcpStream::poll_read_ready`].
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Simulated(end) => end.pipe.poll_readable(cx),
        }
    }

    /// As [`TcpStream::take_error`].
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Simulated(end) => {
                Ok(end.pipe.state().is_reset.then(|| io::ErrorKind::ConnectionReset.into()))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Simulated(end) => end.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Simulated(end) => end.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Simulated(end) => {
                let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
                end.poll_write(cx, &bytes)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Simulated(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Simulated(end) => {
                let is_reset = end.pipe.state().is_reset;
                end.port.put_down(Act::Finish { number: end.pipe.number });
                Poll::Ready(if is_reset { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) })
            }
        }
    }
}

impl Listener {
    /// Takes connections from a socket that listens, in the runtime this is called in.
    pub(crate) fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// Takes connections that the world makes.
    pub(crate) fn simulated(arriving: mpsc::UnboundedReceiver<(Stream, SocketAddr)>) -> Self {
        Self::Simulated(tokio::sync::Mutex::new(arriving))
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| (Stream::Tcp(stream), peer)),
            Self::Simulated(arriving) => match arriving.lock().await.recv().await {
                Some(arrived) => Ok(arrived),
                None => std::future::pending().await,
            },
        }
    }

    /// From now on no more than `max` may wait; in a simulated network all may.
    pub(crate) fn limit_line(&self, max: i32) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => super::limit_line_of(listener, max),
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Answers, each time it is called, the next connection that nobody has accepted.
    pub(crate) fn into_waiting(self) -> io::Result<Waiting> {
        Ok(match self {
            Self::Tcp(listener) => {
                let mut waiting = super::waiting_at(listener)?;
                Box::new(move || waiting().map(|(stream, peer)| (Stream::Tcp(stream), peer)))
            }
            Self::Simulated(arriving) => {
                let mut arriving = arriving.into_inner();
                Box::new(move || arriving.try_recv().map_err(|_none| io::ErrorKind::WouldBlock.into()))
            }
        })
    }
}

/// Answers each time the next connection that nobody has accepted.
pub(crate) type Waiting = Box<dyn FnMut() -> io::Result<(Stream, SocketAddr)>>;

/// Puts a stream that was connected by other means into the form of this house.
pub(crate) fn of_tcp(stream: TcpStream) -> Stream {
    Stream::Tcp(stream)
}

/// Whether the peer has sent anything that was not read yet. `None`: it has ended, or broken off.
pub(crate) fn has_unread(stream: &Stream) -> Option<bool> {
    match stream {
        Stream::Tcp(stream) => super::has_unread_in(stream),
        Stream::Simulated(end) => {
            let state = end.pipe.state();
            (!state.is_reset && (!state.is_ended || !state.inbox.is_empty())).then(|| !state.inbox.is_empty())
        }
    }
}

/// Has the connection reset when it is dropped.
pub(crate) fn reset_on_drop(stream: &Stream) -> io::Result<()> {
    match stream {
        Stream::Tcp(stream) => super::reset_on_drop_of(stream),
        Stream::Simulated(end) => {
            end.is_reset_on_drop.store(true, Ordering::Relaxed);
            Ok(())
        }
    }
}
