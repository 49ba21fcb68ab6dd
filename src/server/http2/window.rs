//! How much of an answer an HTTP/2 client takes, and since when it takes none.
//!
//! Pure: time is an argument. Source: RFC 9113 §6.9. Read `conduct.rs` before.

use tokio::time::Instant;

/// How much room a client must have made for the clock of a window that was shut to stop: one that takes a byte now and
/// then could hold an answer for ever.
const ROOM_MIN: i64 = 4096;

/// How much the client takes.
#[derive(Debug)]
pub(super) struct Window {
    room: i64,
    /// Since when it has made less room than [`ROOM_MIN`] beyond none.
    pub(super) shut_since: Option<Instant>,
    made: i64,
}

impl Window {
    pub(super) fn new(room: i64) -> Self {
        Self { room, shut_since: None, made: 0 }
    }

    /// Takes what was sent.
    pub(super) fn fill(&mut self, bytes: u32, now: Instant) {
        self.room -= i64::from(bytes);
        if self.room <= 0 && self.shut_since.is_none() {
            self.shut_since = Some(now);
            self.made = 0;
        }
    }

    /// Takes the room that the client made.
    pub(super) fn widen(&mut self, bytes: i64, now: Instant) {
        self.room = self.room.saturating_add(bytes);
        self.made = self.made.saturating_add(bytes);
        if self.made >= ROOM_MIN {
            self.shut_since = None;
        }
        self.fill(0, now);
    }
}
