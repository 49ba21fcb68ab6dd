//! A connection that changes its protocol: asked for, agreed to, and then carried both ways until both sides are
//! done.
//!
//! Must not know routes. Source: RFC 9110 §7.8. Read `pass.rs` before.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::headers;

/// What a request offers to change to, and the caller's side of the change.
#[derive(Debug)]
pub(super) struct Offer {
    protocols: String,
    callers_side: OnUpgrade,
}

/// A change of protocol that both sides agreed to.
#[derive(Debug)]
pub(super) struct Agreed {
    callers_side: OnUpgrade,
    upstreams_side: OnUpgrade,
}

/// The upstream changed to a protocol that nobody offered.
#[derive(Debug)]
pub(super) struct Unasked;

impl Offer {
    /// The offer of a request, if it makes one that goes any further.
    pub(super) fn of<B>(request: &mut Request<B>) -> Option<Self> {
        let protocols = protocols(request.headers(), request.version())?;
        Some(Self { protocols, callers_side: hyper::upgrade::on(request) })
    }

    /// Makes the offer to the next hop.
    pub(super) fn make(&self, fields: &mut HeaderMap) {
        if let Ok(protocols) = HeaderValue::from_str(&self.protocols) {
            headers::add_connection_option(fields, "upgrade");
            fields.insert(header::UPGRADE, protocols);
        }
    }

    fn holds(&self, chosen: &str) -> bool {
        // RFC 9110 §7.8: names of protocols are compared without regard to case.
        options(&self.protocols).any(|offered| offered.eq_ignore_ascii_case(chosen))
    }
}

/// Whether a request asks for a change of protocol that goes any further than here.
pub(super) fn is_asked_for(fields: &HeaderMap, version: Version) -> bool {
    protocols(fields, version).is_some()
}

/// What becomes of an offer with this answer.
///
/// Errors: a 101 that takes up nothing that was offered.
pub(super) fn agreed<B>(
    offer: Option<Offer>,
    response: &mut Response<B>,
) -> Result<Option<(Agreed, HeaderValue)>, Unasked> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let (Some(offer), Some(chosen)) = (offer, response.headers().get(header::UPGRADE).cloned()) else {
        return Err(Unasked);
    };
    let is_offered = chosen.to_str().is_ok_and(|chosen| options(chosen).all(|chosen| offer.holds(chosen)));
    if !is_offered {
        return Err(Unasked);
    }
    let upstreams_side = hyper::upgrade::on(response);
    Ok(Some((Agreed { callers_side: offer.callers_side, upstreams_side }, chosen)))
}

impl Agreed {
    /// Carries bytes both ways until both sides are done. Either side may end its direction first.
    pub(super) async fn carry(self) {
        match tokio::try_join!(self.callers_side, self.upstreams_side) {
            Ok((caller, upstream)) => {
                let (mut caller, mut upstream) = (TokioIo::new(caller), TokioIo::new(upstream));
                if let Err(error) = tokio::io::copy_bidirectional(&mut caller, &mut upstream).await {
                    tracing::debug!(%error, "an upgraded connection broke off");
                }
            }
            Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
        }
    }
}

/// The protocols that a request offers, without those that are this gateway's own affair with its neighbour.
///
/// An offer in HTTP/1.0 is passed over (RFC 9110 §7.8), and HTTP/2 has none (RFC 9113 §8.6).
fn protocols(fields: &HeaderMap, version: Version) -> Option<String> {
    if version != Version::HTTP_11 || !headers::is_named_in_connection(fields, "upgrade") {
        return None;
    }
    let lines = fields.get_all(header::UPGRADE).iter().filter_map(|line| line.to_str().ok());
    let offered: Vec<&str> = lines.flat_map(options).filter(|offer| !is_between_neighbours(offer)).collect();
    if offered.is_empty() { None } else { Some(offered.join(", ")) }
}

/// Other versions of HTTP, and TLS. RFC 9113 §3.1 has withdrawn `h2c`; passed on, it would hide the requests that
/// follow from every rule of this gateway.
fn is_between_neighbours(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    ["h2c", "h2", "h3", "http", "tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn options(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(upgrade: &'static str, version: Version) -> Option<String> {
        let mut fields = HeaderMap::new();
        fields.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        protocols(&fields, version)
    }

    #[test]
    fn an_offer_between_neighbours_goes_no_further() {
        assert_eq!(
            offered("h2c, websocket, HTTP/2.0, TLS/1.3", Version::HTTP_11).as_deref(),
            Some("websocket")
        );
        assert_eq!(offered("H2C", Version::HTTP_11), None);
    }

    #[test]
    fn only_http_1_1_offers_an_upgrade() {
        assert_eq!(offered("websocket", Version::HTTP_10), None);
        assert_eq!(offered("websocket", Version::HTTP_2), None);
    }
}
