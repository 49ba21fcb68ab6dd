//! An HTTP/1.1 message read from bytes, strictly: whatever two readers could take differently is a fault.
//!
//! Shares no code with the gateway. Source: RFC 9112.

/// Field lines in order, names in lower case.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// A message as far as it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) start: Vec<u8>,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

/// What was made of some bytes.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Not even a head.
    Nothing,
    /// A head, and some of a body.
    Begun(Message),
    /// All of it, in this many bytes.
    Whole(Message, usize),
    /// Bytes that no well-behaved peer sends.
    Fault(&'static str),
}

/// How a body ends that nothing is said about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unframed {
    /// There is none, as with requests.
    Empty,
    /// With the connection, which has not ended.
    Open,
    /// With the connection, which has.
    Ended,
    /// There is none, whatever the fields say: the answer to a HEAD, for example.
    Forbidden,
}

/// Reads the message at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8], unframed: impl FnOnce(&[u8]) -> Unframed) -> Reading {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if find(bytes, b"\n\n").is_some() {
            Reading::Fault("bare line feeds")
        } else {
            Reading::Nothing
        };
    };
    let (head, rest) = bytes.split_at(end + 4);
    let mut lines = split_lines(head.get(..end).unwrap_or_default());
    let start = lines.next().unwrap_or_default().to_vec();
    if start.iter().any(u8::is_ascii_control) {
        return Reading::Fault("a control byte in the start line");
    }
    let unframed = unframed(&start);
    let mut message = Message { start, ..Message::default() };
    for line in lines {
        match field(line) {
            Ok(field) => message.fields.push(field),
            Err(fault) => return Reading::Fault(fault),
        }
    }
    let framing = match framing(&message.fields, unframed) {
        Ok(framing) => framing,
        Err(fault) => return Reading::Fault(fault),
    };
    let head_len = end + 4;
    match framing {
        Framing::Length(length) => {
            let body = rest.get(..length);
            message.body = body.unwrap_or(rest).to_vec();
            if body.is_some() { Reading::Whole(message, head_len + length) } else { Reading::Begun(message) }
        }
        Framing::Rest(is_over) => {
            message.body = rest.to_vec();
            if is_over { Reading::Whole(message, bytes.len()) } else { Reading::Begun(message) }
        }
        Framing::Chunked => chunked(message, rest, head_len),
    }
}

enum Framing {
    Length(usize),
    Chunked,
    Rest(bool),
}

fn framing(fields: &Fields, unframed: Unframed) -> Result<Framing, &'static str> {
    let values = |wanted: &'static str| {
        fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_slice())
    };
    let (lengths, codings) = (values("content-length").count(), values("transfer-encoding").count());
    if lengths > 1 || codings > 1 || (lengths > 0 && codings > 0) {
        return Err("framed more than once");
    }
    if unframed == Unframed::Forbidden {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = values("transfer-encoding").next() {
        let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        return if is_chunked { Ok(Framing::Chunked) } else { Err("a transfer coding other than chunked") };
    }
    if let Some(length) = values("content-length").next() {
        return number(length, 10).map(Framing::Length).ok_or("a length that is none");
    }
    match unframed {
        Unframed::Empty | Unframed::Forbidden => Ok(Framing::Length(0)),
        Unframed::Open => Ok(Framing::Rest(false)),
        Unframed::Ended => Ok(Framing::Rest(true)),
    }
}

fn chunked(mut message: Message, rest: &[u8], head_len: usize) -> Reading {
    let mut at = 0;
    loop {
        let left = rest.get(at..).unwrap_or_default();
        let Some(end) = find(left, b"\r\n") else { return Reading::Begun(message) };
        let line = left.get(..end).unwrap_or_default();
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let Some(size) = number(digits, 16) else { return Reading::Fault("a chunk size that is none") };
        at += end + 2;
        if size == 0 {
            break;
        }
        let left = rest.get(at..).unwrap_or_default();
        let Some(data) = left.get(..size) else {
            message.body.extend_from_slice(left);
            return Reading::Begun(message);
        };
        message.body.extend_from_slice(data);
        match left.get(size..size + 2) {
            Some(b"\r\n") => at += size + 2,
            Some(_) => return Reading::Fault("a chunk that does not end where its size says"),
            None => return Reading::Begun(message),
        }
    }
    loop {
        let left = rest.get(at..).unwrap_or_default();
        let Some(end) = find(left, b"\r\n") else { return Reading::Begun(message) };
        let line = left.get(..end).unwrap_or_default();
        at += end + 2;
        if line.is_empty() {
            return Reading::Whole(message, head_len + at);
        }
        match field(line) {
            Ok(field) => message.trailers.push(field),
            Err(fault) => return Reading::Fault(fault),
        }
    }
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err("a line without a colon");
    };
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("a field name that is no token");
    }
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err("CR, LF or NUL in a field's value");
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii().to_vec()))
}

fn split_lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        if let Some(at) = find(bytes, b"\r\n") {
            let (line, rest) = bytes.split_at(at);
            bytes = rest.get(2..).unwrap_or_default();
            Some(line)
        } else {
            is_over = true;
            Some(bytes)
        }
    })
}

/// Every value of this name, joined as a list.
pub(crate) fn joined(fields: &Fields, wanted: &str) -> Option<Vec<u8>> {
    let values: Vec<_> =
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_slice()).collect();
    (!values.is_empty()).then(|| values.join(&b", "[..]))
}

/// Where `wanted` begins.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len().max(1)).position(|window| window == wanted)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn number(digits: &[u8], radix: u32) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    text.chars().all(|digit| digit.is_digit(radix)).then(|| usize::from_str_radix(text, radix).ok())?
}
