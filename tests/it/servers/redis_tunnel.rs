//! A road to a server on which bytes are held back, swallowed, or cut off: what networks do and servers do not.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use super::redis::RedisServer;

/// Passes everything on until it is told otherwise. Ends with every connection through it when dropped.
pub(crate) struct Tunnel {
    address: SocketAddr,
    road: Arc<Road>,
}

/// The way from whom to whom.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the store to the server.
    There,
    /// From the server to the store.
    Back,
}

#[derive(Default)]
struct Road {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    ends: Vec<TcpStream>,
    connections: usize,
    /// The connections up to this number deliver nothing any more, and do not end.
    swallowed: usize,
    /// A connection holds whatever comes on this way after so many bytes.
    held: Option<(Way, usize)>,
    is_over: bool,
}

impl Tunnel {
    pub(crate) fn to(server: &RedisServer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tunnel = Self { address: listener.local_addr().unwrap(), road: Arc::default() };
        let (road, server) = (Arc::clone(&tunnel.road), server.address());
        thread::spawn(move || accept(&listener, &server, &road));
        tunnel
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// From now on the connections there are deliver nothing, either way, and none is told of it.
    pub(crate) fn swallow(&self) {
        let mut state = self.road.state();
        state.swallowed = state.connections;
    }

    /// From now on a connection on which more than so many bytes have come on this way holds them back.
    pub(crate) fn hold(&self, way: Way, bytes: usize) {
        self.road.state().held = Some((way, bytes));
    }

    /// Delivers what was held back, and holds nothing any more.
    pub(crate) fn release(&self) {
        self.road.state().held = None;
        self.road.bell.notify_all();
    }

    /// Ends the connections there are; what was held back is lost.
    pub(crate) fn cut(&self) {
        self.road.cut();
    }
}

impl Road {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn cut(&self) {
        let mut state = self.state();
        state.swallowed = state.connections;
        state.held = None;
        for end in state.ends.drain(..) {
            end.shutdown(Shutdown::Both).ok();
        }
        self.bell.notify_all();
    }

    /// Waits while bytes are held back. Answers whether they may go on.
    fn lets_pass(&self, connection: usize, way: Way, bytes: usize) -> bool {
        let is_held =
            |state: &mut State| state.held.is_some_and(|(held, after)| held == way && bytes > after);
        let state = self.bell.wait_while(self.state(), is_held).unwrap();
        connection > state.swallowed
    }
}

fn accept(listener: &TcpListener, server: &str, road: &Arc<Road>) {
    for near in listener.incoming().map_while(Result::ok) {
        if road.state().is_over {
            return;
        }
        let Ok(far) = TcpStream::connect(server) else { continue };
        for end in [&near, &far] {
            end.set_nodelay(true).unwrap();
        }
        let mut state = road.state();
        state.connections += 1;
        let connection = state.connections;
        state.ends.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
        drop(state);
        let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        for (from, to, way) in [(near, far_again, Way::There), (far, near_again, Way::Back)] {
            let road = Arc::clone(road);
            thread::spawn(move || pass_on(from, to, connection, way, &road));
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, connection: usize, way: Way, road: &Road) {
    let (mut bytes, mut buffer) = (0, [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        bytes += count;
        if road.lets_pass(connection, way, bytes) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.road.state().is_over = true;
        self.road.cut();
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}
