//! How the line of a request reads: exactly as `tracing-subscriber` writes an event of the same fields, without its
//! price (an event of fifteen fields is fifteen calls through `core::fmt`, a sixth of what passing a request through costs).
//!
//! Must not know what the fields mean. `../../../tests/it/telemetry/logs.rs` holds it against other events' lines.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::config::LogFormat;

/// Most lines are shorter.
const LINE_BYTES: usize = 384;

thread_local! {
    /// The second of this thread's latest line, and how its date and time of day read: there are many lines a second.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// A line of level INFO, as far as it is written.
pub(super) struct Line {
    format: LogFormat,
    text: String,
}

impl Line {
    /// Begins a line by its time and its message.
    pub(super) fn begin(format: LogFormat, at: SystemTime, message: &str) -> Self {
        let mut text = String::with_capacity(LINE_BYTES);
        let (before, between, after) = match format {
            LogFormat::Human => ("", "  INFO ", ""),
            LogFormat::Json => (r#"{"timestamp":""#, r#"","level":"INFO","message":""#, "\""),
        };
        text.push_str(before);
        push_time(&mut text, at);
        for part in [between, message, after] {
            text.push_str(part);
        }
        Self { format, text }
    }

    /// A field of text, in quotes.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        // Without an early end, so that the compiler may look at many bytes at once.
        if value.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
            self.text.push('"');
            self.text.push_str(value);
            self.text.push('"');
            return;
        }
        match self.format {
            LogFormat::Human => write!(self.text, "{value:?}"),
            LogFormat::Json => write!(self.text, "{}", serde_json::Value::from(value)),
        }
        .ok();
    }

    /// A field of text that needs no quotes where people read it. It holds nothing that would have to be escaped.
    pub(super) fn word(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quote();
        self.text.push_str(value);
        self.quote();
    }

    /// A field that is a number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.decimal(value);
    }

    /// A field that says yes.
    pub(super) fn yes(&mut self, name: &str) {
        self.name(name);
        self.text.push_str("true");
    }

    /// A field that is the address of a socket.
    pub(super) fn address(&mut self, name: &str, value: SocketAddr) {
        self.name(name);
        self.quote();
        match value {
            SocketAddr::V4(value) => {
                for (octet, after) in value.ip().octets().into_iter().zip(['.', '.', '.', ':']) {
                    self.decimal(octet.into());
                    self.text.push(after);
                }
                self.decimal(value.port().into());
            }
            SocketAddr::V6(value) => {
                write!(self.text, "{value}").ok();
            }
        }
        self.quote();
    }

    /// The whole line, with its end. `target`: who says this, for programs.
    pub(super) fn end(mut self, target: &str) -> String {
        match self.format {
            LogFormat::Human => self.text.push('\n'),
            LogFormat::Json => {
                self.word("target", target);
                self.text.push_str("}\n");
            }
        }
        self.text
    }

    fn name(&mut self, name: &str) {
        let (before, after) = match self.format {
            LogFormat::Human => (" ", "="),
            LogFormat::Json => (",\"", "\":"),
        };
        self.text.push_str(before);
        self.text.push_str(name);
        self.text.push_str(after);
    }

    fn quote(&mut self) {
        match self.format {
            LogFormat::Human => {}
            LogFormat::Json => self.text.push('"'),
        }
    }

    fn decimal(&mut self, value: u64) {
        self.text.push_str(itoa::Buffer::new().format(value));
    }
}

/// A time as RFC 3339 has it, to the microsecond, in UTC.
fn push_time(text: &mut String, at: SystemTime) {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, shown)| {
        if *second != since.as_secs() {
            let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
            *second = since.as_secs();
            shown.clear();
            // A `String` takes whatever it is given.
            write!(shown, "{}", humantime::format_rfc3339_seconds(whole)).ok();
            shown.truncate(shown.trim_end_matches('Z').len());
        }
        text.push_str(shown);
    });
    let (mut digits, with_a_one) = (itoa::Buffer::new(), 1_000_000 + since.subsec_micros());
    text.push('.');
    text.push_str(digits.format(with_a_one).strip_prefix('1').unwrap_or_default());
    text.push('Z');
}

/// Whether a byte stands for itself in both formats.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    const PEERS: [&str; 2] = ["127.0.0.1:80", "[2001:db8::1]:65535"];
    const TEXTS: [&str; 6] = ["/payments", "", "a\"b\\c", "é\u{fffd}…", "tab\tend", "100 %"];

    /// The same fields, as the library writes them.
    fn by_the_library(format: LogFormat, peer: SocketAddr, text: &str) -> String {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(written.clone());
        let event = || {
            tracing::info!(target: "the::target", method = %"POST", text, number = 201u64, peer = %peer, left = true, "request");
        };
        match format {
            LogFormat::Human => {
                let layer = layer.with_ansi(false).with_target(false);
                tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), event);
            }
            LogFormat::Json => {
                let layer = layer.json().flatten_event(true);
                tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), event);
            }
        }
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    fn by_us(format: LogFormat, peer: SocketAddr, text: &str) -> String {
        let mut line = Line::begin(format, crate::clock::wall(), "request");
        line.word("method", "POST");
        line.text("text", text);
        line.number("number", 201);
        line.address("peer", peer);
        line.yes("left");
        line.end("the::target")
    }

    /// Without its time.
    fn rest(line: &str) -> &str {
        let time = "2026-11-23T17:11:51.206885Z".len();
        let (before, rest) = line.split_once("20").unwrap();
        assert!(matches!(before, "" | r#"{"timestamp":""#), "{line}");
        &rest[time - 2..]
    }

    #[test]
    fn a_time_reads_as_the_librarys_does_whichever_second_was_the_latest() {
        let millennium = 946_684_800_000_000;
        let times = [0, 1, 999_999, 1_000_000, millennium, millennium + 7, millennium - 1, millennium, 1];
        for micros in times {
            let at = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
            let mut text = String::new();
            push_time(&mut text, at);
            assert_eq!(text, humantime::format_rfc3339_micros(at).to_string());
        }
    }

    #[test]
    fn a_line_reads_as_one_of_the_librarys() {
        for format in [LogFormat::Human, LogFormat::Json] {
            for peer in PEERS.map(|peer| peer.parse().unwrap()) {
                for text in TEXTS {
                    let (ours, theirs) = (by_us(format, peer, text), by_the_library(format, peer, text));
                    assert_eq!(rest(&ours), rest(&theirs));
                }
            }
        }
    }
}
