//! Addresses at which nobody answers a request, each in its own way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use socket2::{Domain, Socket, Type};

/// A port that is taken, so that nobody else gets it, and that refuses connections.
pub(crate) struct Unlistened(Socket);

/// A port whose queue is full: connections to it are neither accepted nor refused.
pub(crate) struct Unresponsive {
    socket: Socket,
    _queue: Vec<TcpStream>,
}

/// A port where whoever comes is answered in a language that is neither TLS nor HTTP, and let go.
pub(crate) struct Babel {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Babel {
    pub(crate) fn port() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let babel = Self { address: listener.local_addr().unwrap(), is_over: Arc::default() };
        let is_over = Arc::clone(&babel.is_over);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // Read first: an end with bytes unread would be a reset.
                if stream.read(&mut [0; 4096]).is_ok() {
                    stream.write_all(b"220 ready when you are\r\n").ok();
                }
            }
        });
        babel
    }

    /// Its address, as one that should speak TLS.
    pub(crate) fn https_url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for Babel {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

impl Unlistened {
    pub(crate) fn port() -> Self {
        Self(bound())
    }

    /// Its address, as a server of an upstream.
    pub(crate) fn authority(&self) -> String {
        address_of(&self.0).to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", address_of(&self.0))
    }
}

impl Unresponsive {
    pub(crate) fn port() -> Self {
        let socket = bound();
        socket.listen(0).unwrap();
        // A backlog of nought still holds one connection.
        let filling = TcpStream::connect(address_of(&socket)).unwrap();
        Self { socket, _queue: vec![filling] }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", address_of(&self.socket))
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket
}

fn address_of(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}
