//! What a record says beside its head: the metadata, written by postcard, the same in every format so far.
//!
//! Must not know formats, keys or compression. Read `../codec.rs` before.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::protocol::record::{Phase, Record, Settled, UnixMillis, UnknownReason};
use crate::protocol::saved::{FieldLines, SavedHead, SavedResponse};

/// Postcard identifies variants and fields by position: append only, and only in a new format.
#[derive(Serialize, Deserialize)]
struct Meta<'a> {
    attempts: u32,
    opened_at: u64,
    route: &'a str,
    #[serde(borrow)]
    phase: MetaPhase<'a>,
}

/// What metadata says, with the body put in its place.
pub(super) struct Told {
    pub(super) attempts: u32,
    pub(super) opened_at: UnixMillis,
    pub(super) route: String,
    pub(super) phase: Phase,
}

/// The metadata of a record, and the body that goes beside it; empty unless the record is `Done`.
pub(super) fn write(record: &Record) -> (Vec<u8>, Bytes) {
    let (meta, body) = meta_of(record);
    #[expect(clippy::expect_used, reason = "serialising plain data into memory has no failing case")]
    let meta = postcard::to_stdvec(&meta).expect("postcard writes plain data into a growing vector");
    (meta, body)
}

/// Reads metadata; field values are slices of it. `None`: it is none, or has no place for this body.
pub(super) fn read(source: &Bytes, body: Bytes) -> Option<Told> {
    let meta: Meta<'_> = postcard::from_bytes(source).ok()?;
    if !body.is_empty() && !matches!(meta.phase, MetaPhase::Done { .. }) {
        return None;
    }
    Some(Told {
        attempts: meta.attempts,
        opened_at: UnixMillis(meta.opened_at),
        route: meta.route.to_owned(),
        phase: phase_from(meta.phase, source, body)?,
    })
}

#[derive(Serialize, Deserialize)]
enum MetaPhase<'a> {
    InFlight,
    Done {
        #[serde(borrow)]
        head: MetaHead<'a>,
        #[serde(borrow)]
        trailers: MetaLines<'a>,
        settled: MetaSettled,
    },
    DoneWithoutBody {
        #[serde(borrow)]
        head: MetaHead<'a>,
        settled: MetaSettled,
    },
    Unknown {
        reason: u8,
    },
}

#[derive(Serialize, Deserialize)]
struct MetaHead<'a> {
    status: u16,
    #[serde(borrow)]
    headers: MetaLines<'a>,
}

#[derive(Serialize, Deserialize)]
struct MetaSettled {
    at: u64,
    keep_for_ms: u64,
}

type MetaLines<'a> = Vec<(&'a str, &'a [u8])>;

fn meta_of(record: &Record) -> (Meta<'_>, Bytes) {
    let (phase, body) = match &record.phase {
        Phase::InFlight => (MetaPhase::InFlight, Bytes::new()),
        Phase::Done { saved, settled } => (
            MetaPhase::Done {
                head: meta_head(&saved.head),
                trailers: meta_lines(&saved.trailers),
                settled: meta_settled(*settled),
            },
            saved.body.clone(),
        ),
        Phase::DoneWithoutBody { head, settled } => (
            MetaPhase::DoneWithoutBody { head: meta_head(head), settled: meta_settled(*settled) },
            Bytes::new(),
        ),
        Phase::Unknown { reason } => (MetaPhase::Unknown { reason: reason_byte(*reason) }, Bytes::new()),
    };
    let meta = Meta { attempts: record.attempts, opened_at: record.opened_at.0, route: &record.route, phase };
    (meta, body)
}

fn phase_from(meta: MetaPhase<'_>, source: &Bytes, body: Bytes) -> Option<Phase> {
    Some(match meta {
        MetaPhase::InFlight => Phase::InFlight,
        MetaPhase::Done { head, trailers, settled } => Phase::Done {
            saved: SavedResponse {
                head: head_from(head, source),
                body,
                trailers: lines_from(trailers, source),
            },
            settled: settled_from(&settled),
        },
        MetaPhase::DoneWithoutBody { head, settled } => {
            Phase::DoneWithoutBody { head: head_from(head, source), settled: settled_from(&settled) }
        }
        MetaPhase::Unknown { reason } => Phase::Unknown { reason: reason_from(reason)? },
    })
}

fn meta_head(head: &SavedHead) -> MetaHead<'_> {
    MetaHead { status: head.status, headers: meta_lines(&head.headers) }
}

fn head_from(head: MetaHead<'_>, source: &Bytes) -> SavedHead {
    SavedHead { status: head.status, headers: lines_from(head.headers, source) }
}

fn meta_lines(lines: &FieldLines) -> MetaLines<'_> {
    lines.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect()
}

/// Values are slices of the stored bytes, not copies.
fn lines_from(lines: MetaLines<'_>, source: &Bytes) -> FieldLines {
    lines.into_iter().map(|(name, value)| (name.to_owned(), source.slice_ref(value))).collect()
}

fn meta_settled(settled: Settled) -> MetaSettled {
    let keep_for_ms = u64::try_from(settled.keep_for.as_millis()).unwrap_or(u64::MAX);
    MetaSettled { at: settled.at.0, keep_for_ms }
}

fn settled_from(settled: &MetaSettled) -> Settled {
    Settled { at: UnixMillis(settled.at), keep_for: Duration::from_millis(settled.keep_for_ms) }
}

/// The phase as it stands in the head.
pub(super) fn phase_byte(phase: &Phase) -> u8 {
    match phase {
        Phase::InFlight => 0,
        Phase::Done { .. } => 1,
        Phase::DoneWithoutBody { .. } => 2,
        Phase::Unknown { .. } => 3,
    }
}

fn reason_byte(reason: UnknownReason) -> u8 {
    match reason {
        UnknownReason::ConnectionLost => 0,
        UnknownReason::ResponseTimeout => 1,
        UnknownReason::AnswerCutShort => 2,
        UnknownReason::ProtocolSwitched => 3,
        UnknownReason::ServerError => 4,
        UnknownReason::GatewayStopped => 5,
        UnknownReason::SessionDied => 6,
        UnknownReason::Unreadable => 7,
        UnknownReason::EarlierAttempt => 8,
    }
}

fn reason_from(byte: u8) -> Option<UnknownReason> {
    Some(match byte {
        0 => UnknownReason::ConnectionLost,
        1 => UnknownReason::ResponseTimeout,
        2 => UnknownReason::AnswerCutShort,
        3 => UnknownReason::ProtocolSwitched,
        4 => UnknownReason::ServerError,
        5 => UnknownReason::GatewayStopped,
        6 => UnknownReason::SessionDied,
        7 => UnknownReason::Unreadable,
        8 => UnknownReason::EarlierAttempt,
        _ => return None,
    })
}
