//! What the fixed head of a record tells without being decoded, to whoever moves records, or puts them where they lie best,
//! and holds no key.
//!
//! The head of every format begins alike, and a record may be of a later one. So nothing that must not go wrong may
//! depend on what is read here. Read `../codec.rs` before.

use std::ops::Range;

use super::MAGIC;
use crate::protocol::record::{Attempt, Session, Version};

const PHASE_AT: usize = 3;
const ATTEMPT_AT: Range<usize> = 4..20;
const REVISION_AT: Range<usize> = 20..24;
const SESSION_AT: Range<usize> = 24..40;
const IN_FLIGHT: u8 = 0;
const DONE: u8 = 1;
const DONE_WITHOUT_BODY: u8 = 2;

/// What a record seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A claim, made in this session.
    InFlight(Session),
    /// An answer, which never changes.
    Answered,
    /// Anything else.
    Other,
}

/// Reads what the head of `value` tells.
pub fn standing(value: &[u8]) -> Standing {
    let is_record = value.first_chunk() == Some(&MAGIC);
    match (is_record, value.get(PHASE_AT), array(value, SESSION_AT)) {
        (true, Some(&IN_FLIGHT), Some(session)) => Standing::InFlight(Session(session)),
        (true, Some(&(DONE | DONE_WITHOUT_BODY)), Some(_)) => Standing::Answered,
        (true | false, _, _) => Standing::Other,
    }
}

/// Reads the version of the record, if it is one.
pub fn version_of(value: &[u8]) -> Option<Version> {
    let attempt = Attempt(array(value, ATTEMPT_AT)?);
    let revision = u32::from_be_bytes(array(value, REVISION_AT)?);
    (value.first_chunk() == Some(&MAGIC)).then_some(Version { attempt, revision })
}

fn array<const N: usize>(bytes: &[u8], at: Range<usize>) -> Option<[u8; N]> {
    bytes.get(at)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Codec, Compression, HEAD_LEN, Sealing};
    use super::*;
    use crate::protocol::fingerprint::Fingerprint;
    use crate::protocol::record::{Phase, Record, Settled, UnixMillis, UnknownReason};
    use crate::protocol::saved::SavedHead;
    use crate::protocol::scope::StorageKey;

    const SESSION: Session = Session([7; 16]);
    const VERSION: Version = Version { attempt: Attempt([8; 16]), revision: 0x0102_0304 };

    fn heads(phase: &Phase) -> [bytes::Bytes; 2] {
        let record = Record {
            version: VERSION,
            session: SESSION,
            fingerprint: Fingerprint::from_bytes([9; 32]),
            attempts: 1,
            opened_at: UnixMillis(1),
            route: "/payments".to_owned(),
            phase: phase.clone(),
        };
        let keys: [&[u8; 32]; 1] = [&[3; 32]];
        let sealing = Sealing::On { keys: &keys, accept_unsealed: false };
        [Codec::default(), Codec::new(sealing, Compression::Off)]
            .map(|codec| codec.encode(&StorageKey::from_bytes([1; 32]), &record).head)
    }

    #[test]
    fn the_head_tells_who_works_on_a_claim_and_that_an_answer_stays_sealed_or_not() {
        let settled = Settled { at: UnixMillis(2), keep_for: std::time::Duration::from_secs(1) };
        let head = SavedHead { status: 201, headers: [].into() };
        for (phase, tells) in [
            (Phase::InFlight, Standing::InFlight(SESSION)),
            (Phase::DoneWithoutBody { head, settled }, Standing::Answered),
            (Phase::Unknown { reason: UnknownReason::ServerError }, Standing::Other),
        ] {
            for head in heads(&phase) {
                assert_eq!((standing(&head), version_of(&head)), (tells, Some(VERSION)));
            }
        }
    }

    #[test]
    fn what_is_no_record_tells_nothing() {
        for value in [[].as_slice(), b"OW", &[0; HEAD_LEN]] {
            assert_eq!((standing(value), version_of(value)), (Standing::Other, None));
        }
    }
}
