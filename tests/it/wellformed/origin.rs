//! An upstream that reads by the grammar alone, and keeps what it got by the address of the caller.
//!
//! The gateway is told to replace `X-Forwarded-For`, so that field is the address that a caller bound. Each caller
//! takes another of the loopback network's, and nothing that comes late is taken for the next one's.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::grammar::{Head, Next, next};
use super::oracle::Got;

/// After this, an answer does not come any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream that runs until it is dropped.
pub(crate) struct Origin {
    address: SocketAddr,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    got: Mutex<HashMap<String, Vec<Got>>>,
    connections: Mutex<Vec<TcpStream>>,
    open: Mutex<usize>,
    bell: Condvar,
    is_over: Mutex<bool>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let origin = Self { address: listener.local_addr().unwrap(), kept: Arc::default() };
        let kept = Arc::clone(&origin.kept);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if *kept.is_over.lock().unwrap() {
                    return;
                }
                kept.connections.lock().unwrap().push(stream.try_clone().unwrap());
                *kept.open.lock().unwrap() += 1;
                let kept = Arc::clone(&kept);
                thread::spawn(move || {
                    serve(stream, &kept);
                    *kept.open.lock().unwrap() -= 1;
                    kept.bell.notify_all();
                });
            }
        });
        origin
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came from this caller so far. It is told once.
    pub(crate) fn take_from(&self, caller: &str) -> Vec<Got> {
        self.kept.got.lock().unwrap().remove(caller).unwrap_or_default()
    }

    /// What came from anybody so far. It is told once.
    pub(crate) fn take_all(&self) -> HashMap<String, Vec<Got>> {
        std::mem::take(&mut *self.kept.got.lock().unwrap())
    }

    /// Everything, by the caller's address, once every connection has ended. What names no caller stands under
    /// the empty name.
    pub(crate) fn into_all(self) -> HashMap<String, Vec<Got>> {
        let open = self.kept.open.lock().unwrap();
        drop(self.kept.bell.wait_timeout_while(open, PATIENCE, |open| *open > 0).unwrap());
        std::mem::take(&mut *self.kept.got.lock().unwrap())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        *self.kept.is_over.lock().unwrap() = true;
        for stream in self.kept.connections.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

impl Kept {
    fn keep(&self, caller: &str, got: Got) {
        self.got.lock().unwrap().entry(caller.to_owned()).or_default().push(got);
    }
}

fn serve(mut stream: TcpStream, kept: &Kept) {
    let (mut ahead, mut bytes) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match next(&ahead) {
            Next::Whole(request, used) => {
                ahead.drain(..used);
                kept.keep(&caller(&request.head), Got::Whole(*request));
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                    return;
                }
                continue;
            }
            Next::Malformed(head, why) => {
                let name = head.as_deref().map(caller).unwrap_or_default();
                return kept.keep(&name, Got::Garbage(ahead, why));
            }
            Next::Nothing | Next::Unfinished(_) => {}
        }
        match stream.read(&mut bytes) {
            Ok(count) if count > 0 => ahead.extend_from_slice(&bytes[..count]),
            Ok(_) | Err(_) => break,
        }
    }
    match next(&ahead) {
        Next::Unfinished(Some(head)) => kept.keep(&caller(&head), Got::Broken(*head)),
        Next::Unfinished(None) => kept.keep("", Got::Garbage(ahead, "half a head")),
        Next::Nothing | Next::Whole(..) | Next::Malformed(..) => {}
    }
}

/// Who a request says that it is from.
fn caller(head: &Head) -> String {
    String::from_utf8_lossy(&head.all("x-forwarded-for").join(&b',')).into_owned()
}
