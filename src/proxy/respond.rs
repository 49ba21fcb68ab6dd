//! Answers that the gateway makes itself: replays and problem documents. The one place where verdicts and
//! failures become status codes.
//!
//! Longer than 400 lines: every rejection stands in one exhaustive match.
//!
//! Source: RFC 9457 for problem documents, RFC 9209 for `Proxy-Status`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::answer::AnswerStream;
use super::headers::{self, PSEUDONYM};
use super::quota::Quota;
use super::trailers;
use super::word::Word;
use crate::protocol::policy::Policy;
use crate::protocol::record::{Settled, UnixMillis, UnknownReason};
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::protocol::scope::StorageKey;
use crate::upstream::{Broken, Buffered, NotSent};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What this gateway takes by itself.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The age beyond which none is told (RFC 9111 §1.2.2).
const AGE_MAX: u64 = 1 << 31;

/// Why a request is not answered by the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No key on a route that requires one.
    KeyMissing,
    /// A key that is none, with the reason.
    KeyInvalid(String),
    /// A part of the scope is missing.
    ScopeMissing(String),
    /// The path reads in several ways.
    PathAmbiguous,
    /// Not well-formed HTTP, with the reason.
    Malformed(&'static str),
    /// The target is longer than is taken.
    TargetTooLong {
        /// Bytes accepted.
        max: usize,
    },
    /// The head is larger than is taken.
    HeadTooLarge {
        /// Bytes accepted.
        max: usize,
    },
    /// The head has more fields than are taken.
    TooManyFields {
        /// Fields accepted.
        max: usize,
    },
    /// A version of HTTP that is not spoken here.
    VersionNotSupported,
    /// A transfer coding that nobody undoes here.
    CodingNotKnown,
    /// The caller did not send its head in time.
    HeadTooSlow(Duration),
    /// The caller did not send its body in time.
    BodyTooSlow(Duration),
    /// CONNECT or TRACE.
    MethodNotSupported,
    /// It expects what this gateway does not know.
    ExpectationUnknown,
    /// It has come through gateways of this name too often.
    Loop,
    /// Neither a route nor a default upstream.
    NoRoute,
    /// The first request is still at work.
    InFlight,
    /// A retry of a request whose outcome is unknown.
    OutcomeUnknown(UnknownReason),
    /// The first request of a key, sent, and no whole answer came back.
    AnswerLost(UnknownReason),
    /// The first answer's body was not kept.
    ResultUnavailable(SavedHead),
    /// The body is larger than the route takes.
    RequestTooLarge {
        /// Bytes accepted.
        max: u64,
    },
    /// The key belongs to another request.
    KeyReused,
    /// Claimed, and nothing was sent.
    UpstreamUnreachable(NotSent),
    /// Not claimed, and nothing was sent.
    PassUnreached(NotSent),
    /// Sent without a claim, and no answer came back.
    PassBroken(Broken),
    /// Sent without a claim, and no answer came back in time.
    PassTimedOut,
    /// The store is out of reach.
    StoreUnavailable,
    /// More requests, or bodies, at once than the gateway takes.
    Overloaded,
    /// The caller has as much as it may.
    QuotaExceeded(Quota),
    /// The gateway is stopping.
    Draining,
    /// The gateway itself failed.
    Internal,
}

/// What a problem document says beside the rejection.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// Prefix of `type`.
    pub(super) problem_base: &'a str,
    /// The exchange this answers.
    pub(super) request_id: &'a str,
    /// Where the record of its key stands, if one does.
    pub(super) operation: Option<&'a StorageKey>,
    /// The route's own status codes.
    pub(super) policy: Option<&'a Policy>,
}

/// What a problem document is made of.
struct Problem {
    code: &'static str,
    status: u16,
    title: &'static str,
    detail: String,
    retry_same_key: bool,
    word: Word,
    retry_after: Option<u64>,
    proxy_error: Option<&'static str>,
    closes: bool,
}

impl Rejection {
    /// Its code in the problem document.
    pub fn code(&self) -> &'static str {
        problem(self, None).code
    }

    /// The word that goes with it.
    pub fn word(&self) -> Word {
        problem(self, None).word
    }
}

/// Says that no further request will be answered on the connection (RFC 9112 §9.6). After a change of protocol the
/// field names that one, and there are no requests any more.
pub(super) fn tell_to_leave<B>(response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The first answer, as it was, with `word`.
pub(super) fn delivered(mut saved: SavedResponse, word: Word) -> Response<AnswerStream> {
    let trailers = (!saved.trailers.is_empty()).then(|| headers::fields(&saved.trailers));
    trailers::announce_in(&mut saved, trailers.as_ref());
    let body = AnswerStream::buffered(Buffered::new(saved.body, trailers));
    let mut response = headed(&saved.head, body);
    word.mark(&mut response);
    response
}

/// A response of this head.
pub(super) fn headed(head: &SavedHead, body: AnswerStream) -> Response<AnswerStream> {
    let mut response = Response::new(body);
    // A status that is none can only come from a damaged record that passed its checksum.
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = headers::fields(&head.headers);
    response
}

/// The first answer again, marked as a replay. RFC 9111 §4.2.3: one that was old when it came is older by that.
pub(super) fn replayed(
    mut saved: SavedResponse,
    settled: Settled,
    policy: &Policy,
    now: UnixMillis,
    word: Word,
) -> Response<AnswerStream> {
    let excluded = &policy.replay_exclude_headers;
    if !excluded.is_empty() {
        let kept = saved.head.headers.iter().filter(|(name, _)| !excluded.contains(name));
        saved.head.headers = kept.cloned().collect();
    }
    let mut response = delivered(saved, word);
    let kept_for = now.0.saturating_sub(settled.at.0) / 1000;
    let age = age_told(response.headers()).saturating_add(kept_for).min(AGE_MAX);
    response.headers_mut().insert(header::AGE, HeaderValue::from(age));
    if let Ok(name) = HeaderName::from_bytes(policy.replay_header.as_bytes()) {
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}

/// How old an answer says it is, in seconds. Several lines, or one that is no number, say nothing.
fn age_told(fields: &HeaderMap) -> u64 {
    let mut lines = fields.get_all(header::AGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return 0 };
    let digits = line.to_str().ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits {
        None | Some("") => 0,
        // Too large to be held.
        Some(digits) => digits.parse().unwrap_or(AGE_MAX),
    }
}

/// The answer to an OPTIONS request that may go no further than here.
pub(super) fn last_hop() -> Response<AnswerStream> {
    let mut response = Response::new(AnswerStream::buffered(Buffered::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// The problem document of a rejection.
pub(super) fn rejected(rejection: &Rejection, about: &About<'_>) -> Response<AnswerStream> {
    let problem = problem(rejection, about.policy);
    let mut document = json!({
        "type": format!("{}{}", about.problem_base, problem.code),
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "retry_same_key": problem.retry_same_key,
        "instance": uuid::Uuid::new_v4().urn().to_string(),
        "request_id": about.request_id,
    });
    if let (Some(members), Some(operation)) = (document.as_object_mut(), about.operation)
        && problem.word.tells_of_a_record()
    {
        members.insert("operation_ref".into(), operation.to_string().into());
    }
    let mut response = Response::new(());
    if let (Rejection::ResultUnavailable(head), Some(members)) = (rejection, document.as_object_mut()) {
        members.insert("original_status".into(), head.status.into());
        if let Some(location) = head.header("location") {
            members.insert("location".into(), String::from_utf8_lossy(location).into());
        }
    }
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = problem.retry_after {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(error) = problem.proxy_error
        && let Ok(value) = HeaderValue::try_from(format!("{PSEUDONYM}; error={error}"))
    {
        fields.insert(PROXY_STATUS, value);
    }
    if problem.status == 405 {
        fields.insert(header::ALLOW, HeaderValue::from_static(METHODS));
    }
    if problem.closes {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    problem.word.mark(&mut response);
    response.map(|()| AnswerStream::buffered(Buffered::new(Bytes::from(document.to_string()), None)))
}

#[expect(clippy::too_many_lines, reason = "one exhaustive match: every rejection on one page")]
fn problem(rejection: &Rejection, policy: Option<&Policy>) -> Problem {
    let plain = |status, code, title, detail: &str| Problem {
        code,
        status,
        title,
        detail: detail.to_owned(),
        retry_same_key: false,
        word: Word::None,
        retry_after: None,
        proxy_error: None,
        closes: false,
    };
    match rejection {
        Rejection::KeyMissing => plain(
            400,
            "key-missing",
            "Idempotency key missing",
            "This request needs an idempotency key: send a fresh one, and the same one again with every retry.",
        ),
        Rejection::KeyInvalid(reason) => {
            plain(400, "key-invalid", "Idempotency key not valid", &sentence(reason))
        }
        Rejection::ScopeMissing(part) => plain(
            400,
            "scope-missing",
            "Caller not identified",
            &format!("Keys are kept apart by {part}, which this request does not carry."),
        ),
        Rejection::PathAmbiguous => plain(
            400,
            "path-ambiguous",
            "Path can be read in several ways",
            "Servers read this path differently, and one reading is protected. Send it in its plain form.",
        ),
        Rejection::Malformed(reason) => Problem {
            closes: true,
            ..plain(400, "malformed-request", "Request not well-formed", &sentence(reason))
        },
        Rejection::TargetTooLong { max } => Problem {
            closes: true,
            ..plain(
                414,
                "uri-too-long",
                "Request target too long",
                &format!("A request target may have {max} bytes here."),
            )
        },
        Rejection::HeadTooLarge { max } => Problem {
            closes: true,
            ..plain(
                431,
                "headers-too-large",
                "Request head too large",
                &format!("A request's head may have {max} bytes here."),
            )
        },
        Rejection::TooManyFields { max } => Problem {
            closes: true,
            ..plain(
                431,
                "headers-too-large",
                "Too many header fields",
                &format!("A request may have {max} header fields here."),
            )
        },
        Rejection::VersionNotSupported => Problem {
            closes: true,
            ..plain(
                505,
                "version-not-supported",
                "HTTP version not supported",
                "This listener does not speak that version of HTTP.",
            )
        },
        Rejection::CodingNotKnown => Problem {
            closes: true,
            ..plain(
                501,
                "not-implemented",
                "Transfer coding not known",
                "A request's body may come in chunks, and in no other transfer coding.",
            )
        },
        Rejection::HeadTooSlow(limit) => Problem {
            retry_same_key: true,
            closes: true,
            ..plain(
                408,
                "request-timeout",
                "Request head not received in time",
                &format!("The whole head was not received within {limit:?}. Nothing was forwarded."),
            )
        },
        Rejection::BodyTooSlow(limit) => Problem {
            retry_same_key: true,
            closes: true,
            ..plain(
                408,
                "request-timeout",
                "Request body not received in time",
                &format!("The body was waited for longer than {limit:?} and what its pace allows."),
            )
        },
        Rejection::MethodNotSupported => {
            let plain = plain(
                405,
                "method-not-supported",
                "Method not supported",
                "This gateway opens no tunnels and reflects no requests.",
            );
            Problem { closes: true, ..plain }
        }
        Rejection::ExpectationUnknown => plain(
            417,
            "expectation-failed",
            "Expectation not known",
            "This gateway knows no expectation but 100-continue. Nothing was forwarded.",
        ),
        Rejection::Loop => Problem {
            proxy_error: Some("proxy_loop_detected"),
            ..plain(
                508,
                "loop-detected",
                "Request goes in circles",
                "The request has come through gateways of this name too often. It was not forwarded again.",
            )
        },
        Rejection::NoRoute => plain(404, "no-route", "No route", "No upstream is configured for this path."),
        Rejection::InFlight => Problem {
            retry_same_key: true,
            word: Word::InFlight,
            retry_after: Some(1),
            ..plain(
                policy.map_or(409, |policy| policy.in_flight_status),
                "in-flight",
                "First request still in flight",
                "A request with this key is being processed. Send it again with the same key to get its answer.",
            )
        },
        Rejection::OutcomeUnknown(reason) => Problem {
            word: Word::Unknown,
            ..plain(
                409,
                "outcome-unknown",
                "Outcome unknown",
                &format!(
                    "A request with this key was sent, and whether it took effect is not known ({}). It is not sent \
                     again: find out with the service.",
                    reason.as_str()
                ),
            )
        },
        Rejection::AnswerLost(reason) => Problem {
            retry_same_key: true,
            word: Word::Unknown,
            proxy_error: Some(lost_as_proxy_error(*reason)),
            ..plain(
                if *reason == UnknownReason::ResponseTimeout { 504 } else { 502 },
                "outcome-unknown",
                "Outcome unknown",
                &format!(
                    "The request was sent, and no whole answer came back ({}). It may have taken effect. Sending it \
                     again with the same key is safe: it does not run a second time.",
                    reason.as_str()
                ),
            )
        },
        Rejection::ResultUnavailable(_) => Problem {
            word: Word::BodyNotKept,
            ..plain(
                409,
                "result-unavailable",
                "Result not kept",
                "The first request was answered; its body was too large or streamed, and is not kept.",
            )
        },
        Rejection::RequestTooLarge { max } => plain(
            413,
            "request-too-large",
            "Request body too large",
            &format!("A request with an idempotency key may have a body of {max} bytes here."),
        ),
        Rejection::KeyReused => Problem {
            word: Word::Mismatch,
            ..plain(
                policy.map_or(422, |policy| policy.mismatch_status),
                "key-reused",
                "Idempotency key reused",
                "This key was first used with another request. A new request needs a new key.",
            )
        },
        Rejection::PassUnreached(cause) => {
            Problem { word: Word::None, ..problem(&Rejection::UpstreamUnreachable(*cause), policy) }
        }
        Rejection::UpstreamUnreachable(NotSent::Overloaded) => {
            Problem { word: Word::Released, ..problem(&Rejection::Overloaded, policy) }
        }
        Rejection::Overloaded => Problem {
            retry_same_key: true,
            retry_after: Some(1),
            proxy_error: Some("connection_limit_reached"),
            ..plain(
                503,
                "overloaded",
                "Too many requests at once",
                "There was no room for the request, and it was not forwarded. Send it again.",
            )
        },
        Rejection::QuotaExceeded(quota) => Problem {
            retry_same_key: true,
            retry_after: Some(wait_of(*quota)),
            ..plain(429, "quota-exceeded", "Caller has used up its share", &share_of(*quota))
        },
        Rejection::UpstreamUnreachable(cause) => Problem {
            retry_same_key: true,
            word: Word::Released,
            proxy_error: Some(unreached_as_proxy_error(*cause)),
            ..plain(
                if *cause == NotSent::ConnectTimeout { 504 } else { 502 },
                "upstream-unreachable",
                "Upstream unreachable",
                "The service could not be reached. Nothing was sent to it.",
            )
        },
        Rejection::PassBroken(broken) => Problem {
            proxy_error: Some(match broken {
                Broken::ConnectionLost | Broken::CallersBody => "connection_terminated",
                Broken::Malformed => "http_protocol_error",
            }),
            ..plain(
                502,
                "outcome-unknown",
                "Outcome unknown",
                "The request was sent without idempotency protection, and no whole answer came back.",
            )
        },
        Rejection::PassTimedOut => Problem {
            proxy_error: Some("http_response_timeout"),
            ..plain(
                504,
                "outcome-unknown",
                "Outcome unknown",
                "The request was sent without idempotency protection, and no answer came back in time.",
            )
        },
        Rejection::StoreUnavailable => Problem {
            retry_same_key: true,
            retry_after: Some(1),
            proxy_error: Some("proxy_internal_error"),
            ..plain(
                503,
                "store-unavailable",
                "Idempotency store unavailable",
                "The request was not forwarded, because its key could not be claimed. Send it again.",
            )
        },
        Rejection::Draining => Problem {
            retry_same_key: true,
            retry_after: Some(1),
            proxy_error: Some("proxy_internal_error"),
            closes: true,
            ..plain(503, "draining", "Gateway stopping", "The request was not forwarded. Send it again.")
        },
        Rejection::Internal => Problem {
            word: Word::Unknown,
            proxy_error: Some("proxy_internal_error"),
            ..plain(
                502,
                "outcome-unknown",
                "Outcome unknown",
                "The gateway failed while it worked on this request.",
            )
        },
    }
}

fn unreached_as_proxy_error(cause: NotSent) -> &'static str {
    match cause {
        NotSent::Dns => "dns_error",
        NotSent::Connect => "connection_refused",
        NotSent::ConnectTimeout => "connection_timeout",
        NotSent::Tls => "tls_protocol_error",
        NotSent::ConnectionDead => "connection_terminated",
        NotSent::Refused => "destination_unavailable",
        NotSent::Overloaded => "connection_limit_reached",
    }
}

fn lost_as_proxy_error(reason: UnknownReason) -> &'static str {
    match reason {
        UnknownReason::ConnectionLost => "connection_terminated",
        UnknownReason::ResponseTimeout => "http_response_timeout",
        UnknownReason::AnswerCutShort => "http_response_incomplete",
        UnknownReason::ProtocolSwitched => "http_upgrade_failed",
        UnknownReason::ServerError
        | UnknownReason::EarlierAttempt
        | UnknownReason::GatewayStopped
        | UnknownReason::SessionDied
        | UnknownReason::Unreadable => "proxy_internal_error",
    }
}

fn share_of(quota: Quota) -> String {
    match quota {
        Quota::InFlight { max } => {
            format!(
                "A caller may have {max} requests at once here. This one was neither claimed nor forwarded."
            )
        }
        Quota::Claims { max, window, .. } => format!(
            "A caller may use {max} new keys within {window:?} here. This request was neither claimed nor forwarded."
        ),
    }
}

/// In whole seconds, and not too early.
fn wait_of(quota: Quota) -> u64 {
    match quota {
        Quota::InFlight { .. } => 1,
        Quota::Claims { wait, .. } => wait.as_secs().saturating_add(1),
    }
}

/// A fragment as a sentence.
fn sentence(fragment: &str) -> String {
    let mut characters = fragment.chars();
    match characters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{PROBLEM_CODES, VERDICTS};

    /// Each rejection once; the compiler tells when there is another.
    fn next(after: Option<&Rejection>) -> Option<Rejection> {
        let head = SavedHead { status: 201, headers: [].into() };
        Some(match after {
            None => Rejection::KeyMissing,
            Some(Rejection::KeyMissing) => Rejection::KeyInvalid(String::new()),
            Some(Rejection::KeyInvalid(_)) => Rejection::ScopeMissing(String::new()),
            Some(Rejection::ScopeMissing(_)) => Rejection::PathAmbiguous,
            Some(Rejection::PathAmbiguous) => Rejection::Malformed(""),
            Some(Rejection::Malformed(_)) => Rejection::TargetTooLong { max: 1 },
            Some(Rejection::TargetTooLong { .. }) => Rejection::HeadTooLarge { max: 1 },
            Some(Rejection::HeadTooLarge { .. }) => Rejection::TooManyFields { max: 1 },
            Some(Rejection::TooManyFields { .. }) => Rejection::VersionNotSupported,
            Some(Rejection::VersionNotSupported) => Rejection::CodingNotKnown,
            Some(Rejection::CodingNotKnown) => Rejection::HeadTooSlow(Duration::ZERO),
            Some(Rejection::HeadTooSlow(_)) => Rejection::BodyTooSlow(Duration::ZERO),
            Some(Rejection::BodyTooSlow(_)) => Rejection::MethodNotSupported,
            Some(Rejection::MethodNotSupported) => Rejection::ExpectationUnknown,
            Some(Rejection::ExpectationUnknown) => Rejection::Loop,
            Some(Rejection::Loop) => Rejection::NoRoute,
            Some(Rejection::NoRoute) => Rejection::InFlight,
            Some(Rejection::InFlight) => Rejection::OutcomeUnknown(UnknownReason::ConnectionLost),
            Some(Rejection::OutcomeUnknown(_)) => Rejection::AnswerLost(UnknownReason::ConnectionLost),
            Some(Rejection::AnswerLost(_)) => Rejection::ResultUnavailable(head),
            Some(Rejection::ResultUnavailable(_)) => Rejection::RequestTooLarge { max: 1 },
            Some(Rejection::RequestTooLarge { .. }) => Rejection::KeyReused,
            Some(Rejection::KeyReused) => Rejection::UpstreamUnreachable(NotSent::Connect),
            Some(Rejection::UpstreamUnreachable(_)) => Rejection::PassUnreached(NotSent::Connect),
            Some(Rejection::PassUnreached(_)) => Rejection::PassBroken(Broken::ConnectionLost),
            Some(Rejection::PassBroken(_)) => Rejection::PassTimedOut,
            Some(Rejection::PassTimedOut) => Rejection::StoreUnavailable,
            Some(Rejection::StoreUnavailable) => Rejection::Overloaded,
            Some(Rejection::Overloaded) => Rejection::QuotaExceeded(Quota::InFlight { max: 1 }),
            Some(Rejection::QuotaExceeded(_)) => Rejection::Draining,
            Some(Rejection::Draining) => Rejection::Internal,
            Some(Rejection::Internal) => return None,
        })
    }

    #[test]
    fn each_rejection_has_a_code_and_a_word_that_are_counted() {
        let mut rejection = next(None);
        while let Some(now) = rejection {
            assert!(PROBLEM_CODES.contains(&now.code()), "{now:?}");
            assert!(VERDICTS.contains(&now.word().as_str()), "{now:?}");
            rejection = next(Some(&now));
        }
    }
}
