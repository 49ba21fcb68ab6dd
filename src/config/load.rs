//! The road from a file, a text or a command line to a [`Config`].

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use toml::de::DeTable;

use crate::protocol::policy::Policy;

use super::doubled::{Doubled, doubled};
use super::place::Places;
use super::problem::{ConfigProblems, Problem, Unfit, Wrong, quoted};
use super::section::Findings;
use super::{
    Admin, Config, Log, PathCase, Route, Server, Store, StoreUrl, Traces, Upstream, address, defaults,
    resolve,
};

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Loads a file, with the variables of this process's environment.
///
/// Errors: every problem of the file at once.
pub fn load(path: &Path) -> Result<Config, ConfigProblems> {
    let file_name = path.display().to_string();
    let unreadable = |source| {
        let expected = "a configuration in TOML".to_owned();
        let wrong = Wrong::Unreadable { file: "the file".to_owned(), expected, source };
        ConfigProblems::new(Some(&file_name), vec![Problem { place: None, key: String::new(), wrong }])
    };
    let bytes = bytes_of(path, FILE_BYTES_MAX).map_err(unreadable)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&file_name, text, &|name| std::env::var(name).ok()),
        Err(error) => {
            let place = Some(Places::of(&bytes).at(error.valid_up_to()));
            let wrong = Wrong::Syntax("found bytes that are not UTF-8, expected text".to_owned());
            Err(ConfigProblems::new(Some(&file_name), vec![Problem { place, key: String::new(), wrong }]))
        }
    }
}

/// Reads a whole file that must not be larger than `max`.
pub(super) fn bytes_of(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > max) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

/// Reads the text of a file. Touches nothing outside but the files that its keys name.
///
/// Errors: every problem of the text at once; where it is not TOML, only that.
pub fn parse(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigProblems> {
    // A byte order mark is no part of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut find = Findings { places: Places::of(text.as_bytes()), env, problems: Vec::new() };
    // A key that stands twice leaves the rest of the tree sound. Behind any other error the tree is a
    // guess, and its problems would be too.
    let (doubles, others): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|error| error.message() == "duplicate key");
    let is_sound = others.is_empty();
    let spans: Vec<_> = doubles.iter().map(|error| error.span().unwrap_or_default()).collect();
    for (span, Doubled { key, first }) in spans.iter().zip(doubled(text, &spans, is_sound)) {
        find.push(find.places.at(span.start), key, Wrong::Doubled { first });
    }
    for error in others {
        // Never the error's own Display: it prints the line, which may hold a secret.
        find.push(find.places.start_of(error.span()), "", Wrong::Syntax(malformed(error.message())));
    }
    let config = if is_sound { resolve::config(&mut find, document.get_ref()) } else { None };
    match config {
        Some(config) if find.problems.is_empty() => Ok(config),
        _ => Err(ConfigProblems::new(Some(file_name), find.problems)),
    }
}

/// What is not TOML, by the parser's word for it, and what would do.
fn malformed(word: &str) -> String {
    const WANTED: &str =
        "a table such as [server], or a key and its value such as listen = \"127.0.0.1:8080\"";
    if word.starts_with("invalid boolean") {
        // The parser goes by the first letter, so every word without quotes that begins like one gets here.
        return "not valid TOML: found a word without quotes, expected a string in quotes, true or false"
            .to_owned();
    }
    if let Some(word) = word.strip_suffix(", expected nothing") {
        return format!("not valid TOML: {word}, expected it to be left out");
    }
    if word.contains(", expected ") {
        format!("not valid TOML: {word}")
    } else {
        format!("not valid TOML: {word}; expected {WANTED}")
    }
}

/// The store at an address given on the command line by `argument`, where `${NAME}` is taken from this process's
/// environment; all else is as where nothing is configured.
///
/// Errors: hold nothing of the address.
pub fn store_at(argument: &str, address: &str) -> Result<Store, ConfigProblems> {
    let env = |name: &str| std::env::var(name).ok();
    let find = Findings { places: Places::of(b""), env: &env, problems: Vec::new() };
    let url = find.expand(address).and_then(|address| {
        address::store(&address).map_err(|unfit| unfit.found("an address (not shown)".to_owned()))
    });
    url.map(|url| Store { url, ..Store::default() }).map_err(|wrong| {
        ConfigProblems::new(None, vec![Problem { place: None, key: argument.to_owned(), wrong }])
    })
}

/// The configuration of a gateway that is started without a file: `POST` and `PATCH` on every path, key
/// optional, one upstream that also takes everything else.
///
/// Errors: every problem of the arguments at once, by the names they have on the command line.
pub fn for_upstream(
    upstream: &str,
    listen: Option<&str>,
    store: Option<&str>,
) -> Result<Config, ConfigProblems> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, found: String, unfit: Unfit| {
        problems.push(Problem { place: None, key: key.to_owned(), wrong: unfit.found(found) });
    };
    let url = address::upstream(upstream).map_err(|unfit| refuse("--upstream", quoted(upstream), unfit)).ok();
    let listen = listen.map_or(Some(Server::default().listen), |text| {
        address::listen(text).map_err(|unfit| refuse("--listen", quoted(text), unfit)).ok()
    });
    let store: Option<StoreUrl> = store.map_or(Some(Store::default().url), |text| {
        let hidden = "an address (not shown)".to_owned();
        address::store(text).map_err(|unfit| refuse("--store", hidden, unfit)).ok()
    });
    let (Some(url), Some(listen), Some(store)) = (url, listen, store) else {
        return Err(ConfigProblems::new(None, problems));
    };
    Ok(Config {
        server: Server { listen, ..Server::default() },
        admin: Admin::default(),
        store: Store { url: store, ..Store::default() },
        upstreams: vec![Upstream::at(defaults::DEFAULT_UPSTREAM, url)],
        default_upstream: Some(0),
        routes: vec![Route {
            path: "/{*rest}".to_owned(),
            host: None,
            upstream: 0,
            path_case: PathCase::Sensitive,
            policy: Policy { methods: vec!["POST".to_owned(), "PATCH".to_owned()], ..Policy::default() },
        }],
        log: Log::default(),
        traces: Traces::default(),
    })
}
