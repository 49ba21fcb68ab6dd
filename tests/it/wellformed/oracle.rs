//! Whether what an upstream got came from what a caller sent: each request from exactly one, in order, and nothing
//! from what is malformed.
//!
//! Must not know sockets. Read `grammar.rs` before, `origin.rs` for who receives.

use super::grammar::{Head, Request, Requests};

/// What an upstream got from one caller, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Whole(Request),
    /// The head of one whose body broke off.
    Broken(Head),
    /// Bytes that are no request.
    Garbage(Vec<u8>, &'static str),
}

/// Says what is wrong if something of `got` did not come from `sent`.
pub(crate) fn objection(sent: &[u8], got: &[Got]) -> Option<String> {
    let requests = Requests::of(sent);
    let mut left = requests.whole.iter();
    for got in got {
        let is_found = match got {
            Got::Whole(got) => left.any(|sent| is_same(sent, got)),
            Got::Broken(got) => {
                let whole = left.clone().map(|request| &request.head);
                whole.chain(&requests.broken).any(|sent| is_same_head(sent, got))
            }
            Got::Garbage(..) => false,
        };
        if !is_found {
            return Some(format!(
                "the upstream got {}\nof what was sent ({}):\n{}",
                got.shown(),
                requests.end,
                sent.escape_ascii()
            ));
        }
    }
    None
}

impl Got {
    fn shown(&self) -> String {
        match self {
            Self::Whole(request) => format!("{}{}", request.head.shown(), request.body.escape_ascii()),
            Self::Broken(head) => format!("{}(broken off)", head.shown()),
            Self::Garbage(bytes, why) => format!("no request ({why}): {}", bytes.escape_ascii()),
        }
    }
}

impl Head {
    fn shown(&self) -> String {
        let lines = self.fields.iter().map(|(name, value)| format!("{name}: {}\\r\\n", value.escape_ascii()));
        format!("{} {} {}\\r\\n", self.method, self.target, lines.collect::<String>())
    }
}

fn is_same(sent: &Request, got: &Request) -> bool {
    is_same_head(&sent.head, &got.head)
        && sent.body == got.body
        && got.trailers.iter().all(|trailer| sent.trailers.contains(trailer))
}

fn is_same_head(sent: &Head, got: &Head) -> bool {
    let (target, authority) = origin_form(&sent.target);
    let host = authority.map(str::as_bytes).or_else(|| sent.all("host").first().copied());
    sent.method == got.method
        && target == got.target
        && host.is_none_or(|host| got.all("host") == [host])
        && end_to_end(sent, sent, is_taken_from_a_caller) == end_to_end(got, sent, is_made_anew)
}

/// RFC 9112 §3.2.2: what an absolute target asks for at its origin.
fn origin_form(target: &str) -> (String, Option<&str>) {
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return (target.to_owned(), None);
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if path.starts_with('/') { "" } else { "/" };
    (format!("{slash}{path}"), Some(authority))
}

/// The fields that a gateway hands on as they are, without those that are `not_handed_on`; each name's values in order.
fn end_to_end(head: &Head, sent: &Head, not_handed_on: fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let named = sent.list("connection");
    let mut fields = head.fields.clone();
    fields.retain(|(name, _)| !not_handed_on(name) && !named.contains(name));
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// Whether a gateway writes a field of this name itself.
fn is_made_anew(name: &str) -> bool {
    const MADE_ANEW: &[&str] = &[
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "trailer",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    MADE_ANEW.contains(&name)
}

/// Whether a caller's field of this name ends here: one that is made anew, or that another server reads as such (to
/// CGI and its like, `Content_Length` is `Content-Length`), or, since the gateway is set to `forwarded = "replace"`,
/// any other word on where the request came from.
fn is_taken_from_a_caller(name: &str) -> bool {
    const TELL_AN_ORIGIN: &[&str] = &["x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip"];
    let read = name.replace('_', "-");
    is_made_anew(&read) || read.starts_with("x-forwarded-") || TELL_AN_ORIGIN.contains(&read.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wellformed::grammar::{Next, next};

    const SENT: &[u8] =
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nxPOST /b HTTP/1.1\r\nHost: h\r\n\r\nX";

    fn got(bytes: &str) -> Got {
        let Next::Whole(request, _) = next(bytes.as_bytes()) else { panic!("no request: {bytes}") };
        Got::Whole(*request)
    }

    #[test]
    fn what_was_sent_is_accepted_in_its_order() {
        let first = got(
            "POST /a HTTP/1.1\r\nHost: h\r\nVia: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        );
        let second = got("POST /b HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(objection(SENT, &[first.clone(), second.clone()]), None);
        assert_eq!(objection(SENT, std::slice::from_ref(&second)), None);
        assert!(objection(SENT, &[second, first]).is_some());
    }

    #[test]
    fn a_callers_word_on_where_it_came_from_does_not_travel() {
        let sent = b"GET /a HTTP/1.1\r\nHost: h\r\nX_Forwarded_Gor: x\r\nX-Real-IP: y\r\n\r\n";
        assert_eq!(objection(sent, &[got("GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: z\r\n\r\n")]), None);
        assert!(objection(sent, &[got("GET /a HTTP/1.1\r\nHost: h\r\nX-Real-IP: y\r\n\r\n")]).is_some());
    }

    #[test]
    fn what_was_not_sent_is_told() {
        for bytes in [
            "POST /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: other\r\nContent-Length: 1\r\n\r\nx",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nNew: y\r\n\r\nx",
            "POST /b HTTP/1.1\r\nHost: h\r\nX-Forwarded-Port: 1\r\n\r\n",
            "POST /c HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert!(objection(SENT, &[got(bytes)]).is_some(), "{bytes:?}");
        }
        let twice = got("POST /b HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(objection(SENT, &[twice.clone(), twice]).is_some());
    }
}
