//! Requests and answers as bytes, for the callers and the services of the world, who speak HTTP/1.1 by hand.
//!
//! Must not know who sends what to whom.

use std::fmt::Write as _;

/// An answer as it is given and as it is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case, in order.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// How an answer's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
}

/// What the bytes received so far are.
#[derive(Debug)]
pub(super) enum Received<T> {
    /// More must come.
    Part,
    /// They cannot become what was expected.
    Broken,
    /// A whole message, and how many bytes it took.
    Whole(T, usize),
}

/// A request as a service receives it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// The value of the first field of this name.
pub(super) fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(at, _)| at == name).map(|(_, value)| value.as_str())
}

/// A request as bytes.
pub(super) fn request(path: &str, authorization: &str, key: &str, body: &[u8], is_chunked: bool) -> Vec<u8> {
    let framing = if is_chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", body.len())
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: api.test\r\nAuthorization: {authorization}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\n{framing}\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    if is_chunked {
        bytes.extend(chunks(body));
    } else {
        bytes.extend(body);
    }
    bytes
}

fn chunks(body: &[u8]) -> Vec<u8> {
    let (first, second) = body.split_at(body.len() / 2);
    let mut bytes = Vec::new();
    for chunk in [first, second].into_iter().filter(|chunk| !chunk.is_empty()) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// An answer as bytes.
pub(super) fn answer(answer: &Answer, framing: Framing, closes: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
    for (name, value) in &answer.fields {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    match framing {
        Framing::Length => write!(head, "content-length: {}\r\n", answer.body.len()).unwrap(),
        Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::Close => {}
    }
    if closes {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    match framing {
        Framing::Length | Framing::Close => bytes.extend(&answer.body),
        Framing::Chunked => bytes.extend(chunks(&answer.body)),
    }
    bytes
}

/// Reads a request that a gateway has made.
pub(super) fn read_request(bytes: &[u8]) -> Received<Request> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut fields);
    let taken = match head.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) => return Received::Part,
        Err(_) => return Received::Broken,
    };
    let path = head.path.unwrap().to_owned();
    let fields = owned(head.headers);
    match read_body(&fields, &bytes[taken..], None) {
        Received::Part => Received::Part,
        Received::Broken => Received::Broken,
        Received::Whole(body, length) => Received::Whole(Request { path, fields, body }, taken + length),
    }
}

/// Reads a final answer; interim ones are passed over. `has_ended`: no more bytes come.
pub(super) fn read_answer(bytes: &[u8], has_ended: bool) -> Received<Answer> {
    let mut begun = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let taken = match head.parse(&bytes[begun..]) {
            Ok(httparse::Status::Complete(taken)) => taken,
            Ok(httparse::Status::Partial) if has_ended => return Received::Broken,
            Ok(httparse::Status::Partial) => return Received::Part,
            Err(_) => return Received::Broken,
        };
        begun += taken;
        let status = head.code.unwrap();
        if (100..200).contains(&status) {
            continue;
        }
        let fields = owned(head.headers);
        return match read_body(&fields, &bytes[begun..], Some(has_ended)) {
            Received::Part if has_ended => Received::Broken,
            Received::Part => Received::Part,
            Received::Broken => Received::Broken,
            Received::Whole(body, length) => Received::Whole(Answer { status, fields, body }, begun + length),
        };
    }
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect()
}

/// `ends`: of an answer, whether no more bytes come.
fn read_body(fields: &[(String, String)], bytes: &[u8], ends: Option<bool>) -> Received<Vec<u8>> {
    if field(fields, "transfer-encoding").is_some() {
        return read_chunks(bytes);
    }
    if let Some(length) = field(fields, "content-length") {
        let Ok(length) = length.parse::<usize>() else { return Received::Broken };
        return if bytes.len() < length {
            Received::Part
        } else {
            Received::Whole(bytes[..length].to_vec(), length)
        };
    }
    match ends {
        None => Received::Whole(Vec::new(), 0),
        Some(true) => Received::Whole(bytes.to_vec(), bytes.len()),
        Some(false) => Received::Part,
    }
}

fn read_chunks(bytes: &[u8]) -> Received<Vec<u8>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = bytes[at..].windows(2).position(|pair| pair == b"\r\n") else {
            return Received::Part;
        };
        let line = String::from_utf8_lossy(&bytes[at..at + end]).into_owned();
        let Ok(size) = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16) else {
            return Received::Broken;
        };
        at += end + 2;
        if bytes.len() < at + size + 2 {
            return Received::Part;
        }
        if size == 0 {
            return Received::Whole(body, at + 2);
        }
        body.extend(&bytes[at..at + size]);
        at += size + 2;
    }
}
