//! Requests by the letter of RFC 9112, read straight and slowly: what is not in the grammar is malformed.
//!
//! Shares no code with the gateway. Where the RFC lets a recipient be lenient (§2.2 bare line feeds, §5.2 folded
//! lines, §6.3 repeated lengths, blanks in chunk lines), this is not: two servers that are lenient in
//! different ways are how requests are smuggled. Read `oracle.rs` after.

/// Field lines: names in lower case, values without the blanks around them, in order.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) minor: u8,
    pub(crate) fields: Fields,
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

/// What bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, or empty lines.
    Nothing,
    /// A request, and how many bytes it takes.
    Whole(Box<Request>, usize),
    /// A request that the bytes end within; its head, if that is whole.
    Unfinished(Option<Box<Head>>),
    /// No request; its head, if that alone is one.
    Malformed(Option<Box<Head>>, &'static str),
}

/// All requests that one connection's bytes hold.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(crate) whole: Vec<Request>,
    /// The head of what follows, if its body is malformed or missing.
    pub(crate) broken: Option<Head>,
    /// Why no more is read.
    pub(crate) end: &'static str,
}

/// How a body is delimited.
enum Framing {
    Counted(usize),
    Chunked,
}

/// Why reading stopped.
enum Stop {
    Short,
    Wrong(&'static str),
}

impl Requests {
    pub(crate) fn of(mut bytes: &[u8]) -> Self {
        let mut whole = Vec::new();
        loop {
            let (broken, end) = match next(bytes) {
                Next::Whole(request, used) => {
                    bytes = &bytes[used..];
                    let is_last = request.head.is_last();
                    whole.push(*request);
                    if !is_last {
                        continue;
                    }
                    (None, "the connection ends with this request")
                }
                Next::Nothing => (None, "nothing more"),
                Next::Unfinished(head) => (head, "unfinished"),
                Next::Malformed(head, why) => (head, why),
            };
            return Self { whole, broken: broken.map(|head| *head), end };
        }
    }
}

impl Head {
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// The elements of a list, in lower case.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let joined = self.all(name).join(&b',');
        let elements = joined.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        elements.map(|element| String::from_utf8_lossy(element).to_ascii_lowercase()).collect()
    }

    /// RFC 9112 §9.6, §9.3.
    fn is_last(&self) -> bool {
        let options = self.list("connection");
        let has = |option: &str| options.iter().any(|found| found == option);
        has("close") || (self.minor == 0 && !has("keep-alive"))
    }

    /// RFC 9112 §6.3, without its leniency.
    fn framing(&self) -> Result<Framing, &'static str> {
        let (codings, lengths) = (self.all("transfer-encoding"), self.all("content-length"));
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => Ok(Framing::Counted(0)),
            ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                let length = std::str::from_utf8(length).unwrap().parse().ok();
                length.map(Framing::Counted).ok_or("a length too large")
            }
            ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && self.minor > 0 => {
                Ok(Framing::Chunked)
            }
            ([], _) => Err("not one length in digits"),
            (_, []) => Err("not the coding \"chunked\" alone, or in HTTP/1.0"),
            _ => Err("a length beside a coding"),
        }
    }
}

/// Reads the request that `bytes` begin with.
pub(crate) fn next(bytes: &[u8]) -> Next {
    let mut at = 0;
    // RFC 9112 §2.2: empty lines before a request are ignored.
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    if at == bytes.len() {
        return Next::Nothing;
    }
    let head = match head(bytes, &mut at) {
        Ok(head) => Box::new(head),
        Err(Stop::Short) => return Next::Unfinished(None),
        Err(Stop::Wrong(why)) => return Next::Malformed(None, why),
    };
    let framing = match head.framing() {
        Ok(framing) => framing,
        Err(why) => return Next::Malformed(None, why),
    };
    let content = match framing {
        Framing::Counted(length) => take(bytes, &mut at, length).map(|body| (body.to_vec(), Fields::new())),
        Framing::Chunked => chunks(bytes, &mut at),
    };
    match content {
        Ok((body, trailers)) => Next::Whole(Box::new(Request { head: *head, body, trailers }), at),
        Err(Stop::Short) => Next::Unfinished(Some(head)),
        Err(Stop::Wrong(why)) => Next::Malformed(Some(head), why),
    }
}

fn head(bytes: &[u8], at: &mut usize) -> Result<Head, Stop> {
    let start = line(bytes, at)?;
    let words: Vec<&[u8]> = start.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words.as_slice() else { return Err(Stop::Wrong("not three words")) };
    if !is_token(method) {
        return Err(Stop::Wrong("the method is no token"));
    }
    if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Stop::Wrong("the target holds what no target holds"));
    }
    let minor = match version.strip_prefix(b"HTTP/1.") {
        Some([minor @ b'0'..=b'9']) => minor - b'0',
        _ => return Err(Stop::Wrong("no version that is known")),
    };
    let fields = fields(bytes, at)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let head = Head { method: text(method), target: text(target), minor, fields };
    let hosts = head.all("host");
    if hosts.len() > 1 || (minor > 0 && hosts.is_empty()) {
        return Err(Stop::Wrong("not one Host"));
    }
    let is_host = |host: &[u8]| host.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\".contains(byte));
    if !hosts.iter().all(|host| is_host(host)) {
        return Err(Stop::Wrong("a Host that is none"));
    }
    Ok(head)
}

/// Field lines up to the empty line.
fn fields(bytes: &[u8], at: &mut usize) -> Result<Fields, Stop> {
    let mut fields = Fields::new();
    loop {
        let line = line(bytes, at)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let colon =
            line.iter().position(|byte| *byte == b':').ok_or(Stop::Wrong("a line without a colon"))?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            return Err(Stop::Wrong("a field's name is no token"));
        }
        if !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
            return Err(Stop::Wrong("a control byte in a field's value"));
        }
        fields.push((String::from_utf8(name.to_ascii_lowercase()).unwrap(), value.to_vec()));
    }
}

/// RFC 9112 §7.1.
fn chunks(bytes: &[u8], at: &mut usize) -> Result<(Vec<u8>, Fields), Stop> {
    let mut body = Vec::new();
    loop {
        let line = line(bytes, at)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extensions) = line.split_at(digits);
        let size = std::str::from_utf8(size).unwrap();
        let size = usize::from_str_radix(size, 16).ok().ok_or(Stop::Wrong("no chunk size"))?;
        if !are_extensions(extensions) {
            return Err(Stop::Wrong("no chunk extensions"));
        }
        if size == 0 {
            return Ok((body, fields(bytes, at)?));
        }
        body.extend_from_slice(take(bytes, at, size)?);
        if !self::line(bytes, at)?.is_empty() {
            return Err(Stop::Wrong("more data than the chunk has"));
        }
    }
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )`, without blanks.
fn are_extensions(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(rest) = text.strip_prefix(b";") else { return false };
        let name = rest.iter().take_while(|byte| is_token(&[**byte])).count();
        text = &rest[name..];
        if name == 0 {
            return false;
        }
        let Some(value) = text.strip_prefix(b"=") else { continue };
        let length = if value.starts_with(b"\"") {
            quoted(value)
        } else {
            value.iter().take_while(|byte| is_token(&[**byte])).count()
        };
        if length == 0 {
            return false;
        }
        text = &value[length..];
    }
    true
}

/// The length of a quoted string, 0 if it is none.
fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' if text.get(at + 1).is_some_and(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) => {
                at += 2;
            }
            b'\t' | b' '..=b'[' | b']'..=b'~' | 0x80.. => at += 1,
            _ => return 0,
        }
    }
    0
}

/// The next line, whose end is CR LF and which holds neither of the two otherwise.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Stop> {
    let rest = &bytes[*at..];
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).ok_or(Stop::Short)?;
    match &rest[end..] {
        [b'\r', b'\n', ..] => {
            *at += end + 2;
            Ok(&rest[..end])
        }
        [b'\r'] => Err(Stop::Short),
        _ => Err(Stop::Wrong("a bare CR or LF")),
    }
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, length: usize) -> Result<&'a [u8], Stop> {
    let taken = bytes[*at..].get(..length).ok_or(Stop::Short)?;
    *at += length;
    Ok(taken)
}

fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let from = value.iter().position(is_text).unwrap_or(value.len());
    let to = value.iter().rposition(is_text).map_or(from, |last| last + 1);
    &value[from..to]
}

/// RFC 9110 §5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_one_after_the_other_up_to_the_first_that_is_none() {
        let bytes = b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy\
            POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b;\"\r\nxy\r\n0\r\nT: v\r\n\r\n\
            GET /d HTTP/1.1\nHost: h\r\n\r\nGET /e HTTP/1.1\r\nHost: h\r\n\r\n";
        let requests = Requests::of(bytes);
        let targets: Vec<_> = requests.whole.iter().map(|request| request.head.target.as_str()).collect();
        assert_eq!((targets, requests.end), (vec!["/a", "/b", "/c"], "a bare CR or LF"));
        assert_eq!(requests.whole[2].trailers, [("t".to_owned(), b"v".to_vec())]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_malformed() {
        for lines in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +1\r\n",
            "Transfer-Encoding: x, chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Host: h\r\n",
            "A: b\r\n c\r\n",
            "A: \0\r\n",
            "A: b\n",
            ": b\r\n",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n1\r\nx\r\n0\r\n\r\n");
            assert!(matches!(next(bytes.as_bytes()), Next::Malformed(None, _)), "{lines:?}");
        }
    }
}
