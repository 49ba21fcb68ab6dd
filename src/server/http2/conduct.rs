//! How the client of an HTTP/2 connection behaves, judged by the frames that pass: what it takes back, what it makes
//! the gateway do for nothing, and how long it keeps it waiting.
//!
//! Pure: time is an argument. h2 judges whether frames are well-formed, and bounds header blocks, streams and small
//! DATA frames itself. Source: RFC 9113 §10.5. Read `frames.rs` before, `watch.rs` after.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::frames::{ACK, END_STREAM, Frame, Frames, Kind};
use super::trailers::Trailers;
use super::window::Window;

/// How long a request that was taken back is remembered.
const MEMORY: Duration = Duration::from_mins(1);

/// Frames that serve no request, beyond what requests and answers give cause for. A second gives one back.
const IDLE_FRAMES_MAX: u32 = 1000;

/// What a frame gives cause for: a request for priorities, DATA for window updates and pings on both sides.
const CAUSED_BY_REQUEST: u32 = 8;
const CAUSED_BY_DATA: u32 = 4;

/// RFC 9113 §6.9.2.
const FIRST_WINDOW: i64 = 65_535;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// RFC 9113 §6.5.2: the largest window.
const WINDOW_MAX: u32 = 0x7fff_ffff;

/// Codes (§7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;

/// Codes (§7) by which h2 resets a stream because of what the client did: `PROTOCOL_ERROR`,
/// `FLOW_CONTROL_ERROR`, `STREAM_CLOSED`, `FRAME_SIZE_ERROR`.
const PROVOKED: [u32; 4] = [1, 3, 5, 6];

/// What a connection's client is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) resets_max: usize,
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Too many requests were taken back.
    TakesBack,
    /// Too many frames that serve no request.
    IdleFrames,
    /// A header block, or another frame, was begun and not finished in time.
    Unfinished,
    /// It makes no room for answers.
    MakesNoRoom,
    /// A frame is not what RFC 9113 says, where h2 takes it or names another error; the code to be told.
    Malformed(u32),
    /// Nothing is under way: no fault.
    Idle,
}

/// What is to be done by the time that has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// End the connection.
    pub(super) end: Option<Fault>,
    /// Give these streams up: their client makes no room for their answers.
    pub(super) give_up: Vec<u32>,
}

/// How the client of one connection behaves.
#[derive(Debug)]
pub(super) struct Conduct {
    terms: Terms,
    from_client: Frames,
    /// Whether the client's settings have come, which are to be its first frame.
    has_begun: bool,
    to_client: Frames,
    streams: HashMap<u32, Stream>,
    /// The highest stream that the client has opened.
    last: u32,
    trailers: Trailers,
    window: Window,
    first_window: i64,
    taken_back: VecDeque<Instant>,
    idle_frames: u32,
    idle_frames_from: Instant,
    unfinished_since: Option<Instant>,
    idle_since: Option<Instant>,
    suspicion: u32,
}

/// A request under way.
#[derive(Debug)]
struct Stream {
    window: Window,
    is_being_answered: bool,
    /// The client has said all of it.
    is_whole: bool,
}

impl Conduct {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            from_client: Frames::of_client(),
            has_begun: false,
            to_client: Frames::default(),
            streams: HashMap::new(),
            last: 0,
            trailers: Trailers::default(),
            window: Window::new(FIRST_WINDOW),
            first_window: FIRST_WINDOW,
            taken_back: VecDeque::new(),
            idle_frames: 0,
            idle_frames_from: now,
            unfinished_since: Some(now),
            idle_since: Some(now),
            suspicion: 1,
        }
    }

    /// How little is known in the client's favour: it is one at first, grows with each request that it takes back, and
    /// falls with each that it lets be answered.
    pub(super) fn suspicion(&self) -> u32 {
        self.suspicion.max(u32::from(!self.taken_back.is_empty()))
    }

    /// The highest stream that the client has opened.
    pub(super) fn last_stream(&self) -> u32 {
        self.last
    }

    /// Whether a frame of the gateway's own may be put in, towards the client or from it.
    pub(super) fn may_speak(&self) -> bool {
        self.to_client.is_between_frames() && !self.to_client.is_unfinished()
    }

    /// The same for a frame that h2 is to take as the client's.
    pub(super) fn may_speak_for_client(&self) -> bool {
        self.from_client.is_between_frames() && !self.from_client.is_unfinished()
    }

    /// Takes what the client sent.
    pub(super) fn received(&mut self, bytes: &[u8], now: Instant) -> Option<Fault> {
        let mut frames = std::mem::take(&mut self.from_client);
        let mut fault = None;
        frames.pass(bytes, |frame| {
            let found = self.asked(frame, now);
            fault = fault.or(found);
        });
        self.unfinished_since = frames.is_unfinished().then(|| self.unfinished_since.unwrap_or(now));
        self.from_client = frames;
        fault
    }

    /// Takes what the client was sent.
    pub(super) fn sent(&mut self, bytes: &[u8], now: Instant) -> Option<Fault> {
        let mut frames = std::mem::take(&mut self.to_client);
        let mut fault = None;
        frames.pass(bytes, |frame| {
            let found = self.told(frame, now);
            fault = fault.or(found);
        });
        self.to_client = frames;
        fault
    }

    fn asked(&mut self, frame: Frame<'_>, now: Instant) -> Option<Fault> {
        if let Some(code) = self.malformed(frame) {
            return Some(Fault::Malformed(code));
        }
        let found = self.served(frame, now);
        if matches!(frame.kind, Kind::Headers | Kind::Data)
            && frame.has(END_STREAM)
            && let Some(stream) = self.streams.get_mut(&frame.stream)
        {
            stream.is_whole = true;
        }
        found
    }

    /// Takes a frame that is well-formed by itself.
    fn served(&mut self, frame: Frame<'_>, now: Instant) -> Option<Fault> {
        match frame.kind {
            Kind::Headers => {
                // §5.1.1: a stream is opened by a number higher than any before; others are trailers, or errors.
                if frame.stream > self.last {
                    self.last = frame.stream;
                    let window = Window::new(self.first_window);
                    self.streams
                        .insert(frame.stream, Stream { window, is_being_answered: false, is_whole: false });
                    self.idle_since = None;
                    self.idle_frames = self.idle_frames.saturating_sub(CAUSED_BY_REQUEST);
                }
                None
            }
            Kind::Data if frame.length > 0 => {
                self.idle_frames = self.idle_frames.saturating_sub(CAUSED_BY_DATA);
                None
            }
            Kind::Data if frame.has(END_STREAM) => None,
            Kind::Reset => {
                let taken_back = self.is_taken_back(frame.stream, now);
                taken_back.or_else(|| self.count_idle_frame(now))
            }
            Kind::Settings if !frame.has(ACK) => {
                for (name, value) in frame.settings() {
                    if name == INITIAL_WINDOW_SIZE {
                        self.resize(i64::from(value), now);
                    }
                }
                self.count_idle_frame(now)
            }
            Kind::WindowUpdate => {
                let bytes = i64::from(frame.number().unwrap_or_default() & 0x7fff_ffff);
                if frame.stream == 0 {
                    self.window.widen(bytes, now);
                } else if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.window.widen(bytes, now);
                }
                self.count_idle_frame(now)
            }
            Kind::Settings => None,
            Kind::Ping if frame.has(ACK) => None,
            Kind::Data | Kind::Ping | Kind::GoAway | Kind::Continuation | Kind::Other => {
                self.count_idle_frame(now)
            }
        }
    }

    /// What h2 does not refuse, or not by the code that its section names.
    fn malformed(&mut self, frame: Frame<'_>) -> Option<u32> {
        // §3.4: the client's settings follow its preface.
        if !std::mem::replace(&mut self.has_begun, true) && (frame.kind != Kind::Settings || frame.has(ACK)) {
            return Some(PROTOCOL_ERROR);
        }
        let is_sized = match frame.kind {
            Kind::Reset | Kind::WindowUpdate => frame.length == 4,
            Kind::Ping => frame.length == 8,
            Kind::GoAway => frame.length >= 8,
            Kind::Settings => frame.length.is_multiple_of(6) && (frame.length == 0 || !frame.has(ACK)),
            Kind::Data | Kind::Headers | Kind::Continuation | Kind::Other => true,
        };
        if !is_sized {
            return Some(FRAME_SIZE_ERROR);
        }
        let is_open = self.streams.get(&frame.stream).is_some_and(|stream| !stream.is_whole);
        // §8.1: the request's body fails, and so it never ends well.
        if self.trailers.are_malformed_by(frame, is_open) {
            return Some(PROTOCOL_ERROR);
        }
        let is_too_wide = |(name, value)| name == INITIAL_WINDOW_SIZE && value > WINDOW_MAX;
        (frame.kind == Kind::Settings && frame.settings().any(is_too_wide)).then_some(FLOW_CONTROL_ERROR)
    }

    fn told(&mut self, frame: Frame<'_>, now: Instant) -> Option<Fault> {
        match frame.kind {
            Kind::Headers => {
                let is_first = self.all_shut_since().is_none();
                if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.is_being_answered = true;
                    stream.window.fill(0, now);
                }
                // A window that was shut while nothing was to be sent kept nobody waiting.
                if is_first && self.window.shut_since.is_some() {
                    self.window.shut_since = Some(now);
                }
            }
            Kind::Data => {
                self.idle_frames = self.idle_frames.saturating_sub(CAUSED_BY_DATA);
                self.window.fill(frame.length, now);
                if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.window.fill(frame.length, now);
                }
            }
            Kind::Reset => {
                let is_provoked = frame.number().is_some_and(|code| PROVOKED.contains(&code));
                return if is_provoked {
                    self.is_taken_back(frame.stream, now)
                } else {
                    self.close(frame.stream, now);
                    None
                };
            }
            Kind::Settings
            | Kind::Ping
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Continuation
            | Kind::Other => {}
        }
        if matches!(frame.kind, Kind::Headers | Kind::Data) && frame.has(END_STREAM) {
            self.suspicion = self.suspicion.saturating_sub(1);
            self.close(frame.stream, now);
        }
        None
    }

    /// Ends a stream; if nothing was told on it yet, it has been taken back.
    fn is_taken_back(&mut self, stream: u32, now: Instant) -> Option<Fault> {
        if self.close(stream, now)?.is_being_answered {
            return None;
        }
        self.suspicion = self.suspicion.saturating_add(1);
        self.taken_back.push_back(now);
        self.forget(now);
        (self.taken_back.len() > self.terms.resets_max).then_some(Fault::TakesBack)
    }

    fn forget(&mut self, now: Instant) {
        while self.taken_back.front().is_some_and(|first| now.duration_since(*first) > MEMORY) {
            self.taken_back.pop_front();
        }
    }

    fn close(&mut self, stream: u32, now: Instant) -> Option<Stream> {
        let closed = self.streams.remove(&stream);
        if self.streams.is_empty() && closed.is_some() {
            self.idle_since = Some(now);
        }
        closed
    }

    fn count_idle_frame(&mut self, now: Instant) -> Option<Fault> {
        let passed = now.duration_since(self.idle_frames_from).as_secs();
        if passed > 0 {
            self.idle_frames = self.idle_frames.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            self.idle_frames_from = now;
        }
        self.idle_frames += 1;
        (self.idle_frames > IDLE_FRAMES_MAX).then_some(Fault::IdleFrames)
    }

    /// §6.9.2: a new first window changes those of streams that are open.
    fn resize(&mut self, first_window: i64, now: Instant) {
        let change = first_window - self.first_window;
        self.first_window = first_window;
        for stream in self.streams.values_mut() {
            stream.window.widen(change, now);
        }
    }

    /// The earliest moment at which something may be due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let shut = |stream: &Stream| stream.window.shut_since.filter(|_| stream.is_being_answered);
        let shut = self.streams.values().filter_map(shut).chain(self.all_shut_since()).min();
        [
            self.unfinished_since.map(|since| since + self.terms.header_timeout),
            self.idle_since.map(|since| since + self.terms.idle_timeout),
            shut.map(|since| since + self.terms.write_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is due by now.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        self.forget(now);
        let has_passed = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
        let write_timeout = self.terms.write_timeout;
        let end = if has_passed(self.unfinished_since, self.terms.header_timeout) {
            Some(Fault::Unfinished)
        } else if has_passed(self.all_shut_since(), write_timeout) {
            Some(Fault::MakesNoRoom)
        } else if has_passed(self.idle_since, self.terms.idle_timeout) {
            Some(Fault::Idle)
        } else {
            None
        };
        let is_given_up =
            |stream: &Stream| stream.is_being_answered && has_passed(stream.window.shut_since, write_timeout);
        let given_up = self.streams.iter().filter(|(_, stream)| is_given_up(stream));
        Due { end, give_up: given_up.map(|(id, _)| *id).collect() }
    }

    /// Forgets a stream that was given up.
    pub(super) fn gave_up(&mut self, stream: u32, now: Instant) {
        self.close(stream, now);
    }

    /// Since when no answer at all finds room on the connection.
    fn all_shut_since(&self) -> Option<Instant> {
        let is_answering = self.streams.values().any(|stream| stream.is_being_answered);
        self.window.shut_since.filter(|_| is_answering)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::written;
    use super::*;
    use crate::server::connection::PREFACE;

    const SECOND: Duration = Duration::from_secs(1);
    const TERMS: Terms = Terms {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_mins(1),
        write_timeout: Duration::from_secs(30),
        resets_max: 3,
    };
    const CANCEL: [u8; 4] = [0, 0, 0, 8];

    fn with(flags: u8, mut frame: Vec<u8>) -> Vec<u8> {
        frame[4] = flags;
        frame
    }

    fn request(stream: u32) -> Vec<u8> {
        with(5, written(1, stream, b"block"))
    }

    fn head(stream: u32) -> Vec<u8> {
        with(4, written(1, stream, b"block"))
    }

    fn opened() -> (Conduct, Instant) {
        let now = Instant::now();
        let mut conduct = Conduct::new(TERMS, now);
        assert_eq!(conduct.received(&[&PREFACE[..], &written(4, 0, &[])].concat(), now), None);
        (conduct, now)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_taken_back_before_their_answer_are_counted_for_a_minute() {
        let (mut conduct, now) = opened();
        let pair = |stream| [request(stream), written(3, stream, &CANCEL)].concat();
        for stream in [1, 3, 5] {
            assert_eq!(conduct.received(&pair(stream), now), None);
        }
        let later = now + MEMORY + SECOND;
        assert_eq!(conduct.received(&pair(7), later), None, "the others are forgotten");
        for stream in [9, 11] {
            assert_eq!(conduct.received(&pair(stream), later), None);
        }
        assert_eq!(conduct.received(&pair(13), later), Some(Fault::TakesBack));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_the_client_makes_us_reset_is_taken_back_and_one_that_is_being_answered_is_not() {
        let (mut conduct, now) = opened();
        for stream in (1..20).step_by(2) {
            assert_eq!(conduct.received(&request(stream), now), None);
            assert_eq!(conduct.sent(&head(stream), now), None);
            assert_eq!(conduct.received(&written(3, stream, &CANCEL), now), None);
        }
        let provoked = |conduct: &mut Conduct, stream| {
            conduct.received(&request(stream), now);
            conduct.sent(&written(3, stream, &[0, 0, 0, 1]), now)
        };
        let found: Vec<_> = [21, 23, 25, 27].map(|stream| provoked(&mut conduct, stream)).into();
        assert_eq!(found, [None, None, None, Some(Fault::TakesBack)]);
    }

    #[tokio::test(start_paused = true)]
    async fn trust_is_earned_by_answers_and_lost_by_taking_back() {
        let (mut conduct, now) = opened();
        assert_eq!(conduct.suspicion(), 1);
        conduct.received(&request(1), now);
        conduct.sent(&with(5, head(1)), now);
        assert_eq!(conduct.suspicion(), 0);
        conduct.received(&[request(3), written(3, 3, &CANCEL), request(5)].concat(), now);
        conduct.sent(&with(5, head(5)), now);
        assert_eq!(conduct.suspicion(), 1, "for as long as it is remembered");
        conduct.due(now + MEMORY + SECOND);
        assert_eq!(conduct.suspicion(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_serve_no_request_are_bounded_and_those_that_answers_cause_are_not() {
        for frame in [written(6, 0, &[0; 8]), written(4, 0, &[]), written(2, 1, &[0; 5]), written(0, 1, &[])]
        {
            let (mut conduct, now) = opened();
            let flood = frame.repeat(2000);
            assert_eq!(conduct.received(&flood, now), Some(Fault::IdleFrames), "{frame:?}");
        }
        let (mut conduct, now) = opened();
        conduct.received(&request(1), now);
        for _ in 0..5000 {
            assert_eq!(conduct.sent(&written(0, 1, b"data"), now), None);
            let update = written(8, 0, &[0, 0, 0, 4]);
            assert_eq!(conduct.received(&update.repeat(2), now), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_begun_must_be_finished_in_time() {
        let now = Instant::now();
        let mut conduct = Conduct::new(TERMS, now);
        assert_eq!(conduct.next_due(), Some(now + TERMS.header_timeout));
        conduct.received(PREFACE, now);
        conduct.received(&with(0, request(1)), now + SECOND);
        let due = now + SECOND + TERMS.header_timeout;
        assert_eq!(conduct.due(due - SECOND), Due::default());
        conduct.received(&written(9, 1, b"and on"), due - SECOND);
        assert_eq!(conduct.due(due).end, Some(Fault::Unfinished));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_while_no_request_is_under_way_whatever_else_is_said_on_it() {
        let (mut conduct, now) = opened();
        conduct.received(&request(1), now);
        assert_eq!(conduct.due(now + TERMS.idle_timeout), Due::default());
        conduct.sent(&with(5, head(1)), now + SECOND);
        conduct.received(&written(6, 0, &[0; 8]), now + SECOND * 30);
        assert_eq!(conduct.due(now + SECOND + TERMS.idle_timeout).end, Some(Fault::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_room_is_given_up_and_crumbs_of_room_do_not_help() {
        let (mut conduct, now) = opened();
        conduct.received(&[request(1), request(3)].concat(), now);
        conduct.sent(&[head(1), head(3), written(0, 1, &vec![0; 65_535])].concat(), now);
        conduct.received(&written(8, 0, &[0, 1, 0, 0]), now);
        let due = now + TERMS.write_timeout;
        conduct.received(&written(8, 1, &[0, 0, 0, 1]), due - SECOND);
        assert_eq!(conduct.due(due), Due { end: None, give_up: vec![1] });
        conduct.received(&written(8, 1, &[0, 0, 0x10, 0]), due);
        assert_eq!(conduct.due(due), Due::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_room_for_any_answer_is_ended() {
        let (mut conduct, now) = opened();
        conduct.received(&request(1), now);
        conduct.sent(&[head(1), written(0, 1, &vec![0; 65_535])].concat(), now);
        conduct.received(&written(8, 1, &[0, 1, 0, 0]), now);
        assert_eq!(conduct.due(now + TERMS.write_timeout).end, Some(Fault::MakesNoRoom));
        let (mut conduct, now) = opened();
        conduct.received(&[written(4, 0, &[0, 4, 0, 0, 0, 0]), request(1)].concat(), now);
        conduct.sent(&head(1), now);
        assert_eq!(conduct.due(now + TERMS.write_timeout), Due { end: None, give_up: vec![1] });
    }
}
