//! What operators are told when something is wrong: every problem document of this listener, and its status.
//!
//! Source: RFC 9457. Must not hold keys, credentials or bodies: what was sent is named by its member, never repeated.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::desk::NotFound;
use crate::ledger::operations::{NotChanged, State};

/// Why a request of an operator is not answered as it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Neither on this machine nor with a certificate.
    OperatorsOnly,
    /// The listener was called by a name that is not its own.
    HostUnknown,
    /// No token is configured.
    ChangesOff,
    /// A change without the token.
    TokenMissing,
    /// A change with another token.
    TokenWrong,
    /// The member of a question that is wrong, and what is wrong with it.
    RequestInvalid(String),
    /// The body is none that is read here.
    NotJson,
    /// The body is larger than is taken.
    TooLarge(usize),
    /// The body did not come in time.
    TooSlow,
    /// Nothing is at this path.
    PathUnknown,
    /// Another method is wanted, one of these.
    MethodNotSupported(&'static str),
    /// No record stands there.
    OperationNotFound,
    /// The outcome is not unknown.
    NotUnknown(State),
    /// Another attempt stands there.
    AttemptChanged,
    /// The request is at work.
    InFlight,
    /// The record cannot be read.
    Unreadable,
    /// The store is out of reach. `may_be_made`: it was asked for a change.
    StoreUnavailable { may_be_made: bool },
    /// The change could not be written down.
    AuditUnavailable,
    /// The store is not open yet.
    Starting,
    /// A part of the listener failed.
    Internal,
}

/// What a problem document is made of.
struct Told {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
}

impl Problem {
    /// Its code in the problem document.
    pub(super) fn code(&self) -> &'static str {
        self.told().code
    }

    /// The problem document.
    pub(super) fn response(&self, problem_base: &str) -> Response<Full<Bytes>> {
        let told = self.told();
        let document = json!({
            "type": format!("{problem_base}{}", told.code),
            "title": told.title,
            "status": told.status.as_u16(),
            "detail": told.detail,
            "code": told.code,
        });
        let mut response = Response::new(Full::new(Bytes::from(document.to_string())));
        *response.status_mut() = told.status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::MethodNotSupported(allowed) => {
                fields.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            // RFC 6750 §3: whoever showed nothing is told the scheme, whoever showed a token that it is wrong.
            Self::TokenMissing => {
                fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"onceway\""));
            }
            Self::TokenWrong => {
                let challenge = "Bearer realm=\"onceway\", error=\"invalid_token\"";
                fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Self::StoreUnavailable { .. } | Self::Starting => {
                fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // What is left of the body is not waited for.
            Self::TooLarge(_) | Self::TooSlow => {
                fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::OperatorsOnly
            | Self::HostUnknown
            | Self::ChangesOff
            | Self::RequestInvalid(_)
            | Self::NotJson
            | Self::PathUnknown
            | Self::OperationNotFound
            | Self::NotUnknown(_)
            | Self::AttemptChanged
            | Self::InFlight
            | Self::Unreadable
            | Self::AuditUnavailable
            | Self::Internal => {}
        }
        response
    }

    #[expect(clippy::too_many_lines, reason = "one exhaustive match: every problem on one page")]
    fn told(&self) -> Told {
        use StatusCode as S;
        let of = |status, code, title, detail: &str| Told { status, code, title, detail: detail.to_owned() };
        match self {
            Self::OperatorsOnly => of(
                S::FORBIDDEN,
                "operators-only",
                "For operators only",
                "Ask from the machine that the gateway runs on, or show a client certificate that it knows.",
            ),
            Self::HostUnknown => of(
                S::FORBIDDEN,
                "host-unknown",
                "Listener called by another name",
                "Call it by an address, as localhost, or by a name that stands in admin.host_names.",
            ),
            Self::ChangesOff => of(
                S::FORBIDDEN,
                "changes-off",
                "Changes are switched off",
                "No admin.token_file is configured, so nobody may change anything here.",
            ),
            Self::TokenMissing => of(
                S::UNAUTHORIZED,
                "token-missing",
                "Token missing",
                "Changes need the token of admin.token_file: Authorization: Bearer TOKEN.",
            ),
            Self::TokenWrong => of(
                S::UNAUTHORIZED,
                "token-wrong",
                "Token not valid",
                "The token is not the one of admin.token_file.",
            ),
            Self::RequestInvalid(what) => of(S::BAD_REQUEST, "request-invalid", "Request not valid", what),
            Self::NotJson => of(
                S::UNSUPPORTED_MEDIA_TYPE,
                "media-type-not-supported",
                "Media type not supported",
                "Send the body as application/json.",
            ),
            Self::TooLarge(max) => of(
                S::PAYLOAD_TOO_LARGE,
                "request-too-large",
                "Request body too large",
                &format!("The body may have {max} bytes here."),
            ),
            Self::TooSlow => of(
                S::REQUEST_TIMEOUT,
                "request-timeout",
                "Request body not received in time",
                "Nothing was changed.",
            ),
            Self::PathUnknown => of(
                S::NOT_FOUND,
                "path-unknown",
                "Nothing is here",
                "This listener has nothing at this path. /v1/openapi.json tells what it has.",
            ),
            Self::MethodNotSupported(allowed) => of(
                S::METHOD_NOT_ALLOWED,
                "method-not-supported",
                "Method not supported",
                &format!("This path takes {allowed}."),
            ),
            Self::Starting => {
                of(S::SERVICE_UNAVAILABLE, "starting", "Starting", "The store is not open yet.")
            }
            Self::Internal => of(
                S::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
                "The gateway failed while it worked on this. Look at the record and at the log.",
            ),
            Self::NotUnknown(state) => of(
                S::CONFLICT,
                "not-unknown",
                "Outcome not unknown",
                &format!("Only an unknown outcome can be resolved. This operation is {}.", state.as_str()),
            ),
            Self::AttemptChanged => of(
                S::CONFLICT,
                "attempt-changed",
                "Record has changed",
                "Another attempt stands there than the one expected. Look again before you decide.",
            ),
            Self::InFlight => of(
                S::CONFLICT,
                "in-flight",
                "Request still at work",
                "The request is being processed. To forget it now would let another run beside it.",
            ),
            Self::Unreadable => of(
                S::CONFLICT,
                "record-unreadable",
                "Record not readable",
                "The record was written by a newer version, sealed by another key, or is damaged. It is not changed.",
            ),
            Self::StoreUnavailable { may_be_made: false } => of(
                S::SERVICE_UNAVAILABLE,
                "store-unavailable",
                "Store unavailable",
                "The store did not answer. Nothing is known of the record.",
            ),
            Self::StoreUnavailable { may_be_made: true } => of(
                S::SERVICE_UNAVAILABLE,
                "store-unavailable",
                "Store unavailable",
                "The store did not answer. The change may have been made or not: look at the record.",
            ),
            Self::AuditUnavailable => of(
                S::SERVICE_UNAVAILABLE,
                "audit-unavailable",
                "Audit log unavailable",
                "The change could not be written to the audit log, so it was not made.",
            ),
            Self::OperationNotFound => of(
                S::NOT_FOUND,
                "operation-not-found",
                "No such operation",
                "No record stands there: the key was never used, or its retention has ended.",
            ),
        }
    }
}

impl From<NotFound> for Problem {
    fn from(error: NotFound) -> Self {
        Self::RequestInvalid(format!("{}: {}.", error.member, error.reason))
    }
}

impl From<&NotChanged> for Problem {
    fn from(error: &NotChanged) -> Self {
        match error {
            NotChanged::Absent => Self::OperationNotFound,
            NotChanged::NotUnknown(state) => Self::NotUnknown(*state),
            NotChanged::InFlight => Self::InFlight,
            NotChanged::Changed => Self::AttemptChanged,
            NotChanged::Unreadable => Self::Unreadable,
            NotChanged::Unavailable(_) => Self::StoreUnavailable { may_be_made: true },
        }
    }
}

/// Every code that a problem document of this listener may have.
pub fn codes() -> Vec<&'static str> {
    [
        Problem::OperatorsOnly,
        Problem::HostUnknown,
        Problem::ChangesOff,
        Problem::TokenMissing,
        Problem::TokenWrong,
        Problem::RequestInvalid(String::new()),
        Problem::NotJson,
        Problem::TooLarge(0),
        Problem::TooSlow,
        Problem::PathUnknown,
        Problem::MethodNotSupported(""),
        Problem::OperationNotFound,
        Problem::NotUnknown(State::Done),
        Problem::AttemptChanged,
        Problem::InFlight,
        Problem::Unreadable,
        Problem::StoreUnavailable { may_be_made: false },
        Problem::AuditUnavailable,
        Problem::Starting,
        Problem::Internal,
    ]
    .iter()
    .map(Problem::code)
    .collect()
}
