//! A gateway in this process, started as `onceway serve` starts it, so that the fuzzer sees which lines of it are run;
//! and one caller at a time that says bytes to it.
//!
//! It lives for as long as the process.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use super::message::{self, Message, Reading, Unframed};

/// After this, whatever is waited for does not come any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a gateway is asked.
pub(crate) struct Gateway {
    pub(crate) callers: SocketAddr,
    pub(crate) operators: SocketAddr,
}

/// Starts a gateway of this configuration, on ports that are free. `server` and `admin` are lines of those tables.
pub(crate) fn gateway(server: &str, admin: &str, rest: &str) -> Gateway {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n\
         [store]\nurl = \"memory:\"\n{rest}\n"
    );
    count_panics();
    let config = onceway::config::parse("fuzzed", &text, &|_| None);
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let (tell, told) = mpsc::channel();
    let live = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let running = onceway::gateway::start(config).await.expect("a gateway");
            let operators = running.admin_addr().expect("a listener for operators");
            tell.send(Gateway { callers: running.listen_addr(), operators }).expect("somebody waits");
            std::future::pending::<()>().await;
        });
    };
    thread::Builder::new().name("onceway-rest".to_owned()).spawn(live).expect("a thread");
    told.recv().expect("a gateway")
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A panic of a gateway's thread is caught by its runtime, so it is counted.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tell(panic);
            if thread::current().name().is_some_and(|name| name.starts_with("onceway-")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
        }));
    });
}

/// How often a thread of a gateway panicked.
pub(crate) fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

/// Says `bytes`, says that nothing more comes, and answers all that comes back.
pub(crate) fn said_back(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    exchanged(to, bytes, true)
}

/// Asks by a request that says itself that it is the last, and answers all that comes back.
pub(crate) fn asked(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    exchanged(to, bytes, false)
}

fn exchanged(to: SocketAddr, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    if stream.write_all(bytes).is_ok() && ends {
        stream.shutdown(Shutdown::Write).ok();
    }
    let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) => {
                let is_late =
                    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!is_late, "neither answered nor closed: {}", bytes.escape_ascii());
                break;
            }
        }
    }
    assert_eq!(panics(), 0, "a thread of the gateway panicked");
    answer
}

/// An answer, and whether all of it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) message: Message,
    pub(crate) is_whole: bool,
}

impl Answer {
    /// The only value of a field, or the empty text.
    pub(crate) fn field(&self, name: &str) -> String {
        let joined = message::joined(&self.message.fields, name).unwrap_or_default();
        String::from_utf8_lossy(&joined).into_owned()
    }

    /// Whether two answers say the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.status, &self.message.body) == (other.status, &other.message.body)
    }
}

/// The final answer that `bytes` begin with, and how many they take; read strictly. `is_head`: it answers a HEAD.
///
/// Errors: why it is none.
pub(crate) fn answer(mut bytes: &[u8], is_head: bool) -> Result<(Answer, usize), &'static str> {
    let length = bytes.len();
    loop {
        let unframed = |start: &[u8]| match status_of(start) {
            Some(100..=199 | 204 | 304) => Unframed::Forbidden,
            Some(_) if is_head => Unframed::Forbidden,
            Some(_) | None => Unframed::Ended,
        };
        let (message, used) = match message::read(bytes, unframed) {
            Reading::Whole(message, used) => (message, Some(used)),
            Reading::Begun(message) => (message, None),
            Reading::Nothing => return Err("no answer"),
            Reading::Fault(why) => return Err(why),
        };
        let status = status_of(&message.start).ok_or("no status")?;
        match (status, used) {
            (101, _) => return Err("a change of protocol"),
            (100..=199, Some(used)) => bytes = &bytes[used..],
            (100..=199, None) => return Err("half an interim answer"),
            (_, used) => {
                let is_whole = used.is_some();
                let taken = length - bytes.len() + used.unwrap_or(bytes.len());
                return Ok((Answer { status, message, is_whole }, taken));
            }
        }
    }
}

/// RFC 9112 §4.
fn status_of(start: &[u8]) -> Option<u16> {
    let rest = start.strip_prefix(b"HTTP/1.")?;
    let [b'0'..=b'9', b' ', digits @ ..] = rest else { return None };
    let (digits, reason) = digits.split_at_checked(3)?;
    let is_reason = reason.is_empty() || reason.starts_with(b" ");
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|status| is_reason && (100..=999).contains(status))
}
