//! Addresses at which nobody answers, each in its own way.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// A port that is taken, so that nobody else gets it, and that refuses connections.
pub(crate) struct Unlistened(Socket);

/// A port whose queue is full: connections to it are neither accepted nor refused.
pub(crate) struct Unresponsive {
    socket: Socket,
    _queue: Vec<TcpStream>,
}

impl Unlistened {
    pub(crate) fn port() -> Self {
        Self(bound())
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
