//! A table of HTTP/1.1 as raw bytes, the rule that each case obeys or breaks, and what is right: `requests.txt`
//! plays a caller, `answers.txt` an upstream. `tests/it/raw_bytes.rs` holds the gateway to it, and
//! `benches/suites/` runs it against other proxies too. Must not know which proxy stands between.
//!
//! A case is a paragraph:
//!
//! ```text
//! name · the rule
//! > bytes of the caller          (several lines are joined; left out: a plain GET)
//! < bytes of the upstream        (left out: it answers 200 with a line that tells the request)
//! = outcome | another one that is right too
//! + name: value                  (the far side must see it; several of one name in this order)
//! - name, or name: value         (the far side must not see it)
//! ```
//!
//! In bytes, `⏎` is CR LF, `\n \r \t \\ \xHH` are what they are in Rust, `@` is the case's own path segment,
//! `{x*100}` is a hundred of `x`, `{pause}` lets the bytes so far go, `{half-close}` ends one direction,
//! `{answer}` waits for one more answer, `{close}` and `{reset}` end the connection.
//!
//! An outcome is the answers in order, then what reaches the upstream, whole and well-formed, after `→`; nothing
//! does where there is no `→` (in `answers.txt` it is left open). `2xx` is a class and `"…"` a body. Words:
//! `close`, the connection ends; `cut`, the answer breaks off; `silent`, it ends without an answer; `unfinished`,
//! the upstream may have seen the beginning of a request; `uninvited`, without a 100; `refused`, one of 400 to
//! 499, 501 and 505, and `close`; `broken`, the same and `unfinished`.
//!
//! Read `case.rs` (the paragraphs), `message.rs` (bytes read strictly), `service.rs` (the upstream), `play.rs` (the
//! caller), `verdict.rs` (was it right?).

mod case;
pub(crate) mod message;
mod play;
mod service;
mod verdict;

use std::time::Instant;

pub(crate) use case::{Case, answers, requests};
pub(crate) use play::{Patience, Seen, play};
pub(crate) use service::Service;
pub(crate) use verdict::{judge, of_case};

#[expect(clippy::disallowed_methods, reason = "deadlines of a caller that is no part of the gateway")]
fn now() -> Instant {
    Instant::now()
}
