//! `onceway schema`: the JSON Schema of the configuration file, for editors and for programs that write such files.

use crate::config;

pub(super) const HELP: &str = "\
Example:
  onceway schema > onceway.schema.json

An editor that knows TOML finds it by the first line of a file: #:schema ./onceway.schema.json";

/// The schema, as a text of several lines.
pub fn text() -> String {
    config::schema::text()
}
