//! The sites whose paths are spelled anew: each a few routes that are easily taken for one another.

use super::site::{Site, insensitive, off, on, on_host};

/// Each site, and paths on it.
pub(crate) fn sites() -> Vec<(Site, &'static [&'static str])> {
    vec![
        (Site::of([on("/payments")]), &["/payments"]),
        (Site::of([on("/"), on("/payments/"), off("/{*rest}")]), &["/payments", "/", "/payments/"]),
        (
            Site::of([on("/orders/{id}/refunds"), off("/orders/{id}"), off("/{*rest}")]),
            &["/orders/7/refunds", "/orders/x.y/refunds", "/orders/refunds"],
        ),
        (
            Site::of([on("/v1/{*rest}"), off("/v1/health"), off("/v1/{id}/open")]),
            &["/v1/x/y", "/v1/health", "/v1"],
        ),
        (Site::of([on("/{*rest}"), off("/public/{*rest}")]), &["/payments", "/public/a", "/public/a/b"]),
        (
            Site::of([on("/caf%C3%A9"), on("/a:b/{id}"), on("/a%20b")]),
            &["/caf%C3%A9", "/caf%c3%a9", "/a:b/1", "/a%20b"],
        ),
        (
            Site::of([
                insensitive(on("/Payments/{*rest}")),
                off("/payments/list"),
                insensitive(off("/{a}/list")),
            ]),
            &["/payments/x", "/Payments", "/payments/list", "/PAYMENTS/LIST"],
        ),
        (
            Site::of([on("/admin.php"), on("/report.json"), off("/report")]),
            &["/admin.php", "/report.json", "/report"],
        ),
        (Site::of([on_host("api.test", "/payments"), off("/{*rest}")]), &["/payments"]),
    ]
}
