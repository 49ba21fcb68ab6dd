//! What a route asks for: the contract's choices as types, defaults included.
//!
//! Must not know how they are written in a file (`../config/`).

use std::time::Duration;

use super::key::KeyFormat;

/// Everything a protected route decides. One value per route, resolved: nothing is inherited at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Methods guarded on the route, upper case, none of them safe (RFC 9110 §9.2.1).
    pub methods: Vec<String>,
    /// Whether a key is wanted.
    pub key: KeyMode,
    /// Where a key is looked for. Several sources must agree.
    pub key_from: Vec<KeySource>,
    /// The accepted form of a key.
    pub key_format: KeyFormat,
    /// Longest accepted key, in characters.
    pub key_max_length: usize,
    /// What separates callers. Empty: all callers share one space.
    pub scope: Vec<ScopeSource>,
    /// What a request without a scope part is.
    pub scope_missing: ScopeMissing,
    /// Lower-case names of headers the fingerprint covers.
    pub fingerprint_headers: Vec<String>,
    /// How the fingerprint covers the body.
    pub fingerprint_body: FingerprintBody,
    /// Retention of answers, from completion.
    pub ttl: Duration,
    /// Retention of claims and unknown outcomes.
    pub unknown_ttl: Duration,
    /// What a duplicate of a request in flight gets.
    pub in_flight: InFlightMode,
    /// How long a duplicate is held at most.
    pub wait_timeout: Duration,
    /// Whether an unknown outcome is run again.
    pub on_unknown: OnUnknown,
    /// What happens to a request while the store is out of reach.
    pub on_store_error: OnStoreError,
    /// What a 5xx answer means.
    pub on_5xx: On5xx,
    /// Statuses by which the upstream says that it did not process the request.
    pub release_statuses: Vec<u16>,
    /// Largest accepted request body, in bytes.
    pub request_body_max: u64,
    /// Largest stored answer body, in bytes.
    pub response_body_max: u64,
    /// Lower-case names of headers left out of replays.
    pub replay_exclude_headers: Vec<String>,
    /// How long an answer is listened for after its timeout.
    pub late_answer_window: Duration,
    /// How long the answer waits for the store before it is delivered unstored.
    pub commit_timeout: Duration,
    /// Guarded requests of one caller at once; 0: no limit.
    pub in_flight_per_scope_max: usize,
    /// New keys of one caller within the window; 0: no limit.
    pub claims_per_scope_max: usize,
    /// The window in which new keys are counted.
    pub claims_window: Duration,
    /// Whether verdicts are enforced or only logged.
    pub mode: Mode,
    /// Status of a reused key.
    pub mismatch_status: u16,
    /// Status of a duplicate in flight.
    pub in_flight_status: u16,
    /// Header that marks a replay, lower case.
    pub replay_header: String,
    /// The same route as it was before the way changed in which its keys and fingerprints are made; such a policy
    /// wants no key and has no previous one itself.
    pub previous: Option<Box<Policy>>,
}

/// Whether a key is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMode {
    /// A request without one is refused.
    Required,
    /// A request without one passes through.
    Optional,
    /// The route is not protected.
    Off,
}

/// Where a key is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A header, lower-case name.
    Header(String),
    /// A JSON pointer into the body (RFC 6901).
    Json(String),
}

/// What separates callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeSource {
    /// Every value of a header, lower-case name.
    Header(String),
    /// Whom the caller's verified certificate was made for.
    ClientCertificate,
}

/// What a request without a scope part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeMissing {
    /// One of the anonymous, who share a space.
    Anonymous,
    /// Refused.
    Reject,
}

/// How the fingerprint covers the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FingerprintBody {
    /// Every byte.
    Bytes,
    /// Canonical JSON.
    Json,
    /// Not at all.
    Off,
}

/// What a duplicate of a request in flight gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlightMode {
    /// A problem document at once.
    Reject,
    /// The first answer when it is there.
    Wait,
}

/// Whether an unknown outcome is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Never by itself.
    Reject,
    /// Yes: the upstream is known to be idempotent by itself.
    Retry,
}

/// What happens to a request while the store is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreError {
    /// It is refused.
    Reject,
    /// It is forwarded unprotected.
    Forward,
}

/// What a 5xx answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On5xx {
    /// An answer like any other.
    Store,
    /// The upstream did not process the request.
    Release,
    /// Nobody knows.
    Unknown,
}

/// Whether verdicts are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Yes.
    Enforce,
    /// No: everything is forwarded, and the log says what would have happened.
    Observe,
}

/// What an answer's status means for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusMeaning {
    /// An answer to keep.
    Answer,
    /// The upstream says it did not process the request.
    NotProcessed,
    /// Nobody knows.
    Unknown,
}

/// How long settled records are kept, from the moment they are settled.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Answers.
    pub answer: Duration,
    /// Unknown outcomes.
    pub unknown: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        const HOUR: Duration = Duration::from_hours(1);
        Self {
            methods: vec!["POST".into()],
            key: KeyMode::Optional,
            key_from: vec![KeySource::Header("idempotency-key".into())],
            key_format: KeyFormat::Any,
            key_max_length: 255,
            scope: vec![ScopeSource::Header("authorization".into())],
            scope_missing: ScopeMissing::Anonymous,
            fingerprint_headers: Vec::new(),
            fingerprint_body: FingerprintBody::Bytes,
            ttl: 24 * HOUR,
            unknown_ttl: 7 * 24 * HOUR,
            in_flight: InFlightMode::Reject,
            wait_timeout: Duration::from_secs(10),
            on_unknown: OnUnknown::Reject,
            on_store_error: OnStoreError::Reject,
            on_5xx: On5xx::Store,
            release_statuses: vec![401, 407, 408, 421, 425, 429],
            request_body_max: MIB,
            response_body_max: MIB,
            replay_exclude_headers: Vec::new(),
            late_answer_window: Duration::from_mins(1),
            commit_timeout: Duration::from_secs(5),
            in_flight_per_scope_max: 0,
            claims_per_scope_max: 0,
            claims_window: Duration::from_mins(1),
            mode: Mode::Enforce,
            mismatch_status: 422,
            in_flight_status: 409,
            replay_header: "idempotent-replayed".into(),
            previous: None,
        }
    }
}

impl Policy {
    /// Whether a request with this method is guarded here.
    pub fn guards(&self, method: &str) -> bool {
        self.key != KeyMode::Off && self.methods.iter().any(|guarded| guarded == method)
    }

    /// What an answer's status means for the record.
    pub fn meaning_of(&self, status: u16, has_retry_after: bool) -> StatusMeaning {
        if self.release_statuses.contains(&status) || (status == 503 && has_retry_after) {
            return StatusMeaning::NotProcessed;
        }
        match (status >= 500, self.on_5xx) {
            (false, _) | (true, On5xx::Store) => StatusMeaning::Answer,
            (true, On5xx::Release) => StatusMeaning::NotProcessed,
            (true, On5xx::Unknown) => StatusMeaning::Unknown,
        }
    }

    /// How long settled records are kept.
    pub fn retention(&self) -> Retention {
        Retention { answer: self.ttl, unknown: self.unknown_ttl }
    }

    /// How long a fresh claim is kept: it must outlive any forward, and then be an unknown outcome for as
    /// long as those are kept. A claim that ends earlier would be a second execution.
    pub fn claim_keep_for(&self, forward_max: Duration) -> Duration {
        forward_max
            .saturating_add(self.late_answer_window)
            .saturating_add(self.commit_timeout)
            .saturating_add(self.unknown_ttl.max(self.ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_set_and_503_with_retry_after_mean_not_processed() {
        let policy = Policy::default();
        for status in [401, 407, 408, 421, 425, 429] {
            assert_eq!(policy.meaning_of(status, false), StatusMeaning::NotProcessed, "{status}");
        }
        assert_eq!(policy.meaning_of(503, true), StatusMeaning::NotProcessed);
        assert_eq!(policy.meaning_of(503, false), StatusMeaning::Answer);
    }

    #[test]
    fn other_5xx_follow_the_route() {
        for (on_5xx, meaning) in [
            (On5xx::Store, StatusMeaning::Answer),
            (On5xx::Release, StatusMeaning::NotProcessed),
            (On5xx::Unknown, StatusMeaning::Unknown),
        ] {
            let policy = Policy { on_5xx, ..Policy::default() };
            assert_eq!(policy.meaning_of(500, false), meaning);
            assert_eq!(policy.meaning_of(404, false), StatusMeaning::Answer);
        }
    }

    #[test]
    fn a_claim_outlives_any_forward_however_short_the_ttl() {
        let second = Duration::from_secs(1);
        let policy = Policy { ttl: second, unknown_ttl: second, ..Policy::default() };
        assert!(policy.claim_keep_for(60 * second) >= 60 * second + policy.late_answer_window + second);
    }

    #[test]
    fn a_route_guards_its_methods_unless_keys_are_off() {
        let policy = Policy { methods: vec!["POST".into(), "PATCH".into()], ..Policy::default() };
        assert!(policy.guards("POST") && policy.guards("PATCH") && !policy.guards("GET"));
        assert!(Policy { key: KeyMode::Required, ..policy.clone() }.guards("POST"));
        assert!(!Policy { key: KeyMode::Off, ..policy }.guards("POST"));
    }

    #[test]
    fn only_errors_of_the_server_are_a_matter_of_choice() {
        let policy = Policy { on_5xx: On5xx::Unknown, ..Policy::default() };
        for (status, meaning) in
            [(499, StatusMeaning::Answer), (500, StatusMeaning::Unknown), (599, StatusMeaning::Unknown)]
        {
            assert_eq!(policy.meaning_of(status, true), meaning, "{status}");
        }
        assert_eq!(
            policy.meaning_of(502, true),
            StatusMeaning::Unknown,
            "502 does not say when to come again"
        );
    }

    #[test]
    fn answers_and_unknown_outcomes_are_kept_each_for_their_time() {
        let policy = Policy::default();
        let Retention { answer, unknown } = policy.retention();
        assert_eq!((answer, unknown), (policy.ttl, policy.unknown_ttl));
    }
}
