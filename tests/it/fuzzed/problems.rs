//! Whatever a caller says, each problem document that it gets is one by the letter of RFC 9457, and shows nothing that
//! may be secret.
//!
//! The bytes are what the caller says on one connection. `s3cr3t` stands in them for credentials and keys.

use serde_json::{Map, Value};

use super::grammar::Requests;
use super::place::{self, Answer, Gateway};

const SECRET: &str = "s3cr3t";

/// A gateway whose upstream nobody ever reaches, so that it has to answer everything by itself.
pub(crate) struct Stage(Gateway);

impl Stage {
    pub(crate) fn start() -> Self {
        Self(place::gateway(
            "header_bytes_max = \"2KiB\"\nheader_count_max = 20\ntarget_bytes_max = \"256B\"",
            "",
            "[upstreams.closed]\nurl = \"http://127.0.0.1:1\"\n\
             [[routes]]\npath = \"/required\"\nkey = \"required\"\nupstream = \"closed\"\nrequest_body_max = \"16B\"\n\
             [[routes]]\npath = \"/uuid\"\nkey_format = \"uuid\"\nupstream = \"closed\"\n\
             [[routes]]\npath = \"/strict\"\nkey_format = \"sf-string\"\nkey_max_length = 8\nupstream = \"closed\"\n\
             [[routes]]\npath = \"/known\"\nscope = [\"header:X-Account\"]\nscope_missing = \"reject\"\n\
             upstream = \"closed\"\n\
             [[routes]]\npath = \"/inside\"\nkey_from = [\"json:/key\", \"header:Idempotency-Key\"]\n\
             fingerprint_body = \"json\"\nupstream = \"closed\"\n\
             [[routes]]\npath = \"/v1/{*rest}\"\nkey = \"off\"\nupstream = \"closed\"\n",
        ))
    }

    pub(crate) fn bear(&self, bytes: &[u8]) {
        let back = place::said_back(self.0.callers, bytes);
        let heads = methods(bytes);
        let (mut rest, mut count) = (back.as_slice(), 0);
        while !rest.is_empty() {
            let is_head = heads.get(count).is_some_and(|method| method == "HEAD");
            let read = |is_head| {
                place::answer(rest, is_head).unwrap_or_else(|why| panic!("{why}: {}", shown(bytes, &back)))
            };
            let (mut answer, mut used) = read(is_head);
            // Whoever said HEAD expects no body, however malformed the rest of the line is.
            if !answer.is_whole && count >= heads.len() && holds_head(bytes) {
                (answer, used) = read(true);
            }
            assert!(answer.is_whole, "cut short: {}", shown(bytes, &back));
            if !is_head && !answer.message.body.is_empty() && answer.status >= 400 {
                expect_problem(&answer, bytes);
            }
            rest = &rest[used..];
            count += 1;
        }
        // A caller may name its request, and hears that name again.
        let is_named = String::from_utf8_lossy(bytes).to_ascii_lowercase().contains("x-request-id");
        let text = String::from_utf8_lossy(&back);
        assert!(is_named || !text.contains(SECRET), "a secret is shown: {}", shown(bytes, &back));
    }
}

fn expect_problem(answer: &Answer, said: &[u8]) {
    let body = &answer.message.body;
    let told = shown(said, body);
    assert_eq!(answer.field("content-type"), "application/problem+json", "{told}");
    assert_eq!(answer.field("cache-control"), "no-store", "{told}");
    let document: Map<String, Value> =
        serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {told}"));
    let text =
        |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {told}"));
    assert_eq!(document.get("status").and_then(Value::as_u64), Some(answer.status.into()), "{told}");
    assert!(document.get("retry_same_key").is_some_and(Value::is_boolean), "{told}");
    assert_eq!(text("type"), format!("urn:onceway:problem:{}", text("code")), "{told}");
    assert!(text("instance").starts_with("urn:uuid:") && !text("request_id").is_empty(), "{told}");
    assert!(!text("title").is_empty() && text("detail").ends_with('.'), "{told}");
    assert!(!body.iter().any(u8::is_ascii_control), "{told}");
}

fn holds_head(bytes: &[u8]) -> bool {
    bytes.windows(5).any(|window| window == b"HEAD ")
}

/// The methods of the requests in `bytes`, as far as they are well-formed.
fn methods(bytes: &[u8]) -> Vec<String> {
    let requests = Requests::of(bytes);
    let whole = requests.whole.into_iter().map(|request| request.head.method);
    whole.chain(requests.broken.map(|head| head.method)).collect()
}

fn shown(said: &[u8], back: &[u8]) -> String {
    format!("{}\nwas answered {}", said.escape_ascii(), back.escape_ascii())
}

#[test]
fn whatever_was_tried_gets_problem_documents_that_are_well_formed_and_show_nothing() {
    let stage = Stage::start();
    super::try_each("problems", |bytes| stage.bear(bytes));
}
