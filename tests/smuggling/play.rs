//! The caller of the table: sends a case's bytes and reads what comes back, strictly.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::case::{Case, Step};
use super::message::{self, Message, Reading, Unframed};
use super::verdict::{self, Prospect};
use super::{now, service};

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For what must come: an answer, or the end of the connection.
    pub(crate) wait: Duration,
    /// For what must not come after all that was awaited.
    pub(crate) linger: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Whole answers in order, interim ones too.
    pub(crate) answers: Vec<(u16, Message)>,
    /// An answer that had begun when the connection ended or nothing more came.
    pub(crate) begun: Option<(u16, Message)>,
    pub(crate) is_closed: bool,
    /// Bytes that are no answer.
    pub(crate) fault: Option<&'static str>,
}

struct Caller {
    stream: TcpStream,
    ahead: Vec<u8>,
    /// Of the requests, as far as they can be told.
    methods: Vec<Vec<u8>>,
    seen: Seen,
}

/// Plays a case against the proxy at `address`.
pub(crate) fn play(case: &Case, address: SocketAddr, patience: Patience) -> io::Result<Seen> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(patience.wait))?;
    let mut caller = Caller { stream, ahead: Vec::new(), methods: methods(case), seen: Seen::default() };
    for step in &case.send {
        match step {
            // A proxy that refuses early may close before it has read everything.
            Step::Send(bytes) => drop(caller.stream.write_all(bytes)),
            Step::Pause => thread::sleep(service::PAUSE),
            Step::HalfClose => drop(caller.stream.shutdown(Shutdown::Write)),
            Step::AwaitAnswer => {
                let before = caller.seen.answers.len();
                caller.read_while(|seen| seen.answers.len() == before, patience.wait)?;
            }
            Step::Close | Step::Reset => return Ok(caller.seen),
        }
    }
    caller.read_while(|seen| verdict::prospect(case, seen) == Prospect::Open, patience.wait)?;
    // The right answers have come: then nothing more may come.
    let answers = caller.seen.answers.len();
    caller.read_while(|seen| seen.answers.len() == answers, patience.linger)?;
    Ok(caller.seen)
}

impl Caller {
    fn read_while(&mut self, goes_on: impl Fn(&Seen) -> bool, limit: Duration) -> io::Result<()> {
        let until = now() + limit;
        let mut bytes = vec![0; 64 * 1024];
        loop {
            self.parse();
            if !goes_on(&self.seen) || self.seen.is_closed || self.seen.fault.is_some() {
                return Ok(());
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => self.seen.is_closed = true,
                Ok(count) => self.ahead.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(_) => self.seen.is_closed = true,
            }
        }
    }

    fn parse(&mut self) {
        loop {
            let finals = self.seen.answers.iter().filter(|(status, _)| *status >= 200).count();
            let is_head = self.methods.get(finals).is_some_and(|method| method == b"HEAD");
            let is_closed = self.seen.is_closed;
            let unframed = |start: &[u8]| match status(start) {
                _ if is_head => Unframed::Forbidden,
                Some(100..=199 | 204 | 304) => Unframed::Forbidden,
                _ if is_closed => Unframed::Ended,
                _ => Unframed::Open,
            };
            self.seen.begun = None;
            match message::read(&self.ahead, unframed) {
                Reading::Nothing if !self.ahead.is_empty() && is_closed => {
                    self.seen.fault = Some("the connection ends within a head");
                }
                Reading::Nothing => {}
                Reading::Fault(fault) => self.seen.fault = Some(fault),
                Reading::Begun(message) => match status(&message.start) {
                    Some(status) => self.seen.begun = Some((status, message)),
                    None => self.seen.fault = Some("a status line that is none"),
                },
                Reading::Whole(message, length) => {
                    self.ahead.drain(..length);
                    match status(&message.start) {
                        Some(status) => self.seen.answers.push((status, message)),
                        None => self.seen.fault = Some("a status line that is none"),
                    }
                    if self.seen.fault.is_none() && !self.ahead.is_empty() {
                        continue;
                    }
                }
            }
            return;
        }
    }
}

/// `HTTP/1.x NNN`, with a reason or without.
fn status(start: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(start).ok()?.strip_prefix("HTTP/1.")?;
    let code = text.split(' ').nth(1)?;
    (code.len() == 3).then(|| code.parse().ok())?
}

/// What the requests of a case ask for, as far as they look like requests.
fn methods(case: &Case) -> Vec<Vec<u8>> {
    let sent = case.send.iter().filter_map(|step| match step {
        Step::Send(bytes) => Some(bytes.as_slice()),
        Step::Pause | Step::HalfClose | Step::AwaitAnswer | Step::Close | Step::Reset => None,
    });
    let sent: Vec<u8> = sent.collect::<Vec<_>>().concat();
    let lines = sent.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b" HTTP/1.1\r"));
    lines.map(|line| line.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec()).collect()
}
