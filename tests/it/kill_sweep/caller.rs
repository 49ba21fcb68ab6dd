//! A caller who bears everything: a gateway that is gone, or goes in the middle of an answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::{Answer, Ask, PATIENCE};

/// A request that was sent, if anybody took it.
pub(super) struct Sent(Option<TcpStream>);

/// Sends a request on a connection of its own.
pub(super) fn send(to: SocketAddr, ask: &Ask) -> Sent {
    let bytes = [ask.clone().header("Connection", "close").head_bytes(), ask.body_bytes()].concat();
    let stream = TcpStream::connect(to).ok();
    Sent(stream.filter(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes).is_ok()
    }))
}

/// Asks, and reads the answer; `None` if there is no head of one.
pub(super) fn ask(at: SocketAddr, ask: &Ask) -> Option<Answer> {
    send(at, ask).answer()
}

impl Sent {
    /// The answer as far as it came.
    ///
    /// Panics: the gateway neither answers nor goes.
    pub(super) fn answer(self) -> Option<Answer> {
        let (mut stream, mut bytes) = (self.0?, Vec::new());
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("no answer and no end: {error}"),
            }
        }
        answer_of(&bytes)
    }
}

fn answer_of(bytes: &[u8]) -> Option<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else { return None };
    let lines: Vec<_> =
        head.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    let status = head.code.unwrap();
    let mut answer =
        Answer { status, lines, body: bytes[length..].to_vec(), trailers: Vec::new(), is_whole: false };
    let told = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
    answer.is_whole = told == Some(answer.body.len());
    Some(answer)
}
