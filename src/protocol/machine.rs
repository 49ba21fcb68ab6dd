//! The only place where a record changes.
//!
//! [`judge`] says what a request may do, given what the store answered; [`settle`] says what the record
//! becomes when the outcome of the forward is known; [`resolve`] and [`forget`] say what an operator may do to it. All
//! are total and pure. Must not know stores, HTTP or clocks. Read `record.rs` before, `../ledger/mod.rs` after; `histories/` holds the proof by
//! enumeration.

use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::mistake::Mistake;
use super::outline::Stage;
use super::policy::{OnUnknown, Retention};
use super::record::{Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, UnknownReason, Version};
use super::saved::{SavedHead, SavedResponse};

/// How far the revision leaps where an outcome is put back in an empty place: beyond all writes of its attempt of which
/// nobody may know whether they were done. Whoever has seen one of those, and is about to take its place, must not take
/// this one's.
const RESTORED: u32 = 8;

/// How far it leaps where an operator completes a key. Another leap, and a longer one, so that no owner who counts on
/// from what it knows comes by the same version.
const BY_OPERATOR: u32 = 64;

/// What a request asks of the machine.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the request would do.
    pub fingerprint: Fingerprint,
    /// The same as it was told before fingerprints were made as they are now, where that differs.
    pub earlier: Option<Fingerprint>,
    /// Whether an unknown outcome may be run again.
    pub on_unknown: OnUnknown,
    /// The route's path pattern, kept in the record for operators.
    pub route: String,
}

/// The tokens a new claim is made of.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Fresh for every claim.
    pub attempt: Attempt,
    /// The claiming process.
    pub session: Session,
}

/// What is known of the owner of a record in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Its session lives, or may live: presume that it is at work.
    Working,
    /// Its session is dead, or the owner itself gave up without settling: nobody will tell the outcome.
    Gone,
    /// The owner knows that it never sent the request: its claim arrived in the store after it had
    /// given up on it.
    NeverSent,
}

/// What a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The claim just written is the first: forward.
    Execute,
    /// Forward, if the store still holds this version and lets a new claim take its place.
    Reclaim(Record),
    /// Answer with the first answer.
    Replay(SavedResponse, Settled),
    /// The first answer is known, its body is not.
    BodyNotKept(SavedHead),
    /// The key belongs to another request.
    Mismatch,
    /// The first request is still at work.
    InFlight(Record),
    /// Nobody knows what came of the first request.
    Unknown(UnknownReason),
}

/// What came of a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Completed(SavedResponse),
    /// A whole answer whose body is not kept.
    CompletedWithoutBody(SavedHead),
    /// Proof that the upstream did not process the request.
    Unprocessed,
    /// Sent, and no whole answer.
    Unknown(UnknownReason),
}

/// What the store has to do to a record.
#[expect(clippy::large_enum_variant, reason = "lives for one step, on the stack; a box would cost more")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Put `next` in its place, if the version is still the one seen.
    Write {
        /// The record to stand there.
        next: Record,
        /// Its retention from now.
        keep_for: Duration,
    },
    /// Remove it, if the version is still the one seen.
    Remove,
    /// Leave it: an answer never changes.
    Keep,
}

/// What an operator says of an unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The upstream did not process the request: the next one with the key is a first one.
    Release,
    /// The upstream did, and this was its answer.
    Complete {
        /// The true answer.
        answer: SavedResponse,
        /// How long it replays.
        keep_for: Duration,
    },
}

/// Why an operator may not change a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandsOff {
    /// Its request is at work, or may be: another could run beside it.
    AtWork,
    /// It is answered, and an answer never changes.
    Answered,
}

/// The record of a first claim.
pub fn claim(token: Token, asked: &Asked, now: UnixMillis) -> Record {
    Record {
        version: Version { attempt: token.attempt, revision: 0 },
        session: token.session,
        fingerprint: asked.fingerprint,
        attempts: 1,
        opened_at: now,
        route: asked.route.clone(),
        phase: Phase::InFlight,
    }
}

/// The record of a claim that takes the place of `over`, whose attempt may have run if its outcome was
/// unknown, and has not if it was never sent.
pub fn reclaim(over: &Record, token: Token, asked: &Asked, owner: Owner) -> Record {
    let ran_perhaps = match owner {
        Owner::NeverSent => 0,
        Owner::Working | Owner::Gone => 1,
    };
    Record { attempts: over.attempts.saturating_add(ran_perhaps), ..claim(token, asked, over.opened_at) }
}

/// Says what a request may do, given what the store answered to its claim.
///
/// `owner` is asked for only when the record is in flight; pass [`Owner::Working`] until it is known.
/// Checked in this order: mismatch, replay, unknown, in flight.
pub fn judge(seen: Seen, asked: &Asked, owner: Owner) -> Verdict {
    let record = match seen {
        Seen::Nothing => return Verdict::Execute,
        Seen::Unreadable if Mistake::UnreadableIsAbsent.is_made() => return Verdict::Execute,
        Seen::Unreadable => return Verdict::Unknown(UnknownReason::Unreadable),
        Seen::Record(record) => *record,
    };
    // A claim that was never sent is no claim, so it cannot be mismatched either. Unless it took the
    // place of an unknown outcome: then that is what the key still stands for.
    if record.phase == Phase::InFlight && owner == Owner::NeverSent && !ran_before(&record) {
        return Verdict::Reclaim(record);
    }
    if record.fingerprint != asked.fingerprint && Some(record.fingerprint) != asked.earlier {
        return Verdict::Mismatch;
    }
    match (record.phase, owner) {
        (Phase::Done { saved, settled }, _) => Verdict::Replay(saved, settled),
        (Phase::DoneWithoutBody { head, .. }, _) => Verdict::BodyNotKept(head),
        (phase @ Phase::Unknown { reason }, _) => {
            unknown(Record { phase, ..record }, reason, asked.on_unknown)
        }
        (Phase::InFlight, Owner::Gone) if Mistake::ExpiringClaim.is_made() => {
            Verdict::Reclaim(Record { phase: Phase::InFlight, ..record })
        }
        (Phase::InFlight, Owner::Gone) => {
            let record = Record { phase: Phase::InFlight, ..record };
            unknown(record, UnknownReason::SessionDied, asked.on_unknown)
        }
        (Phase::InFlight, Owner::NeverSent) => {
            let record = Record { phase: Phase::InFlight, ..record };
            unknown(record, UnknownReason::EarlierAttempt, asked.on_unknown)
        }
        (Phase::InFlight, Owner::Working) => Verdict::InFlight(Record { phase: Phase::InFlight, ..record }),
    }
}

/// Whether an attempt before this one may have run: a claim takes the place of another that perhaps ran
/// only where the policy lets it, and counts it.
fn ran_before(record: &Record) -> bool {
    record.attempts > 1
}

fn unknown(record: Record, reason: UnknownReason, on_unknown: OnUnknown) -> Verdict {
    match on_unknown {
        OnUnknown::Reject => Verdict::Unknown(reason),
        OnUnknown::Retry => Verdict::Reclaim(record),
    }
}

/// Says what becomes of `record`, seen by its own attempt, when the outcome is known.
#[expect(clippy::match_same_arms, reason = "two reasons to leave a record are two lines of the table")]
pub fn settle(record: &Record, outcome: Outcome, now: UnixMillis, retention: Retention) -> Transition {
    let settled = Settled { at: now, keep_for: retention.answer };
    match (&record.phase, outcome) {
        // An answer never changes: a late second opinion is dropped.
        (Phase::Done { .. } | Phase::DoneWithoutBody { .. }, _) => Transition::Keep,
        (Phase::InFlight | Phase::Unknown { .. }, Outcome::Completed(saved)) => {
            write(record, Phase::Done { saved, settled }, retention.answer)
        }
        (Phase::InFlight, Outcome::CompletedWithoutBody(_)) if Mistake::ForgetfulGiant.is_made() => {
            Transition::Remove
        }
        (Phase::InFlight | Phase::Unknown { .. }, Outcome::CompletedWithoutBody(head)) => {
            write(record, Phase::DoneWithoutBody { head, settled }, retention.answer)
        }
        // The proof is about this attempt only: what came of those before it is as unknown as it was.
        (Phase::InFlight, Outcome::Unprocessed) if ran_before(record) => {
            write(record, Phase::Unknown { reason: UnknownReason::EarlierAttempt }, retention.unknown)
        }
        (Phase::Unknown { .. }, Outcome::Unprocessed) if ran_before(record) => Transition::Keep,
        (Phase::InFlight | Phase::Unknown { .. }, Outcome::Unprocessed) => Transition::Remove,
        (Phase::InFlight, Outcome::Unknown(_)) if Mistake::HopefulRelease.is_made() => Transition::Remove,
        (Phase::InFlight, Outcome::Unknown(reason)) => {
            write(record, Phase::Unknown { reason }, retention.unknown)
        }
        (Phase::Unknown { .. }, Outcome::Unknown(_)) => Transition::Keep,
    }
}

/// Says what an operator's word makes of `record`: the one that takes its place, or nothing, by which the key is free.
///
/// Only an unknown outcome is resolved. The word covers the key and not the last attempt alone: where several may have
/// run, by `on_unknown = "retry"`, whoever releases it says that none of them did.
///
/// A completed record has a revision that none before it had. An owner that is stopped, or a command that was sent
/// twice, may know or bring back any of those.
///
/// `owner` matters only when the record is in flight.
pub fn resolve(
    record: &Record,
    owner: Owner,
    resolution: Resolution,
    now: UnixMillis,
) -> Result<Option<Record>, HandsOff> {
    match (&record.phase, owner) {
        (Phase::Done { .. } | Phase::DoneWithoutBody { .. }, _) => Err(HandsOff::Answered),
        (Phase::InFlight, Owner::Working) => Err(HandsOff::AtWork),
        // Nothing ever ran, and the owner itself takes the claim away: there is nothing to find out about it.
        (Phase::InFlight, Owner::NeverSent) if !ran_before(record) => Err(HandsOff::AtWork),
        (Phase::InFlight, Owner::Gone | Owner::NeverSent) | (Phase::Unknown { .. }, _) => {
            Ok(match resolution {
                Resolution::Release => None,
                Resolution::Complete { answer, keep_for } => {
                    let settled = Settled { at: now, keep_for };
                    let phase = Phase::Done { saved: answer, settled };
                    Some(Record { version: leap(record.version, BY_OPERATOR), phase, ..record.clone() })
                }
            })
        }
    }
}

/// Says whether an operator may take a record away, whatever it holds: never a claim whose owner may be at work.
///
/// `owner` matters only when the record is in flight.
pub fn forget(stage: Stage, owner: Owner) -> Result<(), HandsOff> {
    match (stage, owner) {
        (Stage::InFlight, Owner::Working) => Err(HandsOff::AtWork),
        (Stage::InFlight, Owner::Gone | Owner::NeverSent)
        | (Stage::Done { .. } | Stage::DoneWithoutBody { .. } | Stage::Unknown { .. }, _) => Ok(()),
    }
}

/// The same claim once more, to be written so that its retention starts anew while the answer streams.
pub fn extend(record: &Record) -> Record {
    Record { version: version_after(record.version), ..record.clone() }
}

/// `next` as it is put where nothing stands any more.
pub fn restored(next: &Record) -> Record {
    Record { version: leap(next.version, RESTORED), ..next.clone() }
}

fn leap(version: Version, by: u32) -> Version {
    Version { revision: version.revision.saturating_add(by), ..version }
}

fn write(record: &Record, phase: Phase, keep_for: Duration) -> Transition {
    let next = Record { version: version_after(record.version), phase, ..record.clone() };
    Transition::Write { next, keep_for }
}

/// The version of the write after `version`.
pub fn version_after(version: Version) -> Version {
    Version { revision: version.revision.saturating_add(1), ..version }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const MINE: u8 = 1;
    const OTHERS: u8 = 2;
    const RETENTION: Retention =
        Retention { answer: Duration::from_secs(10), unknown: Duration::from_secs(70) };
    const NOW: UnixMillis = UnixMillis(2_000);
    const BEFORE: Settled = Settled { at: UnixMillis(1_500), keep_for: Duration::from_secs(5) };
    const AFTER: Settled = Settled { at: NOW, keep_for: RETENTION.answer };
    const REASON: UnknownReason = UnknownReason::ResponseTimeout;

    fn asked(fingerprint: u8, on_unknown: OnUnknown) -> Asked {
        Asked {
            fingerprint: Fingerprint::from_bytes([fingerprint; 32]),
            earlier: None,
            on_unknown,
            route: "/payments".into(),
        }
    }

    fn token(of: u8) -> Token {
        Token { attempt: Attempt([of; 16]), session: Session([of + 100; 16]) }
    }

    fn first() -> Record {
        claim(token(7), &asked(MINE, OnUnknown::Reject), UnixMillis(1_000))
    }

    fn after_another() -> Record {
        Record { attempts: 2, ..first() }
    }

    fn at(phase: Phase) -> Record {
        Record { version: Version { revision: 3, ..first().version }, phase, ..first() }
    }

    fn head() -> SavedHead {
        SavedHead {
            status: 201,
            headers: vec![("location".into(), Bytes::from_static(b"/payments/1"))].into(),
        }
    }

    fn answer() -> SavedResponse {
        SavedResponse { head: head(), body: Bytes::from_static(b"paid"), trailers: [].into() }
    }

    fn other_answer() -> SavedResponse {
        SavedResponse { body: Bytes::from_static(b"paid again"), ..answer() }
    }

    fn in_flight() -> Phase {
        Phase::InFlight
    }

    fn done() -> Phase {
        Phase::Done { saved: answer(), settled: BEFORE }
    }

    fn done_without_body() -> Phase {
        Phase::DoneWithoutBody { head: head(), settled: BEFORE }
    }

    fn unknown() -> Phase {
        Phase::Unknown { reason: REASON }
    }

    const ALL_PHASES: [fn() -> Phase; 4] = [in_flight, done, done_without_body, unknown];
    const ALL_OWNERS: [Owner; 3] = [Owner::Working, Owner::Gone, Owner::NeverSent];
    const BOTH: [OnUnknown; 2] = [OnUnknown::Reject, OnUnknown::Retry];

    fn judged(record: Record, fingerprint: u8, owner: Owner, on_unknown: OnUnknown) -> Verdict {
        judge(Seen::Record(Box::new(record)), &asked(fingerprint, on_unknown), owner)
    }

    #[test]
    fn nothing_seen_means_execute_and_the_unreadable_is_never_nothing() {
        for owner in ALL_OWNERS {
            for on_unknown in BOTH {
                let asked = asked(MINE, on_unknown);
                assert_eq!(judge(Seen::Nothing, &asked, owner), Verdict::Execute);
                let unreadable = Verdict::Unknown(UnknownReason::Unreadable);
                assert_eq!(judge(Seen::Unreadable, &asked, owner), unreadable);
            }
        }
    }

    #[test]
    fn a_settled_record_is_judged_by_its_phase_whatever_the_owner() {
        for owner in ALL_OWNERS {
            for on_unknown in BOTH {
                assert_eq!(judged(at(done()), MINE, owner, on_unknown), Verdict::Replay(answer(), BEFORE));
                assert_eq!(
                    judged(at(done_without_body()), MINE, owner, on_unknown),
                    Verdict::BodyNotKept(head())
                );
            }
            assert_eq!(judged(at(unknown()), MINE, owner, OnUnknown::Reject), Verdict::Unknown(REASON));
            assert_eq!(judged(at(unknown()), MINE, owner, OnUnknown::Retry), Verdict::Reclaim(at(unknown())));
        }
    }

    #[test]
    fn a_claim_in_flight_is_judged_by_its_owner() {
        use OnUnknown::{Reject, Retry};
        use Owner::{Gone, NeverSent, Working};
        let (first, second) = (first(), after_another());
        let died = Verdict::Unknown(UnknownReason::SessionDied);
        let earlier = Verdict::Unknown(UnknownReason::EarlierAttempt);
        for (record, owner, on_unknown, verdict) in [
            (&first, Working, Reject, Verdict::InFlight(first.clone())),
            (&first, Working, Retry, Verdict::InFlight(first.clone())),
            (&first, Gone, Reject, died.clone()),
            (&first, Gone, Retry, Verdict::Reclaim(first.clone())),
            (&first, NeverSent, Reject, Verdict::Reclaim(first.clone())),
            (&first, NeverSent, Retry, Verdict::Reclaim(first.clone())),
            (&second, Working, Reject, Verdict::InFlight(second.clone())),
            (&second, Working, Retry, Verdict::InFlight(second.clone())),
            (&second, Gone, Reject, died.clone()),
            (&second, Gone, Retry, Verdict::Reclaim(second.clone())),
            (&second, NeverSent, Reject, earlier.clone()),
            (&second, NeverSent, Retry, Verdict::Reclaim(second.clone())),
        ] {
            let found = judged(record.clone(), MINE, owner, on_unknown);
            assert_eq!(found, verdict, "attempts {}, {owner:?}, {on_unknown:?}", record.attempts);
        }
    }

    #[test]
    fn another_fingerprint_is_a_mismatch_before_all_else() {
        for phase in ALL_PHASES {
            for owner in ALL_OWNERS {
                for on_unknown in BOTH {
                    let record = at(phase());
                    let is_no_claim = phase() == Phase::InFlight && owner == Owner::NeverSent;
                    let expected =
                        if is_no_claim { Verdict::Reclaim(record.clone()) } else { Verdict::Mismatch };
                    assert_eq!(
                        judged(record, OTHERS, owner, on_unknown),
                        expected,
                        "{owner:?} {on_unknown:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_key_stands_for_the_request_that_may_have_run_even_if_the_last_claim_was_never_sent() {
        for on_unknown in BOTH {
            let verdict = judged(after_another(), OTHERS, Owner::NeverSent, on_unknown);
            assert_eq!(verdict, Verdict::Mismatch);
        }
    }

    #[test]
    fn a_reclaim_is_a_fresh_claim_that_remembers_when_the_key_was_opened_and_what_may_have_run() {
        let over = at(unknown());
        let asked = Asked { route: "/new".into(), ..asked(OTHERS, OnUnknown::Retry) };
        for (owner, attempts) in [(Owner::Gone, 2), (Owner::Working, 2), (Owner::NeverSent, 1)] {
            let next = reclaim(&over, token(9), &asked, owner);
            let fresh = claim(token(9), &asked, over.opened_at);
            assert_eq!(next, Record { attempts, ..fresh }, "{owner:?}");
            assert_eq!(next.version, Version { attempt: Attempt([9; 16]), revision: 0 });
        }
    }

    /// The transition that leaves everything but phase and revision as it was.
    fn written(before: &Record, phase: Phase, keep_for: Duration) -> Transition {
        let version = Version { revision: before.version.revision + 1, ..before.version };
        Transition::Write { next: Record { version, phase, ..before.clone() }, keep_for }
    }

    fn outcomes() -> [Outcome; 4] {
        [
            Outcome::Completed(other_answer()),
            Outcome::CompletedWithoutBody(head()),
            Outcome::Unprocessed,
            Outcome::Unknown(UnknownReason::ConnectionLost),
        ]
    }

    #[test]
    fn an_answer_never_changes() {
        for phase in [done(), done_without_body()] {
            for outcome in outcomes() {
                let settled = settle(&at(phase.clone()), outcome.clone(), NOW, RETENTION);
                assert_eq!(settled, Transition::Keep, "{outcome:?}");
            }
        }
    }

    #[test]
    fn a_claim_and_an_unknown_outcome_become_what_is_known_at_last() {
        for phase in [in_flight(), unknown()] {
            let before = at(phase.clone());
            let answered = Phase::Done { saved: other_answer(), settled: AFTER };
            let headed = Phase::DoneWithoutBody { head: head(), settled: AFTER };
            let lost = Phase::Unknown { reason: UnknownReason::ConnectionLost };
            let unknown_stays = match phase {
                Phase::InFlight => written(&before, lost, RETENTION.unknown),
                // The first reason is the true one.
                Phase::Unknown { .. } | Phase::Done { .. } | Phase::DoneWithoutBody { .. } => {
                    Transition::Keep
                }
            };
            let expected = [
                written(&before, answered, RETENTION.answer),
                written(&before, headed, RETENTION.answer),
                Transition::Remove,
                unknown_stays,
            ];
            for (outcome, expected) in outcomes().into_iter().zip(expected) {
                assert_eq!(settle(&before, outcome, NOW, RETENTION), expected);
            }
        }
    }

    #[test]
    fn proof_about_the_last_attempt_says_nothing_of_those_before_it() {
        let before = after_another();
        let earlier = Phase::Unknown { reason: UnknownReason::EarlierAttempt };
        let settled = settle(&before, Outcome::Unprocessed, NOW, RETENTION);
        assert_eq!(settled, written(&before, earlier, RETENTION.unknown));
        let unknown = Record { phase: unknown(), ..before };
        assert_eq!(settle(&unknown, Outcome::Unprocessed, NOW, RETENTION), Transition::Keep);
    }

    #[test]
    fn an_extension_changes_only_the_revision() {
        for record in [first(), after_another()] {
            let next = extend(&record);
            assert_eq!(next.version, Version { revision: 1, ..record.version });
            assert_eq!(Record { version: record.version, ..next }, record);
        }
    }
    fn word_of_the_operator() -> [Resolution; 2] {
        let complete = Resolution::Complete { answer: other_answer(), keep_for: Duration::from_secs(20) };
        [Resolution::Release, complete]
    }

    fn by_operator(before: &Record) -> Record {
        let settled = Settled { at: NOW, keep_for: Duration::from_secs(20) };
        let version = Version { revision: before.version.revision + BY_OPERATOR, ..before.version };
        Record { version, phase: Phase::Done { saved: other_answer(), settled }, ..before.clone() }
    }

    #[test]
    fn an_operator_resolves_what_a_request_would_be_told_is_unknown_and_nothing_else() {
        for phase in ALL_PHASES {
            for owner in ALL_OWNERS {
                for attempts in [1, 2] {
                    let record = Record { attempts, ..at(phase()) };
                    let verdict = judged(record.clone(), MINE, owner, OnUnknown::Reject);
                    let may = matches!(verdict, Verdict::Unknown(_));
                    let refused = match phase() {
                        Phase::Done { .. } | Phase::DoneWithoutBody { .. } => HandsOff::Answered,
                        Phase::InFlight | Phase::Unknown { .. } => HandsOff::AtWork,
                    };
                    let expected = if may {
                        [Ok(None), Ok(Some(by_operator(&record)))]
                    } else {
                        [Err(refused), Err(refused)]
                    };
                    let resolved = word_of_the_operator().map(|word| resolve(&record, owner, word, NOW));
                    assert_eq!(resolved, expected, "{record:?} {owner:?}");
                }
            }
        }
    }

    #[test]
    fn an_operator_forgets_anything_but_a_claim_whose_owner_works() {
        for phase in ALL_PHASES {
            for owner in ALL_OWNERS {
                let is_at_work = phase() == Phase::InFlight && owner == Owner::Working;
                let expected = if is_at_work { Err(HandsOff::AtWork) } else { Ok(()) };
                assert_eq!(forget(Stage::from(&phase()), owner), expected, "{:?} {owner:?}", phase());
            }
        }
    }

    #[test]
    fn what_an_operator_completed_replays_and_no_late_answer_changes_it() {
        for phase in [in_flight(), unknown()] {
            let [_, complete] = word_of_the_operator();
            let completed = resolve(&at(phase), Owner::Gone, complete, NOW).unwrap().unwrap();
            let verdict = judged(completed.clone(), MINE, Owner::Working, OnUnknown::Retry);
            assert!(matches!(verdict, Verdict::Replay(saved, _) if saved == other_answer()));
            for outcome in outcomes() {
                assert_eq!(settle(&completed, outcome, NOW, RETENTION), Transition::Keep);
            }
        }
    }
}
