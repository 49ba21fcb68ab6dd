//! The operators' console as text: what it may fetch and run. How it works in a browser is shown by `tests/console/`.

use aws_lc_rs::digest::{SHA256, digest};
use onceway::admin::console::page;

/// What a page over a slow line can be, and more than it needs.
const BYTES_MAX: usize = 100_000;

fn policy() -> &'static str {
    let (headers, _) = page();
    let (_, policy) = headers.iter().find(|(name, _)| *name == "content-security-policy").unwrap();
    policy
}

/// The only text between these tags.
fn between(opening: &str, closing: &str) -> &'static str {
    let (_, page) = page();
    let (_, rest) = page.split_once(opening).unwrap();
    let (text, rest) = rest.split_once(closing).unwrap();
    assert!(!rest.contains(opening) && !rest.contains(closing), "more than one {opening}");
    text
}

fn in_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| if at <= group.len() { DIGITS[bits >> (18 - 6 * at) & 63] } else { b'=' };
        [0, 1, 2, 3].map(digit).map(char::from)
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[track_caller]
fn is_the_digest_in_the_policy(directive: &str, text: &str) {
    let source = format!("{directive} 'sha256-{}';", in_base64(digest(&SHA256, text.as_bytes()).as_ref()));
    assert!(policy().contains(&source), "src/admin/console/mod.rs is to say: {source}");
}

#[test]
fn the_consoles_policy_names_its_script() {
    is_the_digest_in_the_policy("script-src", between("<script type=\"module\">", "</script>"));
}

#[test]
fn the_consoles_policy_names_its_style() {
    is_the_digest_in_the_policy("style-src", between("<style>", "</style>"));
}

#[test]
fn the_consoles_policy_lets_in_nothing_else() {
    let allowed = |part: &str| match part.trim().split_once(' ') {
        Some(("script-src" | "style-src", source)) => source.starts_with("'sha256-") && !source.contains(' '),
        Some((directive, source)) => matches!(
            (directive, source),
            ("default-src" | "base-uri" | "form-action" | "frame-ancestors" | "trusted-types", "'none'")
                | ("connect-src", "'self'")
                | ("img-src", "data:")
                | ("require-trusted-types-for", "'script'")
        ),
        None => false,
    };
    let parts: Vec<_> = policy().split(';').collect();
    assert_eq!(parts.len(), 10);
    assert!(parts.into_iter().all(allowed), "{}", policy());
}

#[test]
fn the_console_fetches_nothing_from_anywhere_else() {
    let (_, page) = page();
    for fetch in ["://", "\"//", "'//", "`//", " src=", "url(", "@import", "import(", "importScripts"] {
        assert!(!page.contains(fetch), "the page holds {fetch}");
    }
    let mut links = page.split("href=\"").skip(1);
    assert!(
        links.all(|link| link.starts_with('#') || link.starts_with("data:,\"")),
        "a link leads elsewhere"
    );
}

#[test]
fn the_console_neither_makes_markup_of_data_nor_keeps_any() {
    let (_, page) = page();
    let makes = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("];
    let keeps = ["localStorage", "sessionStorage", "indexedDB", ".cookie", "caches."];
    for word in makes.into_iter().chain(keeps) {
        assert!(!page.contains(word), "the page holds {word}");
    }
}

#[test]
fn the_console_is_small() {
    let (_, page) = page();
    assert!(page.len() < BYTES_MAX, "{} bytes", page.len());
}
