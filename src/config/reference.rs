//! Every key of a file as a page for people, in Markdown, made from the table of keys.

use std::fmt::Write as _;

use super::keys::{Known, ROOT, TABLES};
use super::shape::{Key, Shape};

const OPENING: &str = "\
# Configuration, key by key

<!-- Made from the table of keys in src/config/keys.rs, which the reader itself goes by. A test says how to make it anew. -->

The file is TOML. `onceway check --config FILE` tells every problem of it at once, each with its line and column, shows
what it protects and warns of risky choices. `onceway schema` prints its JSON Schema, which is also
`config/onceway.schema.json`; an editor that knows TOML completes and checks by it, if the file's first line is
`#:schema ./onceway.schema.json`. `config/onceway.toml` is an example that names every key.

* Durations are `\"250ms\"`, `\"30s\"`, `\"24h\"`, `\"7d\"` or several of these together, `\"1h30m\"`.
* Sizes are `\"512\"` (bytes), `\"64KiB\"`, `\"1MiB\"`; `\"2MB\"` is two million bytes.
* `${NAME}` in a string is taken from the environment of the process; `$${` is a plain `${`.
* Unknown keys are refused, so that a slip does not leave a path unprotected.
* Only the `url` of one upstream is needed, and the `path` of each route.
";

/// The page.
pub fn markdown() -> String {
    let mut page = OPENING.to_owned();
    for (name, known) in TABLES.iter().filter(|(name, _)| !name.is_empty()) {
        // Writing to a String does not fail.
        let _ok = write!(page, "\n## {}\n\n{}\n\n", heading(name), about(name));
        page.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        for key in own(name, known) {
            page.push_str(&row(key));
        }
    }
    page
}

fn heading(table: &str) -> String {
    match table {
        "upstreams.default" => "`[upstreams.NAME]`".to_owned(),
        "routes" => "`[[routes]]`".to_owned(),
        other => format!("`[{other}]`"),
    }
}

/// A sentence or two on a table.
fn about(table: &str) -> String {
    let of_root = |name: &str| ROOT.iter().find(|key| key.name == name).map_or("", |key| key.meaning);
    match table {
        "upstreams.default" => format!(
            "{} A name has up to 64 letters, digits, `-` and `_`. `default` also takes whatever no route names, \
             unprotected; without it that is answered 404.",
            of_root("upstreams")
        ),
        "policy" => format!("{} Each of these keys may stand on a route, too.", of_root("policy")),
        "routes" => format!("{} Beside these, every key of `[policy]`.", of_root("routes")),
        "policy.previous" => {
            "How keys and fingerprints were made before; `previous = { … }` in `[policy]` or on a route. \
                              [operation.md](operation.md) tells when it is needed."
                .to_owned()
        }
        other => of_root(other).to_owned(),
    }
}

/// The keys that are explained with a table: those of `[policy]` once and not again with the routes.
fn own(name: &str, known: &Known) -> impl Iterator<Item = &'static Key> {
    let [own, shared] = *known;
    own.iter().chain(if name == "routes" { [].iter() } else { shared.iter() })
}

fn row(key: &Key) -> String {
    let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
    let cells = [format!("`{}`", key.name), value(&key.shape), default, key.meaning.to_owned()];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn value(shape: &Shape) -> String {
    match shape {
        Shape::Word(words) => {
            let words: Vec<_> = words().into_iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(", ")
        }
        Shape::Table
        | Shape::Tables
        | Shape::Text(_)
        | Shape::SecretText(_)
        | Shape::Texts(_)
        | Shape::Duration(..)
        | Shape::Size(..)
        | Shape::Count(..)
        | Shape::Flag
        | Shape::Status(_)
        | Shape::ErrorStatuses => shape.bounds(),
    }
}
