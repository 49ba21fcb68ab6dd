//! Rust files as far as the rules of `../tidy.rs` need to understand them: code told from comments and
//! strings, tests from the rest, functions from each other.
//!
//! A lexer, not a parser. Must not know the rules.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const NOT_OURS: &[&str] = &["target", "onceway-data", "vendor", "node_modules"];

/// A Rust file.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and the insides of strings and characters blanked, at the same offsets.
    pub(crate) code: String,
    tests_from: usize,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository but the lock file, by path from the root.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let texts = paths.iter().filter_map(|path| Some((name(path), fs::read_to_string(path).ok()?)));
    texts.filter(|(path, _)| path != "Cargo.lock").collect()
}

/// Every Rust file of the repository.
pub(crate) fn rust_files() -> Vec<Source> {
    let files = files();
    let in_tests: Vec<String> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_rust = |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "rs");
    let rust = files.into_iter().filter(|(path, _)| is_rust(path));
    let sources = rust.map(|(path, text)| {
        let is_test = in_tests.iter().any(|module| path.starts_with(module));
        let source = Source::new(&path, &text);
        if is_test { Source { tests_from: 0, ..source } } else { source }
    });
    sources.collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_hidden = name.starts_with('.') && name != ".ci";
        if path.is_dir() && !path.is_symlink() && !is_hidden && !NOT_OURS.contains(&name) {
            walk(&path, found);
        } else if path.is_file() && !is_hidden {
            found.push(path);
        }
    }
}

/// The paths of the modules that `path` declares for tests only: `#[cfg(test)]` before `mod name;`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    // What stands in the root's file stands beside it, as what stands in a folder's.
    let beside = path.strip_suffix("mod.rs").or_else(|| path.strip_suffix("lib.rs"));
    let folder = beside.map_or_else(|| path.replace(".rs", "/"), str::to_owned);
    let declared = text.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split_once(';'));
    let names = declared.map(|(name, _)| name).filter(|name| name.bytes().all(is_word));
    names.map(|name| format!("{folder}{name}")).collect()
}

/// The numbers of the lines of `text` that hold `word`.
pub(crate) fn lines_with(text: &str, word: &str) -> impl Iterator<Item = usize> {
    let lines = text.lines().enumerate().filter(move |(_, line)| line.contains(word));
    lines.map(|(index, _)| index + 1).collect::<Vec<_>>().into_iter()
}

/// The numbers of the lines of `text` where a path begins with `place`.
pub(crate) fn lines_with_path(text: &str, place: &str) -> impl Iterator<Item = usize> {
    let goes_on = |byte: u8| is_word(byte) || b"/.-})".contains(&byte);
    let begins = |line: &str| {
        line.match_indices(place).any(|(at, _)| match &line.as_bytes()[..at] {
            // A shell's "$dir"/place goes on where the quotes end.
            [.., before, b'"'] | [.., before] => !goes_on(*before),
            [] => true,
        })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| begins(line));
    lines.map(|(index, _)| index + 1).collect::<Vec<_>>().into_iter()
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blanked(text);
        let tests_from = if path.starts_with("tests/") {
            0
        } else {
            code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len())
        };
        Self { path: path.to_owned(), text: text.to_owned(), code, tests_from }
    }

    /// Whether it belongs to the product: not a test, a benchmark or an example.
    pub(crate) fn is_of_the_house(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// The folder of `src/` it stands in, or its own name where it stands beside them.
    pub(crate) fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = inside.split('/').next().unwrap_or(inside);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The comment that the file starts with.
    pub(crate) fn header(&self) -> &str {
        let end =
            self.text.split_inclusive('\n').take_while(|line| line.starts_with("//!")).map(str::len).sum();
        &self.text[..end]
    }

    /// What is built into the product.
    pub(crate) fn code_without_tests(&self) -> &str {
        &self.code[..self.tests_from]
    }

    /// Whether it is nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.tests_from == 0
    }

    /// The lines before the tests; all lines of a file that is nothing but tests.
    pub(crate) fn lines_without_tests(&self) -> usize {
        let end = if self.is_test() { self.text.len() } else { self.tests_from };
        self.text[..end].lines().count()
    }

    /// The rooms named by `crate::`, or by the library's name in the binary, each with its line.
    pub(crate) fn imports(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for library in ["crate", "onceway"] {
            for at in self.paths_from(library) {
                let rest = &self.code[at + library.len() + 2..];
                found.extend(first_segments(rest).into_iter().map(|room| (self.line_of(at), room)));
            }
        }
        found
    }

    /// The lines on which an outside crate is named.
    pub(crate) fn names_crate(&self, name: &str) -> Vec<usize> {
        self.paths_from(name).map(|at| self.line_of(at)).collect()
    }

    /// The lines on which so many `super::` stand in a row that the path leaves the room.
    pub(crate) fn climbs_out(&self) -> Vec<usize> {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let depth = inside.trim_end_matches("mod.rs").trim_end_matches('/').split('/').count();
        let starts = self.paths_from("super").filter(|at| {
            let rest = &self.code[*at..];
            let ups = (rest.len() - rest.trim_start_matches("super::").len()) / "super::".len();
            ups >= depth + usize::from(*at >= self.tests_from && self.tests_from > 0)
        });
        starts.map(|at| self.line_of(at)).collect()
    }

    /// The names behind `StatusCode::` outside tests, each with its line.
    pub(crate) fn status_codes(&self) -> Vec<(usize, String)> {
        let code = self.code_without_tests();
        let named = code.match_indices("StatusCode::");
        named.map(|(at, path)| (self.line_of(at), word_at(&code[at + path.len()..]))).collect()
    }

    /// Every function: the line it starts on, its name, and its number of lines.
    pub(crate) fn functions(&self) -> Vec<(usize, String, usize)> {
        let mut found = Vec::new();
        for (at, keyword) in self.code.match_indices("fn ") {
            let is_word_before = self.code.as_bytes()[..at].last().is_some_and(|byte| is_word(*byte));
            let name = word_at(&self.code[at + keyword.len()..]);
            let body = self.code[at..].find(['{', ';']).map(|offset| at + offset);
            let Some(open) = body.filter(|open| self.code.as_bytes()[*open] == b'{') else { continue };
            if is_word_before || name.is_empty() {
                continue;
            }
            let (first, last) = (self.line_of(at), self.line_of(closing(&self.code, open)));
            found.push((first, name, last - first + 1));
        }
        found
    }

    /// Whether the attributes right above `line` say why the function there is long.
    pub(crate) fn expects_many_lines(&self, line: usize) -> bool {
        let above: Vec<&str> = self.text.lines().take(line - 1).collect();
        let attributes = above.iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        attributes.into_iter().any(|line| line.contains("too_many_lines, reason"))
    }

    /// Where `name::` begins a path.
    fn paths_from(&self, name: &str) -> impl Iterator<Item = usize> {
        let wanted = format!("{name}::");
        let starts = self.code.match_indices(&wanted).filter(|(at, _)| {
            let before = &self.code[..*at];
            !before.ends_with("::") && !before.as_bytes().last().is_some_and(|byte| is_word(*byte))
        });
        starts.map(|(at, _)| at).collect::<Vec<_>>().into_iter()
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// The first segment of the path that `rest` begins with, or of each path in its braces.
fn first_segments(rest: &str) -> Vec<String> {
    if !rest.starts_with('{') {
        return vec![word_at(rest)];
    }
    let inside = &rest[1..closing(rest, 0)];
    let (mut segments, mut depth) = (vec![String::new()], 0);
    for character in inside.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => segments.push(String::new()),
            _ => segments.last_mut().unwrap().push(character),
        }
    }
    segments.iter().map(|segment| word_at(segment.trim())).filter(|segment| !segment.is_empty()).collect()
}

/// The word that `text` begins with.
fn word_at(text: &str) -> String {
    text.bytes().take_while(|byte| is_word(*byte)).map(char::from).collect()
}

/// Where the brace that opens at `open` is closed.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Blanks comments and the insides of strings and characters; lines stay lines.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (keep, blank) = match first {
            '/' if rest.starts_with("//") => (0, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (0, block_comment(rest)),
            '"' => (1, string(&rest[1..])),
            'r' if !out.as_bytes().last().is_some_and(|byte| is_word(*byte) && *byte != b'b') => {
                raw_string(rest)
            }
            '\'' => (1, character(&rest[1..])),
            other => (other.len_utf8(), 0),
        };
        let keep = keep.max(usize::from(blank == 0));
        out.push_str(&rest[..keep]);
        let blanks = rest[keep..keep + blank].bytes();
        out.extend(blanks.map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        rest = &rest[keep + blank..];
    }
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let rest = &text.as_bytes()[at..];
        match rest {
            [] => return text.len(),
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

/// Bytes up to and with the quote that ends a string.
fn string(inside: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return at + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    inside.len()
}

/// What to keep and what to blank where a word begins with `r`.
fn raw_string(text: &str) -> (usize, usize) {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if text.as_bytes().get(1 + hashes) != Some(&b'"') {
        return (1, 0);
    }
    let open = hashes + 2;
    let end = format!("\"{}", "#".repeat(hashes));
    (open, text[open..].find(&end).map_or(text.len() - open, |at| at + end.len()))
}

/// Bytes up to and with the quote that ends a character; 0 for a lifetime.
fn character(inside: &str) -> usize {
    let mut characters = inside.char_indices();
    match characters.next() {
        Some((_, '\\')) => inside.get(2..).and_then(|rest| rest.find('\'')).map_or(0, |at| at + 3),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            Some(_) | None => 0,
        },
        None => 0,
    }
}
