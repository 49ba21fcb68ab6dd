//! The paragraphs of the table, read. `mod.rs` says how they are written.

/// What a case sends, waits for and expects.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) rule: String,
    /// The first segment of every path in it.
    pub(crate) token: String,
    pub(crate) send: Vec<Step>,
    /// The bytes of the upstream, if it does not answer by itself.
    pub(crate) answer: Option<Vec<Step>>,
    pub(crate) right: Vec<Outcome>,
    pub(crate) with: Vec<(String, Vec<u8>)>,
    pub(crate) without: Vec<(String, Vec<u8>)>,
}

/// What one side does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Pause,
    HalfClose,
    AwaitAnswer,
    Close,
    Reset,
}

/// One way for a case to end well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<Awaited>,
    also: Vec<Also>,
    /// `None`: whatever reaches the upstream is right.
    pub(crate) requests: Option<Vec<Wanted>>,
}

/// What else belongs to an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Also {
    /// The connection to the caller ends.
    Closed,
    /// The last answer breaks off.
    Cut,
    /// No interim answer came.
    Uninvited,
    /// The upstream may have seen the beginning of a request.
    Unfinished,
}

/// An answer to be.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    pub(crate) status: Status,
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Exactly(u16),
    Class(u16),
    Refusal,
}

/// A request that must reach the upstream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// What is wrong with a paragraph.
#[derive(Debug)]
pub(crate) struct Misspelt(String);

impl std::error::Error for Misspelt {}

impl std::fmt::Display for Misspelt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "read a case of the table: {}", self.0)
    }
}

impl Case {
    /// The same with `old` replaced wherever its caller says it, and wherever it must arrive.
    pub(crate) fn with(mut self, old: &str, new: &str) -> Self {
        for step in &mut self.send {
            if let Step::Send(bytes) = step {
                *bytes = replaced(bytes, old.as_bytes(), new.as_bytes());
            }
        }
        let words = old.split_once(' ').zip(new.split_once(' '));
        for wanted in self.right.iter_mut().filter_map(|outcome| outcome.requests.as_mut()).flatten() {
            if let Some(((old, _), (new, _))) = words
                && wanted.method == old
            {
                new.clone_into(&mut wanted.method);
            }
        }
        self
    }

    /// Whether its caller says `text` exactly once.
    pub(crate) fn asks_once(&self, text: &str) -> bool {
        let sent = self.send.iter().map(|step| match step {
            Step::Send(bytes) => {
                bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
            }
            Step::Pause | Step::HalfClose | Step::AwaitAnswer | Step::Close | Step::Reset => 0,
        });
        sent.sum::<usize>() == 1
    }
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let (mut made, mut left) = (Vec::new(), bytes);
    while let Some(at) = super::message::find(left, old) {
        made.extend_from_slice(left.get(..at).unwrap_or_default());
        made.extend_from_slice(new);
        left = left.get(at + old.len()..).unwrap_or_default();
    }
    made.extend_from_slice(left);
    made
}

/// The cases in which a caller misbehaves, or does not.
pub(crate) fn requests() -> Result<Vec<Case>, Misspelt> {
    cases(include_str!("requests.txt"), 'r')
}

/// The cases in which an upstream does.
pub(crate) fn answers() -> Result<Vec<Case>, Misspelt> {
    cases(include_str!("answers.txt"), 'a')
}

fn cases(text: &str, letter: char) -> Result<Vec<Case>, Misspelt> {
    let is_case = |paragraph: &&str| !paragraph.trim().is_empty() && !paragraph.starts_with('#');
    let paragraphs = text.split("\n\n").filter(is_case).enumerate();
    paragraphs.map(|(number, paragraph)| case(paragraph, format!("{letter}{number:03}"))).collect()
}

fn case(paragraph: &str, token: String) -> Result<Case, Misspelt> {
    let misspelt = || Misspelt(paragraph.to_owned());
    let mut lines = paragraph.lines();
    let (name, rule) = lines.next().and_then(|line| line.split_once(" · ")).ok_or_else(misspelt)?;
    let (mut send, mut answer) = (String::new(), None::<String>);
    let (mut right, mut with, mut without) = (None, Vec::new(), Vec::new());
    for line in lines {
        let (kind, rest) = line.split_at_checked(2).ok_or_else(misspelt)?;
        match kind {
            "> " => send.push_str(rest),
            "< " => answer.get_or_insert_default().push_str(rest),
            "= " => right = Some(rest),
            "+ " => with.push(field(rest, &token)),
            "- " => without.push(field(rest, &token)),
            _ => return Err(misspelt()),
        }
    }
    if send.is_empty() {
        send.push_str("GET /@ HTTP/1.1⏎Host: h⏎⏎");
    }
    let outcomes = right.ok_or_else(misspelt)?.split(" | ");
    let right = outcomes.map(|text| outcome(text, &token, answer.is_some())).collect::<Result<_, _>>()?;
    Ok(Case {
        name: name.to_owned(),
        rule: rule.to_owned(),
        send: steps(&send, &token),
        answer: answer.map(|text| steps(&text, &token)),
        right,
        with,
        without,
        token,
    })
}

fn field(text: &str, token: &str) -> (String, Vec<u8>) {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    (name.to_ascii_lowercase(), bytes(value.trim(), token))
}

fn outcome(text: &str, token: &str, is_answered: bool) -> Result<Outcome, Misspelt> {
    let (words, wanted) = match text.split_once(" → ") {
        Some((words, wanted)) => (words, Some(wanted)),
        None => (text, None),
    };
    let mut outcome = Outcome { requests: (!is_answered).then(Vec::new), ..Outcome::default() };
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        outcome.read(word, token).ok_or_else(|| Misspelt(text.to_owned()))?;
    }
    if let Some(wanted) = wanted {
        outcome.requests = Some(wanted.split(", ").map(|text| self::wanted(text, token)).collect());
    }
    Ok(outcome)
}

impl Outcome {
    pub(crate) fn is(&self, also: Also) -> bool {
        self.also.contains(&also)
    }

    fn read(&mut self, word: &str, token: &str) -> Option<()> {
        match word {
            "close" | "silent" => self.also.push(Also::Closed),
            "cut" => self.also.push(Also::Cut),
            "uninvited" => self.also.push(Also::Uninvited),
            "unfinished" => self.also.push(Also::Unfinished),
            "refused" | "broken" => {
                self.answers.push(Awaited { status: Status::Refusal, body: None });
                self.also.push(Also::Closed);
                if word == "broken" {
                    self.also.push(Also::Unfinished);
                }
            }
            _ => match word.strip_prefix('"') {
                // A body with blanks in it comes in several words.
                Some(body) => self.answers.last_mut()?.body = Some(bytes(body, token)),
                None if word.ends_with("xx") => {
                    let class = word.get(..1)?.parse().ok()?;
                    self.answers.push(Awaited { status: Status::Class(class), body: None });
                }
                None if word.parse::<u16>().is_ok() => {
                    let status = Status::Exactly(word.parse().ok()?);
                    self.answers.push(Awaited { status, body: None });
                }
                None => {
                    let body = self.answers.last_mut()?.body.as_mut()?;
                    body.push(b' ');
                    body.extend(bytes(word, token));
                }
            },
        }
        if let Some(body) = self.answers.last_mut().and_then(|answer| answer.body.as_mut())
            && word.ends_with('"')
            && body.ends_with(b"\"")
        {
            body.pop();
        }
        Some(())
    }
}

fn wanted(text: &str, token: &str) -> Wanted {
    let (line, body) = text.split_once(" \"").unwrap_or((text, "\""));
    let (method, target) = line.split_once(' ').unwrap_or((line, ""));
    Wanted {
        method: method.to_owned(),
        target: bytes(target, token),
        body: bytes(body.strip_suffix('"').unwrap_or(body), token),
    }
}

fn steps(text: &str, token: &str) -> Vec<Step> {
    let (mut steps, mut left) = (Vec::new(), text);
    while !left.is_empty() {
        let next = ["{pause}", "{half-close}", "{answer}", "{close}", "{reset}"]
            .into_iter()
            .filter_map(|mark| left.find(mark).map(|at| (at, mark)))
            .min();
        let (at, mark) = next.unwrap_or((left.len(), ""));
        let (before, rest) = left.split_at(at);
        if !before.is_empty() {
            steps.push(Step::Send(bytes(before, token)));
        }
        match mark {
            "{pause}" => steps.push(Step::Pause),
            "{half-close}" => steps.push(Step::HalfClose),
            "{answer}" => steps.push(Step::AwaitAnswer),
            "{close}" => steps.push(Step::Close),
            "{reset}" => steps.push(Step::Reset),
            _ => {}
        }
        left = rest.strip_prefix(mark).unwrap_or_default();
    }
    steps
}

fn bytes(text: &str, token: &str) -> Vec<u8> {
    let (mut bytes, mut left) = (Vec::new(), text);
    while let Some(letter) = left.chars().next() {
        left = left.strip_prefix(letter).unwrap_or_default();
        match letter {
            '⏎' => bytes.extend_from_slice(b"\r\n"),
            '@' => bytes.extend_from_slice(token.as_bytes()),
            '{' => {
                let (inside, after) = left.split_once('}').unwrap_or((left, ""));
                let (what, count) = inside.rsplit_once('*').unwrap_or((inside, "1"));
                bytes.extend(self::bytes(what, token).repeat(count.parse().unwrap_or(1)));
                left = after;
            }
            '\\' => {
                let (escape, after) = escape(left);
                bytes.push(escape);
                left = after;
            }
            _ => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn escape(text: &str) -> (u8, &str) {
    let (letter, rest) = text.split_at_checked(1).unwrap_or((text, ""));
    match letter {
        "n" => (b'\n', rest),
        "r" => (b'\r', rest),
        "t" => (b'\t', rest),
        "x" => {
            let (digits, rest) = rest.split_at_checked(2).unwrap_or((rest, ""));
            (u8::from_str_radix(digits, 16).unwrap_or_default(), rest)
        }
        _ => (letter.bytes().next().unwrap_or_default(), rest),
    }
}
