//! Single values of a file that are neither units nor addresses: names, methods, sources, filters.

use http::HeaderName;
use tracing_subscriber::EnvFilter;

use crate::protocol::policy::{KeySource, ScopeSource};

use super::problem::Unfit;

/// Reads a header's name; answers it in lower case.
pub(super) fn header(text: &str) -> Result<String, Unfit> {
    header_or(text, "a header name such as \"X-Tenant\"")
}

fn header_or(text: &str, wanted: &str) -> Result<String, Unfit> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Unfit::expected(wanted),
    }
}

/// Reads the name of a header the fingerprint covers.
pub(super) fn fingerprint_header(text: &str) -> Result<String, Unfit> {
    // SEMANTICS §4: these change between retries of one intent, and every retry would look like a reused key.
    const NEVER: [&str; 7] =
        ["authorization", "baggage", "cookie", "date", "traceparent", "tracestate", "user-agent"];
    let name = header(text)?;
    if NEVER.contains(&name.as_str()) {
        return Unfit::refused(
            "this header changes between retries of one request, the fingerprint never covers it",
            "one that stays the same, such as \"X-Tenant\"",
        );
    }
    Ok(name)
}

/// Reads the name of the header that marks a replay.
pub(super) fn replay_header(text: &str) -> Result<String, Unfit> {
    const WANTED: &str = "a header name such as \"Idempotent-Replayed\"";
    const FRAMING: [&str; 9] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = header_or(text, WANTED)?;
    if FRAMING.contains(&name.as_str()) {
        return Unfit::refused(
            "this header says how the answer is read, a replay cannot be marked with it",
            WANTED,
        );
    }
    Ok(name)
}

/// Reads a method that may be guarded.
pub(super) fn method(text: &str) -> Result<String, Unfit> {
    const WANTED: &str = "a method in upper case such as \"POST\"";
    match text {
        // RFC 9110 §9.2.1: a retry of a safe method has no effect to guard against.
        "GET" | "HEAD" | "OPTIONS" | "TRACE" => {
            return Unfit::refused("a safe method needs no protection, it may be repeated as it is", WANTED);
        }
        "CONNECT" => return Unfit::refused("CONNECT opens a tunnel and has no answer to keep", WANTED),
        _ => {}
    }
    let is_token = !text.is_empty() && http::Method::from_bytes(text.as_bytes()).is_ok();
    if is_token && !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Ok(text.to_owned())
    } else {
        Unfit::expected(WANTED)
    }
}

/// Reads where a key is looked for: `header:Name` or `json:/pointer`.
pub(super) fn key_source(text: &str) -> Result<KeySource, Unfit> {
    const WANTED: &str = "\"header:Idempotency-Key\" or \"json:/event/id\"";
    match text.split_once(':') {
        Some(("header", name)) => header_or(name, WANTED).map(KeySource::Header),
        Some(("json", pointer)) => json_pointer(pointer).map(KeySource::Json),
        _ => Unfit::expected(WANTED),
    }
}

fn json_pointer(text: &str) -> Result<String, Unfit> {
    match jsonptr::Pointer::parse(text) {
        Ok(pointer) if !pointer.is_root() => Ok(text.to_owned()),
        _ => Unfit::expected("a JSON pointer (RFC 6901) such as \"json:/event/id\""),
    }
}

/// Reads what separates callers: `header:Name` or `client-cert`.
pub(super) fn scope_source(text: &str) -> Result<ScopeSource, Unfit> {
    const WANTED: &str = "\"header:NAME\" such as \"header:Authorization\", or \"client-cert\"";
    match text.split_once(':') {
        Some(("header", name)) => header_or(name, WANTED).map(ScopeSource::Header),
        Some(("jwt", _)) => Unfit::refused("\"jwt:\" scopes are not supported by this version", WANTED),
        None if text == "client-cert" => Ok(ScopeSource::ClientCertificate),
        _ => Unfit::expected(WANTED),
    }
}

/// Reads an upstream's name: it stands in logs and metrics.
pub(super) fn upstream_name(text: &str) -> Result<String, Unfit> {
    let is_name = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_name {
        Ok(text.to_owned())
    } else {
        Unfit::expected("a name of up to 64 letters, digits, \"-\" and \"_\"")
    }
}

/// Reads a store's namespace.
pub(super) fn namespace(text: &str) -> Result<String, Unfit> {
    // Braces are left out: Redis Cluster would take what stands between them as the hash tag.
    let is_name = (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}'));
    if is_name {
        Ok(text.to_owned())
    } else {
        Unfit::expected("1 to 128 visible ASCII characters without braces, such as \"onceway\"")
    }
}

/// Reads the prefix of a problem's type.
pub(super) fn problem_base(text: &str) -> Result<String, Unfit> {
    let is_prefix = (1..=512).contains(&text.len())
        && text.contains(':')
        && text.bytes().all(|byte| {
            byte.is_ascii_graphic()
                && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        });
    if is_prefix {
        Ok(text.to_owned())
    } else {
        Unfit::expected("the beginning of a URI such as \"urn:onceway:problem:\"")
    }
}

/// Reads what this gateway is called in traces.
pub(super) fn service_name(text: &str) -> Result<String, Unfit> {
    let is_name = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_name {
        Ok(text.to_owned())
    } else {
        Unfit::expected("1 to 128 visible ASCII characters such as \"onceway\"")
    }
}

/// Reads which events are logged.
pub fn log_level(text: &str) -> Result<String, Unfit> {
    const WANTED: &str =
        "a level (error, warn, info, debug, trace, off) or a filter such as \"info,onceway=debug\"";
    // A bare word that is no level would be taken as a module that logs everything: "inof" would be valid.
    let is_meant = text.split(',').map(str::trim).all(|directive| {
        let is_level = ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| directive.eq_ignore_ascii_case(level));
        is_level || directive.contains(['=', '['])
    });
    if is_meant && EnvFilter::try_new(text).is_ok() { Ok(text.to_owned()) } else { Unfit::expected(WANTED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_in_lower_case() {
        assert_eq!(header("X-Tenant"), Ok("x-tenant".into()));
        for text in ["", "X Tenant", "X:Y", "é"] {
            assert!(header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_fingerprint_never_covers_what_changes_between_retries() {
        assert_eq!(fingerprint_header("X-Tenant"), Ok("x-tenant".into()));
        for text in ["Date", "User-Agent", "traceparent", "Cookie", "Authorization"] {
            assert!(matches!(fingerprint_header(text), Err(Unfit::Refused { .. })), "{text}");
        }
    }

    #[test]
    fn only_unsafe_upper_case_methods_are_guarded() {
        for text in ["POST", "PATCH", "PUT", "DELETE", "M-SEARCH"] {
            assert_eq!(method(text), Ok(text.to_owned()));
        }
        for text in ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"] {
            assert!(matches!(method(text), Err(Unfit::Refused { .. })), "{text}");
        }
        for text in ["", "post", "Post", "A B"] {
            assert!(matches!(method(text), Err(Unfit::Expected(_))), "{text}");
        }
    }

    #[test]
    fn a_key_comes_from_a_header_or_a_json_pointer() {
        assert_eq!(key_source("header:Idempotency-Key"), Ok(KeySource::Header("idempotency-key".into())));
        assert_eq!(key_source("json:/event/id"), Ok(KeySource::Json("/event/id".into())));
        for text in ["", "Idempotency-Key", "header:", "json:", "json:event", "json:/a~2", "query:id"] {
            assert!(key_source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_scope_that_this_version_cannot_check_is_never_ignored() {
        assert_eq!(scope_source("header:X-Account"), Ok(ScopeSource::Header("x-account".into())));
        assert_eq!(scope_source("client-cert"), Ok(ScopeSource::ClientCertificate));
        let unfit = scope_source("jwt:sub").unwrap_err();
        assert!(unfit.to_string().contains("not supported by this version"), "{unfit}");
        for text in ["", "Authorization", "header:", "client-cert:x"] {
            assert!(scope_source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_misspelt_level_is_not_taken_as_a_module() {
        for text in ["info", "INFO", "off", "info,onceway=debug", "onceway::proxy=trace"] {
            assert!(log_level(text).is_ok(), "{text}");
        }
        for text in ["", "inof", "info,", "info,onceway", "onceway=loud", "verbose"] {
            assert!(log_level(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_bounded() {
        assert!(upstream_name("billing-2").is_ok() && namespace("onceway").is_ok());
        assert!(problem_base("urn:onceway:problem:").is_ok() && problem_base("https://e.x/p#").is_ok());
        for text in ["", "a b", &"a".repeat(600)] {
            assert!(upstream_name(text).is_err() && namespace(text).is_err() && problem_base(text).is_err());
        }
    }
}
