//! The operators' console: one page, embedded, that fetches nothing from anywhere but the operations API beside it.
//!
//! The page is put together when this is compiled, from the files in this folder: `head.html`, `console.css`,
//! `body.html` and the scripts, in the order below. Must not know what the API answers, who asks, or HTTP libraries.
//! Read `start.js` next.

/// The page's style, as it stands between its tags.
macro_rules! style {
    () => {
        include_str!("console.css")
    };
}

/// The page's script, as it stands between its tags.
macro_rules! script {
    () => {
        concat!(
            include_str!("ground.js"),
            include_str!("api.js"),
            include_str!("status.js"),
            include_str!("waiting.js"),
            include_str!("operation.js"),
            include_str!("find.js"),
            include_str!("start.js"),
        )
    };
}

/// What may run and be drawn in the page: one script and one style, by their SHA-256, and nothing that anybody could
/// put into it later. `tests/it/console.rs` tells the digests when a file has changed.
const CONTENT_SECURITY_POLICY: &str = concat!(
    "default-src 'none'; ",
    "script-src 'sha256-8U5Si9llXUFrN0S+jyXyE/OEdXd8vVKUPK6Z//SrLjg='; ",
    "style-src 'sha256-8k8KUHIqTQ3aNdT1VrGdbkzQLR4XDt07/AQpzL8NaJw='; ",
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; ",
    "require-trusted-types-for 'script'; trusted-types 'none'"
);

const HEADERS: [(&str, &str); 8] = [
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

const PAGE: &str = concat!(
    include_str!("head.html"),
    "<style>",
    style!(),
    "</style>\n",
    include_str!("body.html"),
    "<script type=\"module\">",
    script!(),
    "</script>\n</body>\n</html>\n"
);

/// The page: the fields it is served with, and its text.
pub fn page() -> (&'static [(&'static str, &'static str)], &'static str) {
    (&HEADERS, PAGE)
}
