//! What a request must be before anything is made of it: a method, a target and a host that read in one way only.
//!
//! Must not know routes. Framing has been looked at in `../server/`. Source: RFC 9110 §7.2, RFC 9112 §3.

use http::header;
use http::{HeaderMap, Method, Request, Version};
use hyper::body::Incoming;

use super::respond::Rejection;
use super::upgrade;

/// Refuses what is not well-formed before anything is made of it.
pub(super) fn check(mut request: Request<Incoming>) -> Result<Request<Incoming>, Rejection> {
    // A trace would show its sender, or a script in its sender's name, the fields that carry credentials
    // (RFC 9110 §9.3.8), and those that gateways added.
    if [Method::CONNECT, Method::TRACE].contains(request.method()) {
        return Err(Rejection::MethodNotSupported);
    }
    // Methods are case-sensitive (RFC 9110 §9.1), but some servers fold them, so a lower-case "post" could
    // slip past a route that guards POST.
    if request.method().as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Rejection::Malformed("the method is not in upper case"));
    }
    check_target(&request)?;
    // RFC 9112 §3.2.2: the authority of an absolute-form target takes the place of Host.
    if let Some(authority) = request.uri().authority() {
        let Ok(host) = http::HeaderValue::try_from(authority.as_str()) else {
            return Err(Rejection::Malformed("the target's authority is no host"));
        };
        request.headers_mut().insert(header::HOST, host);
    }
    check_host(request.headers(), request.version())?;
    Ok(request)
}

/// RFC 9112 §3.2: a path, an absolute address, or an asterisk with OPTIONS. Anything else is read by one server
/// as one path and by the next as another.
fn check_target(request: &Request<Incoming>) -> Result<(), Rejection> {
    let target = request.uri();
    let is_authority_alone = target.authority().is_some() && target.scheme().is_none();
    let is_asterisk = target.path() == "*" && request.method() == Method::OPTIONS;
    if is_authority_alone || !(target.path().starts_with('/') || is_asterisk) {
        return Err(Rejection::Malformed("the request target is neither a path nor an absolute address"));
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one `Host`, and a valid one.
fn check_host(fields: &HeaderMap, version: Version) -> Result<(), Rejection> {
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Rejection::Malformed("there is no Host field")),
        (Some(_), Some(_)) => Err(Rejection::Malformed("there is more than one Host field")),
        (Some(host), None) => match http::uri::Authority::try_from(host.as_bytes()) {
            Ok(authority) if !authority.as_str().contains('@') => Ok(()),
            Ok(_) | Err(_) => Err(Rejection::Malformed("the Host field is no host")),
        },
    }
}

/// Whether a request is of a kind that is never claimed: gRPC, and a change of protocol.
///
/// `Upgrade: h2c` is no such change: some clients offer it with every first request, and this gateway never
/// takes it up. A request is not left unguarded for it, nor for an offer in HTTP/1.0, which is none.
pub(super) fn is_beyond_guarding<B>(request: &Request<B>) -> bool {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/grpc"));
    is_grpc || upgrade::is_asked_for(request.headers(), request.version())
}
