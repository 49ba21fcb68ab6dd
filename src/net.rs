//! The byte streams that connections run on: TCP, and in tests also the pipes of a simulated network.
//!
//! Outside of tests [`Stream`] is tokio's own, and nothing stands between. Must not know what is sent. Read
//! `net/simulated.rs` for the pipes.

#[cfg(test)]
pub(crate) mod simulated;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

#[cfg(test)]
pub(crate) use simulated::{Listener, Stream, has_unread, of_tcp, reset_on_drop};

/// A connection's bytes, both ways.
#[cfg(not(test))]
pub type Stream = TcpStream;

/// Where connections come in.
#[cfg(not(test))]
#[derive(Debug)]
pub struct Listener(TcpListener);

#[cfg(not(test))]
impl Listener {
    /// Takes connections from a socket that listens, in the runtime this is called in.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Self)
    }

    /// The next connection.
    ///
    /// Cancel safety: none is lost.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        self.0.accept().await
    }

    /// From now on no more than `max` may wait to be accepted; those that do already, go on waiting.
    pub fn limit_line(&self, max: i32) -> io::Result<()> {
        limit_line_of(&self.0, max)
    }

    /// Answers, each time it is called, the next connection that has come already and that nobody has accepted.
    ///
    /// Errors of a call: [`io::ErrorKind::WouldBlock`] where there is no other.
    pub fn into_waiting(self) -> io::Result<impl FnMut() -> io::Result<(Stream, SocketAddr)>> {
        waiting_at(self.0)
    }
}

/// Puts a stream that was connected by other means into the form of this house.
#[cfg(not(test))]
pub(crate) fn of_tcp(stream: TcpStream) -> Stream {
    stream
}

/// Whether the peer has sent anything that was not read yet. `None`: it has ended, or broken off.
#[cfg(not(test))]
pub(crate) fn has_unread(stream: &Stream) -> Option<bool> {
    has_unread_in(stream)
}

/// Has the connection reset when it is dropped.
#[cfg(not(test))]
pub(crate) fn reset_on_drop(stream: &Stream) -> io::Result<()> {
    reset_on_drop_of(stream)
}

/// For a socket that listens, `listen` sets how many may wait and nothing else.
fn limit_line_of(listener: &TcpListener, max: i32) -> io::Result<()> {
    socket2::SockRef::from(listener).listen(max)
}

fn waiting_at(listener: TcpListener) -> io::Result<impl FnMut() -> io::Result<(TcpStream, SocketAddr)>> {
    let listener = listener.into_std()?;
    Ok(move || {
        let (stream, peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok((TcpStream::from_std(stream)?, peer))
    })
}

fn has_unread_in(stream: &TcpStream) -> Option<bool> {
    let mut byte = [MaybeUninit::uninit()];
    match socket2::SockRef::from(stream).peek(&mut byte) {
        Ok(0) => None,
        Ok(_) => Some(true),
        Err(error) => (error.kind() == io::ErrorKind::WouldBlock).then_some(false),
    }
}

fn reset_on_drop_of(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
